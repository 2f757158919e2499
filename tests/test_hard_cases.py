"""Data as people bring them: the fit is right, or says what is wrong. It is never wrong and silent."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
import pytest
import xarray as xr
from numpyro.distributions import constraints

import sciad as sd

TIMES = np.linspace(0.0, 6.0, 30)
TRUE = {"rate": 0.5, "initial.y": 8.0}
EXACT = 8.0 * np.exp(-0.5 * TIMES)


class Leaving(eqx.Module):
    rate: sd.Param = sd.param(1.0, constraint=constraints.positive)

    def __call__(self, t, y):  # noqa: ARG002
        return -self.rate * y


class Towards(eqx.Module):
    rate: sd.Param = sd.param(1.0, constraint=constraints.positive)
    end: sd.Param = sd.param(2.0)

    def __call__(self, t, y):  # noqa: ARG002
        return self.rate * (self.end - y)


class Case(NamedTuple):
    """What is brought, the words that the warnings must hold, and whether the truth must be found."""

    values: Callable[[np.random.Generator], np.ndarray]
    options: dict[str, Any]
    words: tuple[str, ...] = ()
    model: Any = Leaving()
    right: bool = True


def scattered(factor=1.0):
    return lambda rng: factor * EXACT * np.exp(0.03 * rng.standard_normal(30))


def with_outliers(rng):
    values = EXACT + 0.1 * rng.standard_normal(30)
    values[[4, 13, 22]] += [6.0, 9.0, 12.0]
    return values


def starting(rate):
    return Leaving(sd.param(rate, constraint=constraints.positive))


UNITS = "Are the data, the initial values and the parameters in the same units?"
START = {"initial": {"y": 8.0}}
FAST = {
    "a rate a million times too large": Case(scattered(), {}, model=starting(0.5e6)),
    "a rate a million times too small": Case(scattered(), {}, model=starting(0.5e-6)),
    "data that never change": Case(
        lambda _: np.full(30, 5.0),
        {"noise": sd.Normal(0.1)},
        ("All 30 observations of y are 5", " determine rate"),
        model=Towards(),
        right=False,
    ),
}
SLOW = {
    "outliers under normal noise": Case(
        with_outliers, {"noise": sd.Normal()}, ("look for outliers, or take another noise model",), right=False
    ),
    "outliers under Student's t": Case(with_outliers, {"noise": sd.StudentT()}, ("look for outliers",)),
    "data a millionth of the initial value": Case(scattered(1e-6), START, (UNITS,), right=False),
    "outliers under a known error": Case(
        with_outliers, {"noise": sd.Normal(0.1)}, ("times as large as the noise model says",), right=False
    ),
    "data a million times the initial value": Case(scattered(1e6), START, (UNITS,), right=False),
    "the same under normal noise": Case(scattered(1e6), START | {"noise": sd.Normal()}, (UNITS,), right=False),
    "no counts at all": Case(
        lambda _: np.zeros(30), {"noise": sd.NegativeBinomial()}, ("All 30 observations of y are 0",), right=False
    ),
    "noise about a constant": Case(
        lambda rng: 5.0 + 0.1 * rng.standard_normal(30),
        {"noise": sd.Normal()},
        ("Another optimum fits nearly as well",),
        model=Towards(),
        right=False,
    ),
    "oscillations under an equation that has none": Case(
        lambda rng: 3.0 + 2.0 * np.sin(2.0 * TIMES) + 0.05 * rng.standard_normal(30),
        {"noise": sd.Normal()},
        ("keep their sign for long", "do not determine rate and end"),
        model=Towards(),
        right=False,
    ),
    "two observations of thirty": Case(
        lambda rng: np.where(np.isin(np.arange(30), [3, 20]), scattered()(rng), np.nan),
        {"noise": sd.LogNormal(0.03)},
        ("2 observations for 2 parameters",),
    ),
}
CASES = [
    *(pytest.param(case, id=name) for name, case in FAST.items()),
    *(pytest.param(case, id=name, marks=pytest.mark.slow) for name, case in SLOW.items()),
]


@pytest.mark.parametrize("case", CASES)
def test_a_fit_is_right_or_says_what_is_wrong(case):
    data = xr.Dataset({"y": ("t", case.values(np.random.default_rng(3)))}, coords={"t": TIMES})
    fit = sd.fit(sd.ODEProblem(data, **case.options), case.model, progress=False)
    for words in case.words:
        assert any(words in warning for warning in fit.warnings), fit.warnings
    assert np.all(np.isfinite(fit.values))
    if case.right:
        assert fit.diagnostics["converged"]
        assert all(any(words in warning for words in case.words) for warning in fit.warnings), fit.warnings
        for name, true in TRUE.items():
            if name in fit.names:
                i = fit.names.index(name)
                assert abs(fit.values[i] - true) < 4 * fit.standard_errors[i] < 0.5 * true


PLAIN = sd.LeastSquares(starts=0, paths=0)


@pytest.mark.parametrize(
    ("values", "noise"),
    [
        (np.where(np.arange(30) == 9, 150.0, EXACT + 0.01 * np.cos(7.0 * TIMES)), sd.StudentT()),
        (np.isin(np.arange(30), [2, 5]).astype(float), sd.NegativeBinomial()),
        (np.array([1.0, *np.full(29, np.nan)]), sd.Normal(0.1)),
    ],
    ids=["one outlier", "rare counts", "a single observation"],
)
def test_units_and_constancy_are_no_false_alarms(values, noise):
    data = xr.Dataset({"y": ("t", values)}, coords={"t": TIMES})
    fit = sd.fit(sd.ODEProblem(data, noise=noise), starting(0.3), solver=PLAIN, progress=False)
    assert not any("same units" in warning or "observations of y are" in warning for warning in fit.warnings)


def test_a_field_that_was_never_observed_does_no_harm():
    data = xr.Dataset({"y": ("t", EXACT), "z": ("t", np.full(30, np.nan))}, coords={"t": TIMES})
    problem = sd.ODEProblem(data, noise=sd.Normal(0.1), initial={"y": 8.0, "z": 1.0})
    fit = sd.fit(problem, starting(0.3), solver=PLAIN, progress=False)
    assert np.isfinite(fit.loss)


class Logistic(eqx.Module):
    rate: sd.Param = sd.param(1.0, constraint=constraints.positive)
    capacity: sd.Param = sd.param(5.0, constraint=constraints.positive)

    def __call__(self, t, y):  # noqa: ARG002
        return self.rate * y * (1 - y / self.capacity)


def growing(factor):
    curve = 10.0 / (1 + 9.0 * np.exp(-TIMES))
    return lambda rng: factor * curve * np.exp(0.03 * rng.standard_normal(30))


@pytest.mark.parametrize(
    ("values", "model", "start", "noise"),
    [
        (scattered(1e-6), Leaving(), 8.0, sd.LogNormal()),
        (scattered(1e6), Leaving(), 8.0, sd.Normal()),
        pytest.param(scattered(1e6), Leaving(), 8.0, sd.Normal(0.1), marks=pytest.mark.slow),
        pytest.param(growing(1e6), Logistic(), 1.0, sd.LogNormal(), marks=pytest.mark.slow),
        pytest.param(growing(1e-6), Logistic(), 1.0, sd.Normal(), marks=pytest.mark.slow),
    ],
    ids=["decay, small", "decay, large", "decay, large, known noise", "logistic, large", "logistic, small"],
)
def test_other_units_are_told_whatever_the_noise(values, model, start, noise):
    data = xr.Dataset({"y": ("t", values(np.random.default_rng(3)))}, coords={"t": TIMES})
    fit = sd.fit(sd.ODEProblem(data, initial={"y": start}, noise=noise), model, solver=PLAIN, progress=False)
    first = next(warning for warning in fit.warnings if warning != fit.message)
    assert UNITS in first, fit.warnings


def test_noise_that_explains_everything_is_told():
    data = xr.Dataset({"y": ("t", 100.0 * np.cos(40.0 * TIMES**2))}, coords={"t": TIMES})
    fit = sd.fit(sd.ODEProblem(data, noise=sd.Normal()), starting(0.3), solver=PLAIN, progress=False)
    assert any("explains nothing of them" in warning for warning in fit.warnings), fit.warnings


def test_outliers_are_named_and_students_law_is_not_advised_twice():
    data = xr.Dataset({"y": ("t", with_outliers(np.random.default_rng(3)))}, coords={"t": TIMES})
    normal, student = (
        sd.fit(sd.ODEProblem(data, noise=noise), starting(0.5), solver=PLAIN, progress=False).warnings
        for noise in (sd.Normal(), sd.StudentT())
    )
    (told,) = [warning for warning in student if "outliers" in warning]
    assert "at t 4.55" in told
    assert "StudentT" not in told
    assert any("sd.StudentT()" in warning for warning in normal)

# ruff: noqa: ARG002  (a right-hand side takes t and y, whatever it uses)
"""Combinations of parameters that data determine: against closed forms, and where it is known that they do not."""

import dataclasses

import equinox as eqx
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpyro.distributions import constraints
from scipy.special import lambertw

import sciad as sd
from sciad._identifiability import _advice, _Coordinate, _directions, _known_to, _named

RNG = np.random.default_rng(3)
T = np.linspace(0.0, 4.0, 9)
ONCE = sd.LeastSquares(starts=0, paths=0)
LOOSE = 1e-6  # what the default tolerance leaves of a singular value


def positive(value):
    return sd.param(value, constraint=constraints.positive)


def fitted(seen, model, *, t=T, noise, **initial):
    data = xr.Dataset({"y": ("t", seen)}, coords={"t": t})
    initial = initial or {"y": positive(float(seen[0]))}
    problem = sd.ODEProblem(data, noise=noise, initial=initial, solver=sd.ODE(rtol=1e-9, atol=1e-9))
    return sd.fit(problem, model, solver=ONCE)


class Decay(eqx.Module):
    rate: sd.Param = sd.param(0.5, constraint=constraints.positive)

    def __call__(self, t, y):
        return -self.rate * y


def decayed(*, time=1.0, mass=1.0):
    scatter = np.random.default_rng(1).standard_normal(T.size)
    y = mass * 5.0 * np.exp(-0.7 * T + 0.1 * scatter)
    return fitted(y, Decay(positive(0.5 / time)), t=time * T, noise=sd.LogNormal(0.1))


@pytest.fixture(scope="module")
def decay():
    return decayed()


def test_a_log_linear_curve_has_its_closed_form(decay):
    found = decay.identifiability()
    rate = decay.values[list(decay.names).index("rate")]
    slopes = {"initial.y": np.ones_like(T), "rate": -rate * T}  # of log y, by log y0 and by log rate
    exact = np.stack([slopes[name] for name in found.directions], axis=1) / 0.1
    left, values, right = np.linalg.svd(exact, full_matrices=False)
    np.testing.assert_allclose(found.table["singular_value"], values, rtol=1e-6)
    np.testing.assert_allclose(np.abs(found.directions), np.abs(right), rtol=1e-6)
    np.testing.assert_allclose(found.information["y"], np.square(left.T), atol=1e-7)
    lead = np.abs(right).max(axis=1)  # the named combination has the exponent one at its first parameter
    np.testing.assert_allclose(found.table["standard_error"], 1 / values / lead, rtol=1e-6)
    assert list(found.table["status"]) == ["known", "known"]
    assert found.advice == []
    assert found.table.loc[1, "seen"].startswith("y at t=4 (")


@pytest.mark.slow
def test_no_unit_matters(decay):
    here, there = decay.identifiability(), decayed(time=60.0, mass=1e-3).identifiability()
    assert list(here.table["combination"]) == list(there.table["combination"])
    np.testing.assert_allclose(there.table["standard_error"], here.table["standard_error"], rtol=1e-5)
    np.testing.assert_allclose(there.directions, here.directions, atol=1e-6)


def test_parameters_that_act_together_alone_are_found_each_with_its_partner():
    class Both(eqx.Module):  # a·b and c + d are all that shows
        a: sd.Param = sd.param(1.0, constraint=constraints.positive)
        b: sd.Param = sd.param(0.6, constraint=constraints.positive)
        c: sd.Param = sd.param(1.0)
        d: sd.Param = sd.param(-3.0)

        def __call__(self, t, y):
            return -self.a * self.b * y + self.c + self.d

    y = -4.0 + 9.0 * np.exp(-0.5 * T) + 0.05 * RNG.standard_normal(T.size)
    fit = fitted(y, Both(), noise=sd.Normal(), y=5.0)
    found = fit.identifiability()
    assert list(found.table["status"]) == ["known", "known", "structural", "structural"]
    assert set(found.table["combination"][2:]) == {"a / b", "c - d"}
    assert set(found.advice) == {
        "a and b act through a · b alone: fix one of them, or make that one parameter.",
        "c and d act through c + d alone: fix one of them, or make that one parameter.",
    }
    assert np.all(np.isinf(found.table["standard_error"][2:]))
    assert np.all(found.table["singular_value"][2:] < LOOSE)
    assert np.all(np.isnan(found.information["y"][2:]))
    np.testing.assert_allclose(found.information["y"][:2].sum("t"), 1.0, rtol=1e-6)
    assert repr(found) == "<Identifiability: 4 combinations, 2 known, 2 structural>"
    assert "not at all" in str(found)
    axes = found.plot()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c", "d"]


def test_far_below_saturation_only_the_ratio_is_known():
    class Saturating(eqx.Module):
        most: sd.Param = sd.param(50.0, constraint=constraints.positive)
        half: sd.Param = sd.param(150.0, constraint=constraints.positive)

        def __call__(self, t, y):
            return -self.most * y / (self.half + y)

    y = 200.0 * lambertw(5.0 / 200.0 * np.exp((5.0 - 60.0 * T) / 200.0)).real  # the solution from 5 at 60 y / (200 + y)
    fit = fitted(y, Saturating(), noise=sd.Normal(0.1), y=5.0)
    np.testing.assert_allclose(fit.values, [60.0, 200.0], rtol=1e-3)
    found = fit.identifiability()
    assert list(found.table["combination"]) == ["most / half", "most · half"]
    assert list(found.table["status"]) == ["known", "weak"]
    assert found.table.loc[1, "standard_error"] < 0.05
    assert found.table.loc[2, "standard_error"] > np.log(10)
    assert found.advice[0].startswith("The data hardly show most · half (known to a factor of")


# --- the parts -------------------------------------------------------------------------------------------------------


def coordinates(**sizes):
    """A positive parameter where no size is given, else a number that may be negative, and is far from zero."""
    return [_Coordinate(n, 1.0 if s is None else s, relative=True, positive=s is None) for n, s in sizes.items()]


@pytest.mark.parametrize(
    ("direction", "sizes", "words"),
    [
        ([0.71, -0.70, 0.02], {"ka": None, "ke": None, "v": None}, "ka / ke"),
        ([0.7, 0.7, -0.35], {"a": None, "b": None, "c": None}, "a · b / c^0.5"),
        ([0.1, 0.99], {"a": None, "b": None}, "b · a^0.1"),
        ([1.0, -2.0], {"a": 1.0, "b": 2.0}, "a - b"),
        ([1.0, 1.0], {"a": 1.0, "b": 0.5}, "2 b + a"),
        ([0.7, 0.7], {"k": None, "y": 3.0}, "k · y"),
        ([0.5, 0.5, 0.5, 0.5, 0.5], dict.fromkeys("abcde"), "a · b · c · d · …"),
    ],
)
def test_combinations_are_named_in_plain_words(direction, sizes, words):
    assert _named(np.array(direction), coordinates(**sizes))[0] == words


def test_a_positive_number_beside_one_near_zero_is_named_by_its_logarithm():
    beside = [*coordinates(k=None), _Coordinate("b", 0.1, relative=False, positive=False)]
    assert _named(np.array([1.0, 0.5]), beside)[0] == "5 b + log k"


def test_precision_is_told_as_a_factor_or_a_range():
    told = [_known_to(e, product=True) for e in (0.01, 0.5, 5.0, np.inf)]
    assert told == ["± 1 %", "a factor of 1.65", "a factor of 1.5e+02", "not at all"]
    assert _known_to(0.02, product=False) == "± 0.02"


def test_directions_of_a_matrix_with_a_known_null_space():
    columns = RNG.standard_normal((12, 3))
    jacobian = np.stack([columns[:, 0], columns[:, 1], 2 * columns[:, 0], columns[:, 2], 0 * columns[:, 0]], axis=1)
    directions, values, lost = _directions(jacobian, 1e-8)
    assert lost == 2
    expected = {(0.0, 0.0, 0.0, 0.0, 1.0), (0.8944, 0.0, -0.4472, 0.0, 0.0)}
    assert {tuple((np.round(row, 4) + 0.0).tolist()) for row in directions[3:]} == expected
    np.testing.assert_allclose(directions[:3] @ directions[:3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.sum(values**2), np.sum(jacobian**2), rtol=1e-12)
    np.testing.assert_allclose(values[3:], 0.0, atol=1e-12)


def test_a_parameter_that_does_not_show_is_named():
    (told,) = _advice(*_reported([[1.0, 0.0], [0.0, 1.0]], ["known", "structural"], ["a", "b"]))
    assert told == "b does not show in what was observed: fix it, or observe what it acts on."


def test_three_that_change_together_are_named():
    rows = [[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]
    structural, weak, single = _advice(*_reported(rows, ["structural", "weak", "weak"], ["a", "b", "c"]))
    assert structural.startswith("a, b and c can change together without any change of what was observed: fix one of")
    assert weak.startswith("The data hardly show a / b (known to a factor of 9): fix or measure a, say, or add data")
    assert single == "The data hardly show c (known to a factor of 9): fix it, measure it, or add data."


def _reported(directions, status, names):
    chosen = coordinates(**dict.fromkeys(names))
    words = [_named(np.array(row), chosen)[0] for row in directions]
    table = pd.DataFrame({"combination": words, "known_to": "a factor of 9", "status": status})
    return table, np.array(directions), chosen


def test_fewer_observations_than_parameters():
    directions, values, lost = _directions(RNG.standard_normal((2, 4)), 1e-8)
    assert lost == 2
    assert directions.shape == (4, 4)
    assert np.all(values[:2] > 0.1)


def test_without_a_fit_there_is_nothing_to_say(decay):
    lost = dataclasses.replace(decay, loss=np.inf, warnings=["Nothing."], diagnostics={"converged": False})
    with pytest.raises(sd.InputError, match=r"There is nothing to identify: Nothing\."):
        lost.identifiability()

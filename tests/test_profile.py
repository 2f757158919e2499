# ruff: noqa: ARG002, ARG005  (a right-hand side takes t and y, whatever it uses)
"""Profile likelihoods against intervals known in closed form, and where the data leave a side open."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from numpyro.distributions import constraints
from scipy import stats as st

import sciad as sd

RNG = np.random.default_rng(5)
T = np.linspace(0.0, 4.0, 21)


class Decay(eqx.Module):
    rate: sd.Param = sd.param(0.7, constraint=constraints.positive)

    def __call__(self, t, y):
        return -self.rate * y


def decay(noise, **initial):
    y = 5.0 * np.exp(-0.7 * T) + 0.2 * RNG.standard_normal(T.size)
    data = xr.Dataset({"y": ("t", y)}, coords={"t": T})
    return sd.ODEProblem(data, noise=noise, initial={"y": sd.param(5.0)} | initial, solver=sd.ODE(rtol=1e-9, atol=1e-9))


@pytest.fixture(scope="module")
def known():
    problem = decay(sd.Normal(0.2))
    return problem, sd.profile(sd.fit(problem, Decay(), starts=0))


def test_a_profile_is_the_least_deviance_over_the_others(known):
    problem, found = known
    y = problem.observations.values[0, :, 0]

    def deviance(rate):  # the best start for a rate is linear regression's
        shape = np.exp(-rate * T)
        return np.sum((y - shape * (shape @ y) / (shape @ shape)) ** 2) / 0.2**2

    curve = found.curves["rate"]
    best = min(map(deviance, np.linspace(0.6, 0.8, 20001)))
    expected = [deviance(rate) - best for rate in curve["value"]]
    np.testing.assert_allclose(curve["deviance"], expected, atol=1e-4)
    assert np.all(np.diff(curve["value"]) > 0)
    for side in ("lower", "upper"):
        limit = deviance(found.intervals.loc["rate", side]) - best
        np.testing.assert_allclose(limit, st.chi2.ppf(0.95, 1), rtol=5e-3)


@pytest.mark.slow
def test_where_the_likelihood_is_normal_the_interval_is_that_of_standard_errors():
    y = RNG.normal(3.0, 0.5, 12)
    data = xr.Dataset({"y": ("t", y)}, coords={"t": np.arange(12.0)})
    problem = sd.ODEProblem(data, noise=sd.Normal(0.5), initial={"y": sd.param(1.0)})
    found = sd.profile(sd.fit(problem, lambda t, y: 0.0 * y, starts=0), level=0.9)
    half = st.norm.ppf(0.95) * 0.5 / np.sqrt(12)
    expected = [[y.mean(), y.mean() - half, y.mean() + half]]
    np.testing.assert_allclose(found.intervals, expected, rtol=1e-4)


@pytest.mark.slow
def test_an_estimated_noise_follows_too():
    y = RNG.normal(3.0, 0.5, 12)
    data = xr.Dataset({"y": ("t", y)}, coords={"t": np.arange(12.0)})
    problem = sd.ODEProblem(data, noise=sd.Normal(), initial={"y": sd.param(1.0)})
    found = sd.profile(sd.fit(problem, lambda t, y: 0.0 * y, starts=0))
    assert list(found.curves) == ["initial.y"]
    curve = found.curves["initial.y"]
    deviance = 12 * np.log1p((curve["value"] - y.mean()) ** 2 / y.var())  # n log of the ratio of the variances
    np.testing.assert_allclose(curve["deviance"], deviance, atol=1e-5)
    (scale,) = (column for column in curve if column.startswith("noise."))
    np.testing.assert_allclose(curve[scale], np.sqrt(y.var() + (curve["value"] - y.mean()) ** 2), rtol=1e-5)


def test_a_side_that_the_data_leave_open_is_said():
    class Saturating(eqx.Module):  # far below saturation only the ratio of both shows
        most: sd.Param = sd.param(300.0, constraint=constraints.positive)
        half: sd.Param = sd.param(1000.0, constraint=constraints.positive)

        def __call__(self, t, y):
            return -self.most * y / (self.half + y)

    y = 5.0 * np.exp(-0.3 * T) + 0.1 * np.random.default_rng(0).standard_normal(T.size)
    data = xr.Dataset({"y": ("t", y)}, coords={"t": T})
    fit = sd.fit(sd.ODEProblem(data, noise=sd.Normal(0.1), initial={"y": 5.0}), Saturating(), starts=0)
    found = sd.profile(fit, ["half"])
    assert found.intervals.loc["half", "upper"] == np.inf
    assert np.isfinite(found.intervals.loc["half", "lower"])
    assert any("leave half open above: fix what it is traded against" in text for text in found.warnings)


def test_a_profile_tells_itself(known):
    assert repr(known[1]) == "<Profile: 95% intervals of rate, initial.y>"
    assert str(known[1]).splitlines()[0].split() == ["value", "lower", "upper"]


def test_profiles_are_drawn(known):
    axes = known[1].plot()
    shown = [axis for axis in axes.flat if axis.axison]
    assert [axis.get_xlabel() for axis in shown] == ["initial.y", "rate"] or len(shown) == 2


def test_what_cannot_be_profiled_is_refused(known):
    problem, _ = known
    fit = sd.fit(problem, Decay(), starts=0)
    with pytest.raises(sd.InputError, match="`names` names 'rates', which is no parameter that can be moved alone"):
        sd.profile(fit, ["rates"])
    with pytest.raises(sd.OptionError, match=r"profile\(level=2.0\): expected a probability"):
        sd.profile(fit, level=2.0)
    broken = sd.fit(problem, lambda t, y: jnp.where(t > 1, jnp.nan, -y), starts=0)
    with pytest.raises(sd.InputError, match="There is nothing to profile: The fit did not converge"):
        sd.profile(broken)

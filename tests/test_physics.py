"""The library of equations: conserved quantities, steady states and solutions known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.linalg import expm

import sciad as sd
from sciad.models import physics

STATES = {
    "HIV": [3000.0, 5e5, 1e3],
    "SEIR": [50.0, 10.0, 40.0, 5.0],
    "SIR": [50.0, 40.0, 5.0],
    "STAT5": [143.9, 63.7, 3.0, 2.0, 1.0, 0.5, 0.2, 0.1],
    "FitzHughNagumo": [0.1, 0.5],
    "Goodwin": [1.0, 2.0, 0.5],
    "Lorenz": [1.0, 2.0, 3.0],
    "LotkaVolterra": [30.0, 4.0],
    "MichaelisMenten": [2.0, 1.0, 0.5, 0.1],
    "OneCompartment": [100.0, 20.0],
    "Robertson": [0.9, 1e-5, 0.1],
    "TwoCompartment": [100.0, 20.0, 5.0],
    "VanDerPol": [1.0, 0.5],
}
# Weights under which the slopes add up to nothing.
CONSERVED = {
    "SEIR": [[1, 1, 1, 1]],
    "SIR": [[1, 1, 1]],
    "MichaelisMenten": [[1, 0, 1, 1], [0, 1, 1, 0]],
    "Robertson": [[1, 1, 1]],
    "STAT5": [[1.4, 0, 1.4, 2.8, 0, 0.9, 0.45, 0], [0, 1.4, 1.4, 0, 2.8, 0, 0.45, 0.9]],
}


def plain(name, **values):
    return sd.unwrap(getattr(physics, name)(**{key: sd.param(value) for key, value in values.items()}))


def solution(model, y0, ts, **options):
    ode = sd.ODE(rtol=1e-10, atol=1e-10, max_steps=None, **options)
    return jax.jit(lambda: ode(lambda t, y, _: model(t, y), jnp.array(y0), ts=ts, t0=0.0).ys)()


@pytest.mark.parametrize("name", [name for name in physics.__all__ if isinstance(getattr(physics, name), type)])
def test_every_equation_is_described_and_gives_finite_slopes_and_derivatives(name):
    cls = getattr(physics, name)
    assert "Source:" in cls.__doc__ or name == "LotkaVolterra"
    model, y = plain(name), jnp.array(STATES[name])
    slope = model(0.3, y)
    assert slope.shape == y.shape
    jacobian = jax.jacfwd(lambda y: model(0.3, y))(y)
    assert np.all(np.isfinite(slope))
    assert np.all(np.isfinite(jacobian))


@pytest.mark.parametrize("name", CONSERVED)
def test_what_is_conserved_is_conserved(name):
    slope = plain(name)(0.3, jnp.array(STATES[name]))
    for weights in CONSERVED[name]:
        terms = np.array(weights) * np.asarray(slope)
        assert abs(terms.sum()) <= 1e-12 * np.abs(terms).sum()


@pytest.mark.parametrize(("name", "observed"), [("OneCompartment", 1), ("TwoCompartment", 1), ("HIV", 2)])
def test_linear_equations_follow_the_matrix_exponential(name, observed):
    model, y0, ts = plain(name), jnp.array(STATES[name]), np.array([0.1, 1.0, 6.0])
    matrix = jax.jacfwd(lambda y: model(0.0, y))(y0)
    exact = jnp.stack([expm(t * matrix) @ y0 for t in ts])
    np.testing.assert_allclose(solution(model, y0, ts)[:, observed], exact[:, observed], rtol=1e-7)


def test_one_dose_by_mouth_is_batemans_curve():
    absorption, clearance, volume, t = 1.5, 4.0, 40.0, np.array([0.2, 1.0, 4.0, 20.0])
    rate = clearance / volume
    exact = 100.0 * absorption / (absorption - rate) * (np.exp(-rate * t) - np.exp(-absorption * t))
    model = plain("OneCompartment", absorption=absorption, clearance=clearance, volume=volume)
    np.testing.assert_allclose(solution(model, [100.0, 0.0], t)[:, 1], exact, rtol=1e-7)


def test_virus_under_treatment_follows_perelsons_formula():
    model, t = plain("HIV"), np.array([0.1, 1.0, 7.0])
    c, delta, v0 = 3.68, 0.5, 1e5
    infected = model.infection * model.cells * v0 / delta  # steady before treatment
    total = solution(model, [infected, v0, 0.0], t)[:, 1:].sum(axis=1)
    exact = v0 * np.exp(-c * t) + c * v0 / (c - delta) * (
        c / (c - delta) * (np.exp(-delta * t) - np.exp(-c * t)) - delta * t * np.exp(-c * t)
    )
    np.testing.assert_allclose(total, exact, rtol=1e-7)


def test_lorenz_contracts_volumes_at_a_constant_rate_and_rests_where_it_should():
    model = plain("Lorenz")
    trace = jnp.trace(jax.jacfwd(lambda y: model(0.0, y))(jnp.array([3.0, -2.0, 20.0])))
    np.testing.assert_allclose(trace, -(10.0 + 1 + 8 / 3), rtol=1e-14)
    x = np.sqrt(8 / 3 * 27.0)
    np.testing.assert_allclose(model(0.0, jnp.array([x, x, 27.0])), 0.0, atol=1e-12)


def test_van_der_pols_period_is_the_known_one():
    # 6.6632868593231 for mu = 1 (M. Urabe, 1960): two passages of x through zero upwards on the limit cycle.
    ts = np.linspace(0.0, 140.0, 140_001)
    x = np.asarray(solution(plain("VanDerPol"), [2.0, 0.0], ts))[:, 0]
    up = np.flatnonzero((x[:-1] < 0) & (x[1:] >= 0))
    crossings = ts[up] - x[up] * (ts[up + 1] - ts[up]) / (x[up + 1] - x[up])
    period = np.diff(crossings[-6:]).mean()
    np.testing.assert_allclose(period, 6.6632868593231, rtol=1e-6)


def test_goodwin_oscillates_for_steep_repression_and_rests_for_flat():
    ts = np.linspace(400.0, 800.0, 400)
    steep, flat = (np.asarray(solution(plain("Goodwin", n=n), [0.1, 0.2, 2.5], ts))[:, 2] for n in (10.0, 2.0))
    assert np.ptp(steep) > 0.05 * steep.mean()
    assert np.ptp(flat) < 1e-3 * flat.mean()

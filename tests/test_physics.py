import jax
import jax.numpy as jnp
import numpy as np

import sciad as sd
from sciad.models.physics import SIR, LotkaVolterra


def solve(model, y0, end):
    ts = np.linspace(0.0, end, 50)
    return jax.jit(lambda y0: sd.solvers.ODE(rtol=1e-9, atol=1e-9)(lambda t, y, _: model(t, y), y0, ts=ts).ys)(y0)


def test_predator_and_prey_keep_their_conserved_quantity():
    model = sd.unwrap(LotkaVolterra())
    u, v = solve(model, jnp.array([30.0, 4.0]), 20.0).T
    conserved = model.delta * u - model.gamma * jnp.log(u) + model.beta * v - model.alpha * jnp.log(v)
    np.testing.assert_allclose(conserved, conserved[0], rtol=1e-6)


def test_an_epidemic_keeps_its_population_and_ends_at_the_final_size():
    model = sd.unwrap(SIR(beta=sd.param(2.0), gamma=sd.param(1.0)))
    susceptible, infected, recovered = solve(model, jnp.array([999.0, 1.0, 0.0]), 80.0).T
    np.testing.assert_allclose(susceptible + infected + recovered, 1000.0, rtol=1e-9)
    assert infected[-1] < 1e-6
    # Kermack and McKendrick: log(S∞/S0) = -R0 (1 - S∞/N), since everybody else has recovered in the end
    np.testing.assert_allclose(jnp.log(susceptible[-1] / 999.0), -2.0 * (1 - susceptible[-1] / 1000.0), rtol=1e-6)


def test_models_take_parameters_as_they_are_and_have_priors_for_each():
    assert LotkaVolterra()(0.0, jnp.array([1.0, 1.0])).shape == (2,)
    for model in (LotkaVolterra(), SIR()):
        assert all(leaf.prior is not None for leaf in jax.tree.leaves(model, is_leaf=lambda x: isinstance(x, sd.Param)))

"""Networks against their formulas, and in a fit."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sciad as sd
from sciad._vector import vectorize
from sciad.models.networks import KAN, MLP, SIREN, Fourier, ModifiedMLP, PirateNet, RandomFeatures, Separable

ALL = [KAN, MLP, SIREN, Fourier, ModifiedMLP, PirateNet, RandomFeatures, Separable]
Z = np.array([0.3, -0.7])


def numbers(network):
    return sd.unwrap(network)(jnp.asarray(Z))


@pytest.mark.parametrize("kind", ALL)
def test_networks_map_vectors_to_vectors_and_differ_by_key(kind):
    one, same, other = (kind(2, 3, key=jax.random.key(k)) for k in (0, 0, 1))
    assert numbers(one).shape == (3,)
    assert jnp.array_equal(numbers(one), numbers(same))
    learnt = vectorize(one).vector
    assert learnt.size > 0
    assert kind is RandomFeatures or not np.allclose(numbers(one), numbers(other))


def test_a_sum_of_products():
    network = Separable(2, 1, rank=4, key=jax.random.key(0))
    first, second = (factor(jnp.asarray(Z[i : i + 1])) for i, factor in enumerate(network.factors))
    assert float(network(jnp.asarray(Z))[0]) == pytest.approx(float(jnp.sum(network.coefficients[0] * first * second)))


def test_chebyshev_polynomials_on_the_edges():
    network = KAN(1, 1, depth=0, degree=5, key=jax.random.key(0))
    network = eqx.tree_at(lambda n: n.coefficients, network, [jnp.zeros((1, 1, 6)).at[0, 0, 5].set(1.0)])
    x = np.linspace(-1, 1, 9)
    assert np.asarray(jax.vmap(network)(x[:, None]))[:, 0] == pytest.approx(np.cos(5 * np.arccos(x)))
    slope = jax.grad(lambda x: network(x[None])[0])(jnp.asarray(1.0))
    assert float(slope) == pytest.approx(25.0)  # where arccos has no derivative


def test_a_pirate_begins_linear_in_its_encoding():
    network = PirateNet(2, 1, width=10, key=jax.random.key(0))
    turn = network.matrix @ Z
    encoded = jnp.concatenate([jnp.cos(turn), jnp.sin(turn)])
    assert numbers(network) == pytest.approx(network.last(encoded))
    moved = eqx.tree_at(lambda n: n.alphas, network, jnp.ones(2))
    assert abs(float(numbers(moved)[0] - numbers(network)[0])) > 1e-3


def test_gates_that_agree_leave_only_the_encoding():
    network = ModifiedMLP(2, 1, key=jax.random.key(0))
    network = eqx.tree_at(lambda n: n.gates, network, (network.gates[0], network.gates[0]))
    assert numbers(network) == pytest.approx(network.last(jnp.tanh(network.gates[0](jnp.asarray(Z)))))


def test_sines_keep_their_spread_through_the_layers():
    network = SIREN(2, 1, width=400, depth=4, frequency=30.0, key=jax.random.key(0))
    h = jnp.sin(network.frequency * jax.vmap(network.first)(jax.random.uniform(jax.random.key(1), (500, 2)) * 2 - 1))
    for layer in network.hidden:
        before = jax.vmap(layer)(h)
        assert float(jnp.std(before)) == pytest.approx(1.0, rel=0.1)
        h = jnp.sin(before)


def test_waves_are_drawn_once_and_kept():
    network = Fourier(2, 1, features=5, scale=jnp.array([0.0, 3.0]), key=jax.random.key(0))
    assert not np.any(network.matrix.value[:, 0])
    assert not any("matrix" in name for name in vectorize(network).names)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in ALL if k is not RandomFeatures])
def test_each_network_solves_an_equation(kind):
    # u'' = 2 u³ has the solution 1/(1 + x)
    ends = [sd.Dirichlet(1.0, "x_min"), sd.Dirichlet(0.5, "x_max")]
    problem = sd.PDEProblem(sd.Box(x=(0, 1)), conditions=ends, network=kind)
    solver = sd.Collocation(points=200, hold=30, patience=2, max_steps=300)
    fit = sd.fit(problem, lambda u, p: sd.d(u, "x", "x")(p) - 2 * u(p) ** 3, solver=solver, progress=False)
    x = np.linspace(0, 1, 21)
    assert fit(x=x)["u"].to_numpy() == pytest.approx(1 / (1 + x), abs=1e-7)


def test_networks_of_straight_pieces_are_refused():
    problem = sd.PDEProblem(sd.Box(x=(0, 1)), network=functools.partial(MLP, activation=jax.nn.relu))
    with pytest.raises(sd.InputError, match="made of straight pieces"):
        sd.fit(problem, lambda u, p: sd.d(u, "x", "x")(p) - 1, solver=sd.Collocation(points=16), progress=False)


def test_activations_are_named():
    with pytest.raises(sd.OptionError, match=r"activation='relu' is not an option\. Expected one of 'tanh', 'sin'"):
        MLP(1, 1, activation="relu", key=jax.random.key(0))
    network = MLP(2, 1, activation="sin", key=jax.random.key(0))
    assert network.activation is jnp.sin

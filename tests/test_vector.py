"""Inner parameters as one unconstrained vector."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpyro.distributions import constraints
from numpyro.infer.util import potential_energy

from sciad._errors import InputError
from sciad._roles import fill, frozen, leaves, outer, param
from sciad._vector import vectorize

PRIORS = {
    "positive": dist.LogNormal(0.3, 0.7),
    "real": dist.Normal(1.0, 2.0),
    "bounded": dist.Uniform(-1.0, 3.0),
    "above": dist.TruncatedNormal(1.0, 0.5, low=0.5),
    "many": dist.Gamma(jnp.array([2.0, 3.0]), 1.0),
}


def program_of(priors):
    return {name: param(prior=prior) for name, prior in priors.items()}


@pytest.mark.parametrize(
    ("constraint", "value", "u", "log_jacobian"),
    [
        (constraints.positive, 2.0, np.log(2.0), np.log(2.0)),  # x = exp(u): log dx/du = u
        (constraints.real, 2.0, 2.0, 0.0),
        (constraints.unit_interval, 0.25, np.log(1 / 3), np.log(0.25 * 0.75)),  # logistic: x (1 - x)
        (constraints.interval(1.0, 5.0), 2.0, np.log(1 / 3), np.log(4 * 0.25 * 0.75)),
        (constraints.greater_than(3.0), 5.0, np.log(2.0), np.log(2.0)),
    ],
)
def test_bijections_and_their_jacobians(constraint, value, u, log_jacobian):
    v = vectorize({"x": param(value, constraint=constraint)})
    assert float(v.vector[0]) == pytest.approx(u)
    slope = jax.grad(lambda vector: v.program(vector)["x"].array)(v.vector)
    assert np.log(float(slope[0])) == pytest.approx(log_jacobian)
    assert float(v.program(v.vector)["x"]) == pytest.approx(value)


def test_lognormal_prior_is_normal_in_the_vector():
    v = vectorize({"x": param(prior=dist.LogNormal(0.3, 0.7))})
    for u in (-1.0, 0.0, 2.0):
        expected = dist.Normal(0.3, 0.7).log_prob(u)
        assert float(v.log_prior(jnp.array([u]))) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.loose_promotion
def test_log_prior_agrees_with_numpyro(key):
    def model():
        for name, prior in PRIORS.items():
            numpyro.sample(name, prior.to_event())

    v = vectorize(program_of(PRIORS))

    @jax.jit
    def both(vector):
        pieces = jnp.split(vector, np.cumsum([int(np.prod(site.shape)) for site in v.sites.values()])[:-1])
        unconstrained = {name: u.reshape(v.sites[name].shape) for name, u in zip(v.sites, pieces, strict=True)}
        return v.log_prior(vector), -potential_energy(model, (), {}, unconstrained)

    for vector in jax.random.uniform(key, (20, v.vector.size), minval=-4.0, maxval=4.0):
        np.testing.assert_allclose(*both(vector), rtol=1e-10)


THERE = jax.jit(lambda vector: vectorize(program_of(PRIORS)).program(vector))
BACK = jax.jit(lambda program: vectorize(program).vector)


@given(st.lists(st.floats(-5, 5), min_size=6, max_size=6))
@settings(max_examples=25, deadline=None)
def test_vector_to_program_and_back(entries):
    vector = jnp.array(entries)
    program = THERE(vector)
    np.testing.assert_allclose(BACK(program), vector, rtol=1e-8, atol=1e-8)
    for name, prior in PRIORS.items():
        assert np.all(prior.support(program[name].array))


@pytest.mark.loose_promotion
def test_simplex_is_one_shorter_and_its_density_agrees_with_numpyro():
    prior = dist.Dirichlet(jnp.array([2.0, 3.0, 4.0]))
    v = vectorize({"p": param(prior=prior)})
    assert v.names == ("p[0]", "p[1]")
    np.testing.assert_allclose(v.program(v.vector)["p"].array, [2 / 9, 3 / 9, 4 / 9], rtol=1e-10)

    @jax.jit
    def both(u):
        return v.log_prior(u), -potential_energy(lambda: numpyro.sample("p", prior), (), {}, {"p": u})

    np.testing.assert_allclose(*both(v.vector + 0.3), rtol=1e-10)


def test_cholesky_factor_is_a_vector_of_its_lower_triangle():
    factor = np.array([[2.0, 0.0], [0.5, 3.0]])
    v = vectorize({"factor": param(factor, constraint=constraints.lower_cholesky)})
    np.testing.assert_allclose(v.vector, [0.5, np.log(2.0), np.log(3.0)])
    np.testing.assert_allclose(v.program(v.vector)["factor"].array, factor)


def test_names_and_what_stays_out(key):
    program = {
        "layers": [eqx.nn.Linear(2, 3, dtype=jnp.float64, key=key)],
        "width": outer(1.0),
        "g": frozen(9.81),
        "rate": param(1.0),
        "n": jnp.arange(2),
    }
    v = vectorize(program)
    assert v.names == (
        *(f"layers.0.weight[{i},{j}]" for i in range(3) for j in range(2)),
        *(f"layers.0.bias[{i}]" for i in range(3)),
        "rate",
    )
    before, after = fill(program), v.program(v.vector + 1.0)
    moved = [path for path, leaf in leaves(before).items() if not bool(eqx.tree_equal(leaf, leaves(after)[path]))]
    assert moved == ["layers.0.weight", "layers.0.bias", "rate"]
    assert v.values(v.vector)["rate"] == 1.0


def test_scalar_prior_is_repeated_over_an_array(key):
    v = vectorize({"w": param(np.zeros((2, 3)), prior=dist.Normal(0.0, 2.0))})
    assert v.sites["w"].prior.sample(key).shape == v.sites["w"].shape == (2, 3)
    assert float(v.log_prior(v.vector)) == pytest.approx(6 * float(dist.Normal(0.0, 2.0).log_prob(0.0)))


def test_jit_vmap_and_grad():
    v = vectorize(program_of(PRIORS))
    batch = jnp.stack([v.vector, v.vector + 0.3])
    density = jax.value_and_grad(v.log_prior)
    together, one = jax.jit(jax.vmap(density))(batch), jax.jit(density)(batch[1])
    np.testing.assert_allclose(together[0][1], one[0])
    np.testing.assert_allclose(together[1][1], one[1])
    assert jax.jit(jax.vmap(v.program))(batch)["many"].shape == (2, 2)


def test_a_new_vectorisation_does_not_retrace():
    traces = []

    @eqx.filter_jit
    def density(v, vector):
        traces.append(1)
        return v.log_prior(vector)

    for _ in range(2):
        v = vectorize(program_of({"a": dist.LogNormal(0.0, 1.0), "b": dist.Gamma(jnp.ones(2), 2.0)}))
        density(v, v.vector)
    assert len(traces) == 1


def test_traced_values():
    value = jax.jit(lambda x: vectorize({"x": param(x, constraint=constraints.positive)}).vector[0])(3.0)
    assert float(value) == pytest.approx(np.log(3.0))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ({"g": frozen(1.0)}, "no inner parameter. Mark at least one leaf"),
        (
            {"x": param(0.0, prior=dist.TruncatedNormal(1.0, 1.0, low=0.0))},
            "x: the value 0.0 is not inside its constraint >= 0",
        ),
        ({"z": jnp.ones(2) * 1j}, "z has dtype complex128. Expected real numbers"),
    ],
)
def test_programs_without_a_vector(program, message):
    with pytest.raises(InputError, match=message):
        vectorize(program)


def test_missing_priors_are_named():
    v = vectorize({"a": param(1.0), "b": [param(1.0)], "c": param(1.0, prior=dist.Normal(0.0, 1.0))})
    with pytest.raises(InputError, match=r"No prior on a, b\.0\. Give each a prior, or freeze it"):
        v.log_prior(v.vector)

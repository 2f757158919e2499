"""Starts at rest, against closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import sciad as sd
from sciad.solvers.steady import steady_state

T = np.array([0.0, 1.0, 2.0])


def binding(rates):
    """Two that bind to a third, and fall apart: two totals are conserved."""
    return lambda y: jnp.array([-1.0, -1.0, 1.0]) * (rates[0] * y[0] * y[1] - rates[1] * y[2])


def bound(p):
    """How much is bound at rest, of ``a + c`` and ``b + c``: the smaller root of a quadratic."""
    a, b, k = p[2] + p[4], p[3] + p[4], p[1] / p[0]
    c = (a + b + k - jnp.sqrt((a + b + k) ** 2 - 4 * a * b)) / 2
    return jnp.stack([a - c, b - c, c])


def test_conserved_totals_are_those_of_the_guess_with_derivatives_in_both_modes():
    def found(p):
        return steady_state(binding(p), p[2:], positive=True)[0]

    p = jnp.array([2.0, 0.5, 3.0, 2.0, 0.0])
    value, forward, reverse, expected = jax.jit(
        lambda p: (found(p), jax.jacfwd(found)(p), jax.jacrev(found)(p), jax.jacfwd(bound)(p))
    )(p)
    np.testing.assert_allclose(value, bound(p), rtol=1e-10)
    np.testing.assert_allclose(forward, expected, atol=1e-10)
    np.testing.assert_allclose(reverse, expected, atol=1e-10)


def test_a_law_that_depends_on_parameters_moves_with_them():
    """Concentrations in two volumes that exchange: the total is weighted by the volumes."""

    def found(volumes):
        rate = jnp.array([-1.0, 1.0]) / volumes
        return steady_state(lambda c: rate * (c[0] - 2.0 * c[1]), jnp.array([1.0, 0.0]))[0]

    def expected(volumes):
        return jnp.array([2.0, 1.0]) * volumes[0] / (2.0 * volumes[0] + volumes[1])

    volumes = jnp.array([1.5, 4.0])
    value, forward = jax.jit(lambda v: (found(v), jax.jacfwd(found)(v)))(volumes)
    np.testing.assert_allclose(value, expected(volumes), rtol=1e-10)
    np.testing.assert_allclose(forward, jax.jacfwd(expected)(volumes), atol=1e-10)


ONE, TURN = np.eye(2), np.array([[0.0, 1.0], [-1.0, 0.0]])
HOPELESS = {  # y' = A y + b
    "grows": (0.0 * ONE, 1.0),
    "explodes": (ONE, 0.0),
    "spirals out": (0.1 * ONE + TURN, 0.0),
    "goes round": (TURN, 0.0),
    "is negative": (-ONE, -1.0),
    "is not finite": (-ONE, np.inf),
}


def test_no_rest_is_no_answer_and_has_no_derivative():
    def total(b, a):
        y, ok = steady_state(lambda y: a @ y + b, jnp.array([1.0, 0.5]), positive=True)
        return jnp.sum(y), (y, ok)

    systems = [jnp.stack(x) for x in zip(*HOPELESS.values(), (-ONE, 1.0), strict=True)]  # and one that comes to rest
    (_, (found, ok)), slopes = jax.jit(jax.vmap(jax.value_and_grad(total, has_aux=True)))(systems[1], systems[0])
    np.testing.assert_array_equal(ok, [False] * len(HOPELESS) + [True])
    np.testing.assert_array_equal(found[:-1], [[1.0, 0.5]] * len(HOPELESS))
    np.testing.assert_allclose(slopes, [0.0] * len(HOPELESS) + [2.0], atol=1e-12)


def test_of_two_stable_states_that_on_the_side_of_the_guess_is_found():
    found = jax.jit(jax.vmap(lambda y: steady_state(lambda y: y - y**3, y[None])[0][0]))(jnp.array([-3.0, -0.1, 0.1]))
    np.testing.assert_allclose(found, [-1.0, -1.0, 1.0], rtol=1e-10)


# --- in a problem ----------------------------------------------------------------------------------------------------


class Relay(eqx.Module):
    """What flows in leaves the first for the second, and that for nowhere; a drug closes the first."""

    out: sd.Param = sd.param(0.5)
    lost: sd.Param = sd.param(2.0)

    def __call__(self, t, y, inputs):
        del t
        passed = self.out * y[0] * jnp.exp(-y[2])
        return [inputs["feed"] - passed, passed - self.lost * y[1], -y[2]]


def relay(**options):
    data = xr.Dataset(
        {"first": (("run", "t"), np.ones((2, 3))), "feed": (("run", "t"), np.full((2, 3), 7.0))}, coords={"t": T}
    )
    rest = {"guess": {"first": 1.0, "second": 1.0, "drug": 1.0}, "held": "drug", "inputs": {"feed": [2.0, 3.0]}}
    return sd.ODEProblem(
        data,
        fields="first",
        states=("first", "second", "drug"),
        inputs="feed",
        initial=sd.SteadyState(**(rest | options)),
        noise=sd.Normal(1.0),
    )


def test_experiments_begin_at_rest_under_the_inputs_before_them_with_what_is_held():
    problem = relay()

    def start(out):
        found = problem.predict(Relay(out=sd.param(out)), T[:1]).mean[:, 0, 0]
        return jnp.sum(found), found

    (_, value), slope = jax.jit(jax.value_and_grad(start, has_aux=True))(0.5)
    expected = np.array([2.0, 3.0]) * np.e / 0.5
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    np.testing.assert_allclose(slope, -np.sum(expected) / 0.5, rtol=1e-9)


def test_without_rest_the_solve_fails():
    problem = relay(inputs={"feed": [2.0, -1.0]})
    density = jax.jit(jax.value_and_grad(lambda out: problem.log_likelihood(Relay(out=sd.param(out)))))
    assert density(0.5) == (-jnp.inf, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guess": {"first": 1.0}}, r"has no value for second, drug: the search needs one for every state"),
        ({"guess": {"frist": 1.0}}, r"names 'frist', which is no state. Did you mean 'first'"),
        ({"inputs": {"food": 1.0}}, r"`SteadyState\(inputs=...\)` names 'food', which is no input. There is: feed"),
        ({"inputs": {"feed": [1.0, 2.0, 3.0]}}, r"shape \(3,\); expected one number, or one for each of the 2"),
        ({"inputs": {"feed": np.nan}}, r"has 1 missing or infinite values"),
        ({"held": ["first", "second", "drug"]}, r"holds every state, so that nothing is left to find"),
    ],
)
def test_what_cannot_be_a_steady_state(options, message):
    with pytest.raises(sd.InputError, match=message):
        relay(**options)

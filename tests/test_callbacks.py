import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciad.solvers.callbacks import without_runtime_errors


def has_callback(function, *args):
    return "callback" in jax.jit(function).lower(*args).as_text()


def checked(x):
    """One check on a value that is used twice, one on an intermediate value, one inside a nested jit."""
    x = eqx.error_if(x, jnp.any(x < 0), "negative")
    total = eqx.error_if(jnp.sum(x**2), jnp.any(x > 10), "large")
    return jax.jit(lambda y: eqx.error_if(y, jnp.any(y > 5), "inner"))(x) * total, x


def test_checks_are_replaced_by_their_values():
    x = jnp.array([1.0, 2.0, -3.0])
    assert has_callback(checked, x)
    assert not has_callback(lambda x: without_runtime_errors(checked, x), x)
    values = without_runtime_errors(checked, x)
    np.testing.assert_array_equal(values[0], x * 14.0)
    np.testing.assert_array_equal(values[1], x)


def test_what_remains_is_differentiated_and_batched():
    def loss(x):
        return without_runtime_errors(lambda x: jnp.sum(checked(x)[0]), x)

    x = jnp.array([[1.0, 2.0], [0.5, -1.0]])
    expected = 2 * x * jnp.sum(x, axis=1, keepdims=True) + jnp.sum(x**2, axis=1, keepdims=True)
    np.testing.assert_allclose(jax.vmap(jax.grad(loss))(x), expected)


def test_a_check_whose_values_cannot_be_told_apart_stays():
    def twins(x):
        first, second = eqx.error_if((x, 2 * x), jnp.any(x < 0), "negative")
        return first - second

    def solve(x):
        return without_runtime_errors(twins, x)

    assert has_callback(solve, jnp.ones(2))
    np.testing.assert_array_equal(solve(jnp.ones(2)), -jnp.ones(2))
    with pytest.raises(Exception, match="negative"):
        jax.block_until_ready(eqx.filter_jit(solve)(-jnp.ones(2)))


def test_of_several_values_the_one_that_is_used_decides():
    def mixed(x):
        _, label = eqx.error_if((x, x > 1), jnp.any(x < 0), "negative")
        return label

    x = jnp.array([0.5, 2.0])
    assert not has_callback(lambda x: without_runtime_errors(mixed, x), x)
    np.testing.assert_array_equal(without_runtime_errors(mixed, x), [False, True])

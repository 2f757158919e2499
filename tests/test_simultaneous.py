import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from sciad.solvers.simultaneous import BlockTriangular, factorise_once


def nested(key):
    """A matrix of the second-order kind: blocks of 6, each of them blocks of 2, equal along the diagonal."""
    keys = jax.random.split(key, 3)
    small = 3 * jnp.eye(2) + jax.random.normal(keys[0], (2, 2))
    block = jnp.kron(jnp.eye(3), small).at[2:, :2].set(jax.random.normal(keys[1], (4, 2)))
    return jnp.kron(jnp.eye(4), block).at[6:, :6].set(jax.random.normal(keys[2], (18, 6)))


def test_solves_and_transposes_like_a_dense_solver(key):
    matrix, b = nested(key), jnp.arange(24.0)
    solver = BlockTriangular(BlockTriangular(lx.LU(), 2), 6)

    @jax.jit
    def solve(b):
        return lx.linear_solve(lx.MatrixLinearOperator(matrix), b, solver).value

    np.testing.assert_allclose(solve(b), np.linalg.solve(matrix, b), rtol=1e-10)
    np.testing.assert_allclose(jax.vjp(solve, b)[1](b)[0], np.linalg.solve(matrix.T, b), rtol=1e-10)


def test_explicit_solvers_have_nothing_to_factorise():
    assert factorise_once(diffrax.Tsit5(), 3) == diffrax.Tsit5()
    assert isinstance(factorise_once(diffrax.Kvaerno5(), 3).root_finder.linear_solver, BlockTriangular)

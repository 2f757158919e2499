"""Small systems solved by arithmetic alone have the library's solutions."""

import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

from sciad.solvers.elimination import LARGEST, Elimination, by_elimination, inverse, with_solves_inlined
from sciad.solvers.one_kernel import _equations
from sciad.solvers.simultaneous import factorise_once

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "matrix",
    [
        RNG.standard_normal((1, 1)),
        RNG.standard_normal((5, 5)),
        np.eye(4)[[2, 0, 3, 1]],  # every pivot is elsewhere
        np.diag(10.0 ** np.arange(-6, 7, 2)) + np.triu(RNG.standard_normal((7, 7)), 1),
    ],
    ids=["a number", "random", "a permutation", "badly scaled"],
)
def test_inverses(matrix):
    found = jax.jit(inverse)(jnp.asarray(matrix))
    expected = np.linalg.inv(matrix)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


def test_the_inverse_of_a_singular_matrix_is_not_finite():
    assert not np.all(np.isfinite(jax.jit(inverse)(jnp.array([[1.0, 2.0], [2.0, 4.0]]))))


@pytest.mark.parametrize("n", [3, LARGEST + 1])
def test_solves_and_transposes_like_a_dense_solver(n):
    matrix, b = n * np.eye(n) + RNG.standard_normal((n, n)), jnp.arange(float(n))

    @jax.jit
    def solve(b):
        return lx.linear_solve(lx.MatrixLinearOperator(jnp.asarray(matrix)), b, Elimination(lx.LU())).value

    np.testing.assert_allclose(solve(b), np.linalg.solve(matrix, b), rtol=1e-10)
    np.testing.assert_allclose(jax.vjp(solve, b)[1](b)[0], np.linalg.solve(matrix.T, b), rtol=1e-10)


def test_only_decompositions_that_would_be_lu_are_replaced():
    assert by_elimination(diffrax.Tsit5()) == diffrax.Tsit5()
    together = by_elimination(factorise_once(diffrax.Kvaerno5(), 3)).root_finder.linear_solver
    assert isinstance(together.solver, Elimination)
    chosen = diffrax.Kvaerno5(root_finder=diffrax.VeryChord(rtol=1e-6, atol=1e-6, linear_solver=lx.QR()))
    assert isinstance(by_elimination(chosen).root_finder.linear_solver, lx.QR)


def test_solves_are_inlined_in_loops_too():
    matrix = lx.MatrixLinearOperator(jnp.diag(jnp.array([2.0, 4.0])))

    def function(b):
        def once(_, b):
            return lx.linear_solve(matrix, b, Elimination(lx.LU())).value

        return jax.lax.fori_loop(0, 2, once, b)

    closed = jax.make_jaxpr(function)(jnp.ones(2))
    inlined = with_solves_inlined(closed)
    assert "linear_solve" in {e.primitive.name for e, _ in _equations(closed.jaxpr)}
    assert "linear_solve" not in {e.primitive.name for e, _ in _equations(inlined.jaxpr)}
    (found,) = jax.jit(jaxpr_as_fun(inlined))(jnp.ones(2))
    np.testing.assert_allclose(found, [1 / 4, 1 / 16], rtol=1e-14)

"""Small linear systems by arithmetic alone, so that an implicit ODE solver fits into one machine-code function.

LAPACK's LU decomposition is a library call, which `sciad.solvers.one_kernel` cannot hold; for a dozen unknowns the call
costs more than the arithmetic. Newton's matrix is used several times, and its solutions are only steps towards the
root, so it is inverted once.
"""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
from jax.extend.core import ClosedJaxpr
from jaxtyping import Array, Float, PyTree

from sciad.solvers.rewriting import rewritten

LARGEST = 20  # unknowns; beyond, the library is as fast

_State = tuple[Array | None, Any]  # the inverse, or what the library's solver needs


def by_elimination(solver: PyTree) -> PyTree:
    """Return a Diffrax solver with `Elimination` in place of each linear solver that would be an LU decomposition."""

    def is_lu(node: Any) -> bool:
        return isinstance(node, lx.AutoLinearSolver | lx.LU)

    return jax.tree.map(lambda x: Elimination(x) if is_lu(x) else x, solver, is_leaf=is_lu)


class Elimination(lx.AbstractLinearSolver[_State]):
    """Gauss-Jordan elimination with partial pivoting for at most `LARGEST` unknowns; beyond, another solver.

    Parameters
    ----------
    beyond
        Solver of larger systems.

    Examples
    --------
    >>> matrix = lx.MatrixLinearOperator(jnp.array([[0.0, 2.0], [4.0, 0.0]]))
    >>> lx.linear_solve(matrix, jnp.array([2.0, 4.0]), Elimination(lx.LU())).value.tolist()
    [1.0, 1.0]
    """

    beyond: lx.AbstractLinearSolver

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> _State:
        """Invert the matrix."""
        if operator.in_size() > LARGEST or not _flat(operator):
            return None, self.beyond.init(operator, options)
        return inverse(operator.as_matrix()), None

    def compute(self, state: _State, vector: PyTree, options: dict[str, Any]) -> tuple[PyTree, lx.RESULTS, dict]:
        """Multiply by the inverse."""
        inverted, other = state
        if inverted is None:
            return self.beyond.compute(other, vector, options)
        return inverted @ vector, lx.RESULTS.successful, {}

    def transpose(self, state: _State, options: dict[str, Any]) -> tuple[_State, dict[str, Any]]:
        """Transpose the inverse."""
        inverted, other = state
        if inverted is None:
            other, options = self.beyond.transpose(other, options)
            return (None, other), options
        return (inverted.T, None), {}

    def conj(self, state: _State, options: dict[str, Any]) -> tuple[_State, dict[str, Any]]:
        """Return the state: the system is real."""
        return state, options

    def assume_full_rank(self) -> bool:
        """Return whether the matrix must have full rank."""
        return True


def _flat(operator: lx.AbstractLinearOperator) -> bool:
    """Whether the unknowns are one vector, as many as equations."""
    into, out = operator.in_structure(), operator.out_structure()
    return isinstance(into, jax.ShapeDtypeStruct) and len(into.shape) == 1 and into == out


def inverse(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return the inverse; not finite where the matrix is singular.

    Rows stay where they are: which was the pivot of which column is read off the reduced matrix at the end.
    """
    n = len(matrix)
    places = jnp.arange(n)

    def reduce(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, used = carry
        column = jax.lax.dynamic_index_in_dim(rows, k, axis=1, keepdims=False)
        size = jnp.where(used, -1.0, jnp.abs(column))
        chosen = places == jnp.min(jnp.where(size == jnp.max(size), places, n))
        pivot = jnp.sum(jnp.where(chosen[:, None], rows, 0.0), axis=0)
        pivot = pivot / jnp.sum(jnp.where(chosen, column, 0.0))
        rows = jnp.where(chosen[:, None], pivot[None], rows - column[:, None] * pivot[None])
        return rows, used | chosen

    both = jnp.concatenate([matrix, jnp.eye(n, dtype=matrix.dtype)], axis=1)
    both, _ = jax.lax.fori_loop(0, n, reduce, (both, jnp.zeros(n, bool)))
    return both[:, :n].T @ both[:, n:]


def with_solves_inlined(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Return the computation with what each of Lineax's solves does in place of the solve, in loops and calls too."""
    return rewritten(closed, _inlined)


def _inlined(equation: Any) -> list[Any] | None:
    if equation.primitive.name != "linear_solve":
        return None
    call = jax.jit(lambda *operands: equation.primitive.impl(*operands, **equation.params))
    (made,) = jax.make_jaxpr(call)(*(v.aval for v in equation.invars)).jaxpr.eqns
    return [equation.replace(primitive=made.primitive, params=made.params)]

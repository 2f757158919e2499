"""Newton's linear systems when state and sensitivities are integrated together by an implicit solver.

The Jacobian of ``(y, S_1, …, S_P)`` is block triangular, with the same block ``A = ∂f/∂y`` for the state and for every
sensitivity. With ``M = I - γ dt A`` Newton's matrix reads

    [ M         ]
    [ B_1  M    ]
    [ ⋮       ⋱ ]

so one factorisation of the ``n × n`` block serves a system of ``n (P + 1)`` unknowns.

Source: T. Maly and L. R. Petzold, *Numerical methods and software for sensitivity analysis of differential-algebraic
systems*, Applied Numerical Mathematics 20 (1996).
"""

from typing import Any

import diffrax as dfx
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array

_State = tuple[Any, Array, Any]  # factors of M, the B_j below one another, whether transposed


def factorise_once(solver: dfx.AbstractSolver, n: int) -> dfx.AbstractSolver:
    """Return the solver with each of its linear solvers wrapped in `BlockTriangular`; an explicit one has none."""

    def is_linear(node: Any) -> bool:
        return isinstance(node, lx.AbstractLinearSolver)

    return jax.tree.map(lambda x: BlockTriangular(x, n) if is_linear(x) else x, solver, is_leaf=is_linear)


class BlockTriangular(lx.AbstractLinearSolver[_State]):
    """Solver of ``M x_0 = b_0``, ``M x_j = b_j - B_j x_0`` by one factorisation of ``M``.

    Parameters
    ----------
    solver
        Solves with ``M``.
    n
        Size of ``M``.

    Examples
    --------
    >>> import jax.numpy as jnp, lineax as lx
    >>> matrix = lx.MatrixLinearOperator(jnp.array([[2.0, 0.0, 0.0], [3.0, 2.0, 0.0], [5.0, 0.0, 2.0]]))
    >>> [float(x) for x in lx.linear_solve(matrix, jnp.array([4.0, 8.0, 16.0]), BlockTriangular(lx.LU(), 1)).value]
    [2.0, 1.0, 3.0]
    """

    solver: lx.AbstractLinearSolver
    n: int = eqx.field(static=True)

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> _State:
        """Factorise the first block; the columns below it couple the sensitivities to the state."""
        del options
        whole = operator.in_structure()
        columns = jax.vmap(operator.mv, out_axes=1)(jnp.eye(self.n, whole.size, dtype=whole.dtype))
        factors = self.solver.init(lx.MatrixLinearOperator(columns[: self.n]), {})
        return factors, columns[self.n :], eqxi.Static(False)

    def compute(self, state: _State, vector: Array, options: dict[str, Any]) -> tuple[Array, lx.RESULTS, dict]:
        """Substitute forwards; backwards in the transposed system."""
        del options
        factors, coupling, transposed = state

        def solve(b: Array) -> Array:
            return self.solver.compute(factors, b, {})[0]

        first, rest = vector[: self.n], vector[self.n :]
        if not transposed.value:
            first = solve(first)
            rest = rest - coupling @ first
        rest = jax.vmap(solve)(rest.reshape(-1, self.n)).reshape(-1)
        if transposed.value:
            first = solve(first - coupling.T @ rest)
        return jnp.concatenate([first, rest]), lx.RESULTS.successful, {}

    def transpose(self, state: _State, options: dict[str, Any]) -> tuple[_State, dict[str, Any]]:
        """Solve with the transposed blocks instead."""
        factors, coupling, transposed = state
        factors, _ = self.solver.transpose(factors, options)
        return (factors, coupling, eqxi.Static(not transposed.value)), {}

    def conj(self, state: _State, options: dict[str, Any]) -> tuple[_State, dict[str, Any]]:
        """Return the state: the system is real."""
        del options
        return state, {}

    def assume_full_rank(self) -> bool:
        """Return whether ``M`` must have full rank."""
        return self.solver.assume_full_rank()

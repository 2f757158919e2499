"""Matrix products written as sums of products of numbers, in a whole computation.

Inside one function (`sciad.solvers.one_kernel`) XLA's CPU backend refuses some fusions of a product with what follows
it, and gains nothing from a product of a few numbers. Products and sums it always takes.
"""

from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Array

from sciad.solvers.rewriting import rewritten


def without_products(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Return the computation with each ``dot_general``, in loops, branches and calls too, as a sum of products."""
    return rewritten(closed, lambda equation: _as_sum(equation) if equation.primitive.name == "dot_general" else None)


def _as_sum(equation: Any) -> list[Any]:
    (out,) = equation.outvars

    def product(a: Array, b: Array) -> Array:
        return lax.convert_element_type(_sum_of_products(a, b, equation.params["dimension_numbers"]), out.aval.dtype)

    traced = jax.make_jaxpr(product)(*(variable.aval for variable in equation.invars)).jaxpr
    names = dict(zip((*traced.invars, *traced.outvars), (*equation.invars, out), strict=True))

    def named(variables: Any) -> list[Any]:
        return [v if isinstance(v, Literal) else names.get(v, v) for v in variables]

    return [e.replace(invars=named(e.invars), outvars=named(e.outvars)) for e in traced.eqns]


def _sum_of_products(a: Array, b: Array, dimensions: Any) -> Array:
    (summed_a, summed_b), (batch_a, batch_b) = dimensions
    free_a = [i for i in range(a.ndim) if i not in (*summed_a, *batch_a)]
    free_b = [i for i in range(b.ndim) if i not in (*summed_b, *batch_b)]
    batch, left = len(batch_a), len(batch_a) + len(free_a)
    a = lax.transpose(a, (*batch_a, *free_a, *summed_a))
    b = lax.transpose(b, (*batch_b, *free_b, *summed_b))
    a = lax.expand_dims(a, range(left, left + len(free_b)))
    b = lax.expand_dims(b, range(batch, left))
    shape = tuple(max(m, n) for m, n in zip(a.shape, b.shape, strict=True))
    terms = lax.broadcast_in_dim(a, shape, range(a.ndim)) * lax.broadcast_in_dim(b, shape, range(b.ndim))
    return lax.reduce_sum(terms, range(left + len(free_b), terms.ndim))

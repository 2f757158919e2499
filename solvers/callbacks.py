"""Equinox's run-time errors taken out of a computation whose inputs were checked before it was traced.

Such an error is a host callback, and JAX's persistent compilation cache stores no computation that holds one. Diffrax
checks the order of its save times that way; where the times are known while tracing, that check has been made already.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jaxtyping import PyTree


def without_runtime_errors(function: Callable[[PyTree], PyTree], operands: PyTree) -> PyTree:
    """Return ``function(operands)``, each ``eqx.error_if(x, …)`` outside its loops replaced by ``x``.

    Parameters
    ----------
    function
        Of arrays only; closes over no traced array.
    operands
        A PyTree of arrays.
    """
    return with_computation(lambda closed: jax.jit(jaxpr_as_fun(closed)), function, operands)


def with_computation(
    make: Callable[[ClosedJaxpr], Callable[..., Any]], function: Callable[[PyTree], PyTree], operands: PyTree
) -> PyTree:
    """Return ``function(operands)``, computed by what `make` turns its computation, without run-time errors, into."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(operands)
    leaves = make(stripped(closed))(*jax.tree.leaves(operands))
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def stripped(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Return the computation without its run-time errors."""
    jaxpr, kept, same = closed.jaxpr, [], {}
    used = {id(v) for v in jaxpr.outvars}.union(*({id(v) for v in e.invars} for e in jaxpr.eqns))
    for equation in jaxpr.eqns:
        invars = [same.get(id(v), v) for v in equation.invars]
        outputs = [out for out in equation.outvars if id(out) in used]
        if equation.params.get("name") == "branched_error_if_impl" and _alike(outputs, invars):
            same |= {id(out): x for out in outputs for x in invars if _kind(x) == _kind(out)}
            continue
        params = equation.params
        if equation.primitive.name in ("jit", "pjit"):
            params = params | {"jaxpr": stripped(params["jaxpr"])}
        kept.append(equation.replace(invars=invars, params=params))
    outvars = [same.get(id(v), v) for v in jaxpr.outvars]
    return closed.replace(jaxpr=jaxpr.replace(eqns=kept, outvars=outvars))


def _alike(outputs: list[Any], inputs: list[Any]) -> bool:
    """Whether shape and dtype say which input each output is."""
    kinds = [_kind(x) for x in inputs]
    return all(kinds.count(_kind(out)) == 1 for out in outputs)


def _kind(variable: Any) -> tuple[Any, Any]:
    return variable.aval.shape, variable.aval.dtype

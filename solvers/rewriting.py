"""Whole computations rewritten equation by equation, in loops, branches and calls too."""

from collections.abc import Callable
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr

Rewrite = Callable[[Any], list[Any] | None]


def rewritten(closed: ClosedJaxpr, rewrite: Rewrite) -> ClosedJaxpr:
    """Return the computation with the equations that `rewrite` makes of each, or the same one where it makes none."""
    return closed.replace(jaxpr=_jaxpr(closed.jaxpr, rewrite))


def _jaxpr(jaxpr: Jaxpr, rewrite: Rewrite) -> Jaxpr:
    equations = []
    for equation in jaxpr.eqns:
        made = rewrite(equation)
        if made is None:
            params = {name: _inside(value, rewrite) for name, value in equation.params.items()}
            made = [equation.replace(params=params)]
        equations += made
    return jaxpr.replace(eqns=equations)


def _inside(param: Any, rewrite: Rewrite) -> Any:
    if isinstance(param, ClosedJaxpr):
        return rewritten(param, rewrite)
    if isinstance(param, Jaxpr):
        return _jaxpr(param, rewrite)
    if type(param) in (tuple, list):
        return type(param)(_inside(part, rewrite) for part in param)
    return param

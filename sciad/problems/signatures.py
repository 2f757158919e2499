"""Functions that a user writes: the order of their arguments, and what they do that cannot be traced."""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from sciad._errors import InputError

TIMES, STATES = {"t", "time"}, {"x", "y", "u", "z", "state", "states"}
BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def check_order(what: str, function: Callable[..., Any], skip: int = 0) -> None:
    """Check, by their names, that time comes before state among a function's arguments, after the first few.

    Raises
    ------
    InputError
        If the state comes first.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return  # a built-in function, of which nothing is known
    names = [p.name for p in parameters if p.kind in BY_PLACE][skip : skip + 2]
    if len(names) == 2 and names[0] in STATES and names[1] in TIMES:
        msg = f"{what} takes ({', '.join(names)}) in this order, and is called with the time first: ({names[1]}, "
        msg += f"{names[0]}). Swap them."
        raise InputError(msg)


def shape_of(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the shapes that a function returns, as `jax.eval_shape` does.

    Raises
    ------
    InputError
        If it branches on a value, or hands one to NumPy.
    """
    try:
        return eqx.filter_eval_shape(function, *arguments)
    except jax.errors.TracerBoolConversionError as error:
        msg = f"{what} asks `if` of a value that is not known while it is compiled. Write jnp.where(condition, one, "
        msg += "other) instead."
        raise InputError(msg) from error
    except jax.errors.TracerArrayConversionError as error:
        msg = f"{what} hands a value to NumPy that is not known while it is compiled. Write jnp instead of np: "
        msg += "jnp.exp, say, with `import jax.numpy as jnp`."
        raise InputError(msg) from error
    except jax.errors.ConcretizationTypeError as error:
        msg = f"{what} asks for the number behind a value that is not known while it is compiled, by float() or int(). "
        msg += "Leave it an array."
        raise InputError(msg) from error

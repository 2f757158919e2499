"""A constant delay in the equation of a problem: what the user declares, and how it is solved."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sciad._errors import InputError
from sciad._roles import Param
from sciad._text import is_concrete
from sciad.solvers.delay import DDE
from sciad.solvers.ode import ODE, ODESolution


class Delay(NamedTuple):
    """The delay of a model, in units of time, and its state before t0, which is that at t0 if there is no history."""

    of: Callable[[Any], Any]
    history: Callable[[Any, Any], Any] | None

    def solve(
        self,
        solver: ODE,
        model: PyTree,
        field: Callable[..., Array],
        start: Float[Array, " states"],
        times: Float[np.ndarray, " times"],
        t0: float,
    ) -> ODESolution:
        """Solve ``field(t, y, delayed, args)`` for a model without roles."""
        past = self.history
        history = None if past is None else lambda t, _: jnp.asarray(past(model, t), start.dtype)
        delay = jnp.asarray(self.of(model), start.dtype)
        return DDE(solver)(field, start, delay=delay, history=history, ts=jnp.asarray(times), t0=t0, throw=False)

    def first(self, model: PyTree, t0: Array, start: Float[Array, " states"]) -> Array:
        """Return the delayed state at t0.

        Raises
        ------
        InputError
            If the history's shape is not the state's.
        """
        if self.history is None:
            return start
        state = jnp.asarray(self.history(model, t0 - jnp.asarray(self.of(model), start.dtype)), start.dtype)
        if state.shape != start.shape:
            msg = f"`history` returned shape {state.shape} for {start.size} states: return one value for each, as a "
            msg += "vector."
            raise InputError(msg)
        return state


def declared(delay: Any, history: Any, solver: ODE) -> Delay | None:
    """Return the delay that a user declared, as a number or a function of the model; None if there is none.

    Raises
    ------
    InputError
        If it is neither, or there is a history and no delay.
    OptionError
        If the solver has a setting that delay equations have no use for.
    """
    if delay is None:
        if history is not None:
            msg = "`history` is given and no `delay`: an equation without delay has no use for it."
            raise InputError(msg)
        return None
    DDE(solver)
    if history is not None and not callable(history):
        msg = f"`history` is {history!r}; expected a function (model, t) -> state, for times before t0."
        raise InputError(msg)
    if callable(delay):
        return Delay(delay, history)
    if isinstance(delay, Param) or np.ndim(delay) or not isinstance(delay, int | float | np.floating | np.integer):
        msg = f"`delay` is a {type(delay).__name__}; expected a number, or a function of the model, such as "
        msg += "`lambda model: model.tau`, with the unknown delay declared there as an `sd.param`."
        raise InputError(msg)
    return Delay(lambda _: delay, history)


def with_delayed(model: Callable[..., Any], delayed: Array) -> Callable[..., Any]:
    """Return a model without delay, whose delayed state is this one."""
    return lambda t, y, *inputs: model(t, y, delayed, *inputs)


def check_delay(delay: Delay, model: PyTree, span: float, max_steps: int | None) -> None:
    """Check that the delay is one positive number, and no tiny part of the interval; traced, that its shape is right.

    Raises
    ------
    InputError
        If not.
    """
    value = jax.tree.map(jnp.asarray, delay.of(model))
    if not isinstance(value, jax.Array) or value.ndim:
        shape = getattr(value, "shape", type(value).__name__)
        msg = f"`delay` gives {shape}; expected one number for the model."
        raise InputError(msg)
    if not is_concrete(value):
        return
    if not value > 0:
        msg = f"`delay` is {float(value):g} for this model; expected a positive number, in units of time. Declare it "
        msg += "as `sd.param(..., constraint=constraints.positive)`, better with a lower bound."
        raise InputError(msg)
    if max_steps is not None and span > max_steps * value:
        msg = f"The interval holds {span / float(value):.3g} delays of {float(value):g}, and the solver may take "
        msg += f"{max_steps} steps, one or more in each: start from a larger delay, or give `ODE(max_steps=...)`."
        raise InputError(msg)

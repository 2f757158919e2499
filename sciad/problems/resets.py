"""What the state itself brings about: a ball bounces, a cell divides, a thermostat switches."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sciad._errors import InputError
from sciad._typing import Real
from sciad.problems.schedule import SAME, in_own_time
from sciad.problems.signatures import check_order, shape_of
from sciad.solvers.crossing import Crossing
from sciad.solvers.ode import ODE, ODESolution

if TYPE_CHECKING:
    from sciad.problems.ode import ODEProblem


class Reset(eqx.Module):
    r"""A change of the state whenever a condition on it is met; the solve then goes on from the changed state.

    .. math:: c_\theta(t, x(t)) = 0 \;\Rightarrow\; x(t^+) = r_\theta(t, x(t))

    The time of a reset is a root of the solution, and solutions are differentiable through it, in the model's
    parameters too.

    Parameters
    ----------
    when
        ``(model, t, y) -> c``, a number: the reset happens where it goes through zero.
    then
        ``(model, t, y) -> y``, the state after it.
    falling
        Whether it happens where the number falls through zero, else where it rises.
    most
        How many resets an experiment can have at most; several together as many as these add up to. Each costs a
        restart of the solver, whether it happens or not. A solve that would have more fails.

    Raises
    ------
    InputError
        If what should be a function is none, or `most` no positive whole number.

    Notes
    -----
    The condition is looked at after each step of the solver: one that falls below zero and rises again within a step
    is missed, which ``ODE(controller=diffrax.PIDController(..., dtmax=...))`` prevents. A reset that leaves the state
    where its condition is zero, or one that begins there, happens again only after the condition has been positive (if
    `falling`).

    Examples
    --------
    A bottle that is refilled when it is empty.

    >>> import sciad as sd, xarray as xr
    >>> jax.config.update("jax_enable_x64", True)
    >>> data = xr.Dataset({"volume": ("day", [1.0, 0.5, 0.5])}, coords={"day": [0.0, 0.5, 1.5]})
    >>> refilled = Reset(when=lambda model, t, y: y[0], then=lambda model, t, y: jnp.array([1.0]), most=3)
    >>> problem = sd.ODEProblem(data, initial={"volume": 1.0}, resets=refilled)
    >>> problem.predict(lambda t, y: -jnp.ones(1)).mean[0, :, 0].round(6).tolist()
    [1.0, 0.5, 0.5]
    """

    when: Callable[[Any, Real, Array], Any] = eqx.field(static=True)
    then: Callable[[Any, Real, Array], Any] = eqx.field(static=True)
    falling: bool = eqx.field(static=True, default=True)
    most: int = eqx.field(static=True, default=16)

    def __repr__(self) -> str:
        way = "falls" if self.falling else "rises"
        return f"Reset(where `when` {way} through zero, {self.most} times at most)"

    def left(self, model: Any, t: Real, y: Array) -> Array:
        """Return what is left until it happens: a number that falls through zero."""
        c = jnp.asarray(self.when(model, t, y), y.dtype)
        return c if self.falling else -c

    def __check_init__(self) -> None:
        for name in ("when", "then"):
            if not callable(getattr(self, name)):
                msg = f"Reset({name}=...) is a {type(getattr(self, name)).__name__}; expected a function (model, t, y)."
                raise InputError(msg)
        if not isinstance(self.most, int) or self.most < 1:
            msg = f"Reset(most={self.most}): expected a whole number, at least 1."
            raise InputError(msg)


def checked(resets: Reset | Sequence[Reset] | None, solver: ODE, *, alone: bool) -> tuple[Reset, ...]:
    """Return resets as a tuple, once they are known to be that and to be `alone`, without doses and delays.

    Raises
    ------
    InputError
        If not.
    """
    found: tuple[Any, ...] = tuple(resets) if isinstance(resets, list | tuple) else (resets,) if resets else ()
    for each in found:
        if not isinstance(each, Reset):
            msg = f"`resets` holds a {type(each).__name__}; expected sd.Reset(...), or several of them in a list."
            raise InputError(msg)
    if found and not alone:
        msg = "Resets cannot be combined with doses, stepwise inputs or a delay: leave one of them out."
        raise InputError(msg)
    plain = solver.event is None and isinstance(solver.controller, dfx.PIDController)
    if found and not (plain and solver.sensitivity != "backsolve"):
        msg = "Resets need a solver without an event of its own, with a diffrax.PIDController, and with sensitivities "
        msg += "other than 'backsolve': use sd.ODE(rtol=..., atol=...)."
        raise InputError(msg)
    return found


def check_functions(resets: Sequence[Reset], model: Any, t: Array, y: Array) -> None:
    """Check the shapes that the functions of resets return; values are not looked at.

    Raises
    ------
    InputError
        If a condition is no number, or a changed state has another shape than the state.
    """
    for reset in resets:
        check_order("Reset(when=...)", reset.when, skip=1)
        check_order("Reset(then=...)", reset.then, skip=1)
        when = _shape("when", reset.when, "one number that goes through zero, such as `y[0] - 1.0`", (model, t, y))
        then = _shape("then", reset.then, "the state after it, such as `y.at[0].set(0.0)`", (model, t, y))
        if when.shape != () or not jnp.issubdtype(when.dtype, jnp.floating):
            msg = f"Reset(when=...) returned shape {when.shape} of {when.dtype}; expected one number that goes through "
            msg += "zero, such as `y[0] - 1.0`, not a comparison."
            raise InputError(msg)
        if then.shape != y.shape:
            msg = f"Reset(then=...) returned shape {then.shape} for the {y.size} states; expected the state after it, "
            msg += "such as `y.at[0].set(0.0)`."
            raise InputError(msg)


def _shape(name: str, function: Callable[..., Any], expected: str, arguments: tuple[Any, ...]) -> jax.ShapeDtypeStruct:
    """Return the shape of what a function returns, once it is known to return arrays."""
    model, t, y = arguments
    try:
        return shape_of(f"Reset({name}=...)", lambda t, y: jnp.asarray(function(model, t, y)), t, y)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        msg = f"Reset({name}=...) cannot be used: {error}. It is called as {name}(model, t, y) and returns {expected}."
        raise InputError(msg) from error


def from_reset_to_reset(
    problem: "ODEProblem",
    model: Callable[..., Any],
    field: Callable[..., Array],
    start: Float[Array, " states"],
    times: Float[np.ndarray, " times"],
) -> tuple[Float[Array, "times states"], Bool[Array, ""]]:
    """Return the states at the times, and whether the solve succeeds.

    A state saved at the time of a reset is the one before.
    """
    begins, states, ok, struck = _segments(problem, model, field, start, times)
    asked, span = jnp.asarray(times, start.dtype), jnp.asarray(times[-1] - problem.t0, start.dtype)
    index = jnp.sum(begins[1:, None] < asked[None] - _rounding(start) * span, axis=0)
    return states[index, jnp.arange(asked.size)], jnp.all(ok) & ~struck[-1]


def times_of_resets(
    problem: "ODEProblem",
    model: Callable[..., Any],
    field: Callable[..., Array],
    start: Float[Array, " states"],
    times: Float[np.ndarray, " times"],
) -> Float[Array, " most"]:
    """Return when resets happen, infinite for those that do not."""
    begins, _, _, struck = _segments(problem, model, field, start, times)
    return jnp.where(struck[:-1], begins[1:], jnp.inf)


def _rounding(start: Array) -> float:
    return max(SAME, 4 * float(jnp.finfo(start.dtype).eps))


def _segments(
    problem: "ODEProblem",
    model: Callable[..., Any],
    field: Callable[..., Array],
    start: Float[Array, " states"],
    times: Float[np.ndarray, " times"],
) -> tuple[Array, Array, Array, Array]:
    """Return where each segment begins, its states at the times, whether it was solved, and whether a reset ended it.

    One solve from each reset to the next, in a time of its own that would be one at the end, and one for each of
    several resets, of which the first in time counts.
    """
    asked, end = jnp.asarray(times, start.dtype), jnp.asarray(times[-1], start.dtype)
    first, resets = jnp.asarray(problem.t0, start.dtype), problem.resets
    same = _rounding(start) * (end - first)

    def segment(carry: tuple[Array, Array, Array], _: Array) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
        begin, y, sizes = carry
        gap = end - begin
        unit = jnp.where(gap > 0, gap, 1.0)
        saved = (asked - begin) / unit
        # Clipped without its derivative, which is one half at a tie.
        saved = saved + jax.lax.stop_gradient(jnp.clip(saved, 0.0, 1.0) - saved)
        left = jnp.stack([reset.left(model, begin, y) for reset in resets])
        sizes = jnp.maximum(sizes, jnp.abs(jax.lax.stop_gradient(left)))

        def until(reset: Reset, size: Array) -> ODESolution:
            def condition(s: Real, y: Array, *_: Any, **__: Any) -> Array:
                c = reset.left(model, begin + s * gap, y)
                on_it = (s <= 0) & (jnp.abs(c) <= SAME * size)
                return jnp.where(on_it, jnp.minimum(c, 0.0), c)

            solver = in_own_time(problem.solver, gap)
            solver = dataclasses.replace(solver, event=dfx.Event(condition, Crossing(), direction=False))
            return solver(
                lambda s, y, _: gap * field(begin + s * gap, y), y, ts=saved, t0=0.0, t1=1.0, throw=False, in_order=True
            )

        solutions = [until(reset, size) for reset, size in zip(resets, sizes, strict=True)]
        met = jnp.stack([solution.event for solution in solutions])
        ends = jnp.stack([begin + gap * solution.t1 for solution in solutions])
        earliest = jnp.argmin(jnp.where(met, ends, jnp.inf))
        states, before, ok = (
            jnp.stack(x)[earliest] for x in zip(*((r.ys, r.y1, r.ok) for r in solutions), strict=True)
        )
        now, struck = jnp.where(met[earliest], ends[earliest], end), met[earliest]
        before = jnp.where(ok, before, y)
        after = before
        for reset, at, happens in zip(resets, ends, met, strict=True):
            changed = jnp.asarray(reset.then(model, now, after), after.dtype)
            after = jnp.where(struck & happens & (at - now <= same), changed, after)
        # At a time that is that of the reset but for rounding, the state may not have been saved.
        states = jnp.where(jnp.isfinite(states), states, before)
        return (now, after, sizes), (begin, states, ok, struck)

    carry, most = (first, start, jnp.zeros(len(resets), start.dtype)), sum(reset.most for reset in resets)
    _, (begins, states, ok, struck) = jax.lax.scan(segment, carry, jnp.arange(most + 1))
    return begins, states, ok, struck

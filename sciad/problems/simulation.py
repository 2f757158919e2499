"""States of an equation over time, experiment by experiment."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sciad._roles import unwrap
from sciad._typing import Real
from sciad.problems.delays import with_delayed
from sciad.problems.experiments import parted
from sciad.problems.resets import from_reset_to_reset, times_of_resets
from sciad.problems.schedule import Event, Schedule, in_own_time, most_saved, prepared

if TYPE_CHECKING:
    from sciad.problems.ode import ODEProblem, ODEProgram

T = TypeVar("T")
Field = Callable[..., Array]


class Setting(NamedTuple):
    """What experiments differ in, of one experiment or with a leading axis over all."""

    start: Float[Array, "*experiments states"]
    inputs: dict[str, Array]
    schedule: Schedule | None = None
    ready: Bool[Array, "*experiments"] | None = None  # whether a start at rest was found; None where none is asked for

    def also(self, ok: Bool[Array, ""]) -> Bool[Array, ""]:
        """Return whether this one experiment is ready, too."""
        return ok if self.ready is None else ok & self.ready


def over_experiments(
    problem: "ODEProblem", function: Callable[..., T], program: "ODEProgram", *rest: Array | np.ndarray
) -> T:
    """Return ``function(model, setting, *rest)`` of each experiment, with a leading axis, for a complete program.

    The function gets the model without roles, with the values of the experiment at hand. `rest` are arrays with a
    leading experiment axis.
    """
    own, shared = parted(program.model)
    schedule = jax.tree.map(jnp.asarray, problem.schedule)
    settings = Setting(problem.starts(unwrap(program)), problem.inputs, schedule)
    if problem.steady is not None:
        settings = problem.steady.at_rest(problem, own, shared, settings)
    arrays = (own, settings, *map(jnp.asarray, rest))

    def one(own: Any, *rest: Any) -> T:
        return function(eqx.combine(own, shared), *rest)

    if len(settings.start) == 1:  # one solve, not a batch of one
        found = one(*jax.tree.map(lambda x: x[0], arrays))
        return jax.tree.map(lambda x: x[None], found)
    return jax.vmap(lambda arrays: one(*arrays))(arrays)


def right_hand_side(
    problem: "ODEProblem", model: Callable[..., Any], inputs: dict[str, Array], since: Real | None = None
) -> Field:
    """Return ``f(t, y, args)`` with the inputs of one experiment put in; lists of slopes become arrays.

    Stepwise inputs are those of the time `since`, or of the time itself.
    """
    knots = jnp.asarray(problem.input_times)

    def held(u: Array, t: Real) -> Array:
        return u[jnp.maximum(jnp.searchsorted(knots, t, side="right") - 1, 0)]

    still = {name: u for name, u in inputs.items() if not jnp.ndim(u)}
    if since is not None:
        still |= {name: held(inputs[name], since) for name in problem.stepwise}

    def field(t: Real, y: Array, _: Any = None) -> Array:
        moving = {name: u for name, u in inputs.items() if name not in still}
        now = {n: held(u, t) if n in problem.stepwise else jnp.interp(t, knots, u) for n, u in moving.items()}
        return jnp.asarray(model(t, y, still | now) if inputs else model(t, y))

    return field


def simulate(
    problem: "ODEProblem",
    model: Callable[..., Any],
    setting: Setting,
    times: Float[np.ndarray, " times"],
    until: Real | None = None,
) -> tuple[Float[Array, "times states"], Bool[Array, ""]]:
    """Return the states of one experiment, ones where the solve fails, and whether it succeeds.

    From the time `until` on the state rests.
    """
    if setting.schedule is not None:
        return _from_event_to_event(problem, model, setting, times, until)
    field = right_hand_side(problem, model, setting.inputs)
    if problem.delay is not None:
        field = _delayed(problem, model, setting.inputs)
    field = field if until is None else _resting(field, until)
    if problem.resets:
        states, ok = from_reset_to_reset(problem, model, field, setting.start, times)
        ok = setting.also(ok)
        return jnp.where(ok, states, 1.0), ok
    if problem.delay is not None:
        solution = problem.delay.solve(problem.solver, model, field, setting.start, times, problem.t0)
    else:
        solution = problem.solver(field, setting.start, ts=times, t0=problem.t0, t1=times[-1], throw=False)
    ok = setting.also(solution.ok)
    return jnp.where(ok, solution.ys, 1.0), ok


def reset_times(problem: "ODEProblem", model: Callable[..., Any], setting: Setting) -> Float[Array, " most"]:
    """Return when the resets of one experiment happen, infinite for those that do not."""
    field = right_hand_side(problem, model, setting.inputs)
    return times_of_resets(problem, model, field, setting.start, problem.observations.times)


def _from_event_to_event(
    problem: "ODEProblem", model: Callable[..., Any], setting: Setting, times: Float[np.ndarray, " times"], until: Any
) -> tuple[Float[Array, "times states"], Bool[Array, ""]]:
    """Simulate with a schedule: one solve a segment, in a time of its own from zero to one.

    An observation belongs to the segment at whose end, or in which, it is; a state saved at an event is the one before.
    """
    y0, doses = setting.start, problem.doses
    schedule: Any = problem.schedule
    mine: Any = setting.schedule
    events, ok = prepared(mine, doses, model, problem.states, problem.t0, times[-1])
    begins = jnp.concatenate([jnp.asarray(problem.t0, events.time.dtype)[None], events.time[:-1]])
    gaps = events.time - begins
    # --- the observations of each segment, as many as that of the most, in its own time ---
    asked = jnp.asarray(times)
    segments = jnp.searchsorted(events.time, asked).astype(int)
    firsts = jnp.searchsorted(segments, jnp.arange(begins.size)).astype(int)
    width = most_saved(schedule, doses, times)
    saved = asked[jnp.minimum(firsts[:, None] + jnp.arange(width)[None], asked.size - 1)]
    saved = (saved - begins[:, None]) / jnp.where(gaps > 0, gaps, 1.0)[:, None]
    saved = jnp.where(gaps[:, None] > 0, saved, 0.0)
    # Clipped without its derivative, which is one half at a tie.
    saved = saved + jax.lax.stop_gradient(jnp.clip(saved, 0.0, 1.0) - saved)
    infused = bool(np.any(schedule.rate))

    def segment(carry: tuple[Array, Array], part: tuple[Any, ...]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        (y, rate), (begin, gap, ts, event) = carry, part
        field = right_hand_side(problem, model, setting.inputs, begin)
        fed = (lambda t, y, _=None: field(t, y) + rate) if infused else field
        fed = fed if until is None else _resting(fed, until)
        solver = in_own_time(problem.solver, gap)

        def scaled(s: Real, y: Array, _: Any) -> Array:
            return gap * fed(begin + s * gap, y, None)

        solution = solver(scaled, y, ts=ts, t0=0.0, t1=1.0, throw=False, in_order=True)
        y = jnp.where(solution.ok, solution.y1, y)
        happened, rate = event.happen(y, rate)
        y = happened if until is None else jnp.where(event.time <= until, happened, y)
        return (y, rate), (solution.ys, solution.ok)

    parts: tuple[Array, Array, Array, Event] = (begins, gaps, saved, events)
    _, (states, each) = jax.lax.scan(segment, (y0, jnp.zeros_like(y0)), parts)
    ok = setting.also(ok & jnp.all(each))
    return jnp.where(ok, states[segments, jnp.arange(asked.size) - firsts[segments]], 1.0), ok


def _resting(field: Field, until: Real) -> Field:
    return lambda t, y, *rest: jnp.where(t <= until, field(t, y, *rest), 0.0)


def _delayed(problem: "ODEProblem", model: Callable[..., Any], inputs: dict[str, Array]) -> Field:
    """Return ``f(t, y, delayed, args)``, as `right_hand_side` does."""
    return lambda t, y, delayed, _: right_hand_side(problem, with_delayed(model, delayed), inputs)(t, y)

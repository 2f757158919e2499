"""When something happens to an experiment from outside, and what: doses, and steps of inputs, as arrays."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Int

from sciad._errors import InputError, check_names, did_you_mean
from sciad._typing import Real
from sciad.problems.doses import Dose, Doses
from sciad.problems.observations import Observations
from sciad.solvers.ode import ODE

SAME = 1e-9  # of the whole time: a dose so near to an observation is at the same time, but for rounding
NOTHING = (np.inf, 0, -1, 1.0, 0.0, 0.0, 0.0)  # an event that never comes


class Schedule(NamedTuple):
    """Events in the order of time, of one experiment or with a leading axis over all; the last one is never.

    At its time an event makes of its state ``keep x + F given + value``, and adds ``F rate`` to the infusion into it.
    """

    times: Float[Array | np.ndarray, "*experiments events"]
    state: Int[Array | np.ndarray, "*experiments events"]
    source: Int[Array | np.ndarray, "*experiments events"]  # which of the `Doses`; -1: none
    keep: Float[Array | np.ndarray, "*experiments events"]
    given: Float[Array | np.ndarray, "*experiments events"]
    value: Float[Array | np.ndarray, "*experiments events"]
    rate: Float[Array | np.ndarray, "*experiments events"]


class Event(NamedTuple):
    """What happens at the end of a segment, with fractions and lags of a model put in."""

    time: Float[Array, "*events"]
    state: Int[Array | np.ndarray, "*events"]
    keep: Float[Array | np.ndarray, "*events"]
    shift: Float[Array, "*events"]
    rate: Float[Array, "*events"]

    def happen(self, y: Float[Array, " states"], rate: Float[Array, " states"]) -> tuple[Array, Array]:
        """Return the state after this one event, and the infusion from then on."""
        here = jnp.arange(y.size) == self.state
        return jnp.where(here, self.keep * y + self.shift, y), jnp.where(here, rate + self.rate, rate)


def several(doses: Doses | Sequence[Doses] | None) -> tuple[Doses, ...]:
    """Return doses as a tuple.

    Raises
    ------
    InputError
        If it is anything else.
    """
    found = () if doses is None else (doses,) if isinstance(doses, Doses) else tuple(doses)
    for each in found:
        if not isinstance(each, Doses):
            msg = f"`doses` holds a {type(each).__name__}; expected sd.Doses(...), or several of them in a list."
            raise InputError(msg)
    return found


def schedule(
    doses: Sequence[Doses],
    stepwise: dict[str, Array],
    data: xr.Dataset,
    seen: Observations,
    states: Sequence[str],
    t0: float,
) -> Schedule | None:
    """Return the events of every experiment, or None where nothing happens.

    Raises
    ------
    InputError
        A dose of a state or an experiment that does not exist, or outside the time of the experiment.
    """
    events: list[list[tuple]] = [[] for _ in seen.values]
    for source, group in enumerate(doses):
        check_names("doses", (dose.state for dose in group.doses), states, "no state")
        for dose in group.doses:
            _check_time(dose, t0, seen)
            for experiment in _experiments(dose, data, seen):
                events[experiment] += _events(dose, list(states).index(dose.state), source)
    for u in stepwise.values():
        for experiment, values in enumerate(np.asarray(u)):
            changes = seen.times[1:][np.diff(values) != 0]
            events[experiment] += [(time, *NOTHING[1:]) for time in changes]
    if not any(events):
        return None
    longest = max(map(len, events)) + 1
    table = [sorted(e, key=lambda event: event[0]) + [NOTHING] * (longest - len(e)) for e in events]
    columns = zip(*(zip(*row, strict=True) for row in table), strict=True)
    found = Schedule(*(np.array(column, int if i in (1, 2) else float) for i, column in enumerate(columns)))
    return found._replace(times=_snapped(found.times, seen.times, SAME * (seen.times[-1] - t0)))


def _snapped(times: Any, to: np.ndarray, within: float) -> np.ndarray:
    """Return times with those that differ by rounding from one of `to` replaced by it."""
    nearest = to[np.abs(times[..., None] - to).argmin(axis=-1)]
    return np.where(np.abs(times - nearest) <= within, nearest, times)


def _events(dose: Dose, state: int, source: int) -> list[tuple]:
    at = (dose.time, state, source)
    match dose.kind:
        case "set":
            return [(*at, 0.0, 0.0, dose.amount, 0.0)]
        case "scale":
            return [(*at, dose.amount, 0.0, 0.0, 0.0)]
    if not dose.duration:
        return [(*at, 1.0, dose.amount, 0.0, 0.0)]
    rate, end = dose.amount / dose.duration, dose.time + dose.duration
    return [(*at, 1.0, 0.0, 0.0, rate), (end, state, source, 1.0, 0.0, 0.0, -rate)]


def _check_time(dose: Dose, t0: float, seen: Observations) -> None:
    what = f"A dose of {dose.state!r} is given at {seen.time}={dose.time:g}"
    if dose.time < t0:
        msg = f"{what}, before the solve starts at t0={t0:g}: lower t0, or give the state that follows as `initial`."
        raise InputError(msg)
    if dose.time >= seen.times[-1]:
        msg = f"{what}, and the last time of the data is {seen.times[-1]:g}: nothing could show it. Leave it out, "
        msg += f"lower `repeats`, or give the data a later {seen.time} with missing values."
        raise InputError(msg)


def _experiments(dose: Dose, data: xr.Dataset, seen: Observations) -> list[int]:
    """Return the places of a dose's experiments."""
    if dose.experiments is None:
        return list(range(len(seen.values)))
    if seen.experiment is None:
        msg = f"Doses(experiment={dose.experiments[0]!r}): the data hold one experiment. Leave `experiment` out."
        raise InputError(msg)
    labels = data[seen.experiment].to_numpy().tolist()
    for label in dose.experiments:
        if label not in labels:
            msg = f"Doses(experiment={label!r}): no {seen.experiment} of the data is called that. "
            msg += did_you_mean(str(label), map(str, labels))
            raise InputError(msg)
    return [i for i, label in enumerate(labels) if label in dose.experiments]


def prepared(
    events: Schedule, doses: Sequence[Doses], model: Any, states: Sequence[str], t0: float, end: Real
) -> tuple[Event, Bool[Array, ""]]:
    """Return one experiment's events in the order in which they come with the model's lags, none after `end`.

    Also whether all come at or after `t0`.
    """
    events = Schedule(*map(jnp.asarray, events))
    neutral = jnp.asarray([[1.0] * len(states)]), jnp.asarray([[0.0] * len(states)])
    fractions = jnp.concatenate([*(d.fractions(model, states)[None] for d in doses), neutral[0]])
    fraction, times = fractions[events.source, events.state], events.times
    lagging = any(d.lag is not None for d in doses)
    if lagging:
        lags = jnp.concatenate([*(d.lags(model, states)[None] for d in doses), neutral[1]])
        times = times + lags[events.source, events.state]
    ok = jnp.all(times >= t0)
    times = jnp.where(times >= t0, times, t0)
    times = jnp.where(times < end, times, end)
    found = Event(times, events.state, events.keep, fraction * events.given + events.value, fraction * events.rate)
    if lagging:
        order = jnp.argsort(jax.lax.stop_gradient(times))
        found = jax.tree.map(lambda x: x[order], found)
    return found, ok


def most_saved(events: Schedule, doses: Sequence[Doses], times: Float[np.ndarray, " times"]) -> int:
    """Return how many of the times lie between two events at most; all of them, where lags move the events."""
    if any(d.lag is not None for d in doses):
        return len(times)
    exact = jnp.result_type(float)  # in which they are compared again while solving
    ends, asked = np.minimum(np.asarray(events.times), times[-1]).astype(exact), times.astype(exact)
    return max(int(np.bincount(np.searchsorted(row, asked)).max()) for row in ends)


def check_solver(solver: ODE) -> None:
    """Check that a solver can go from event to event.

    Raises
    ------
    InputError
        If it has an event of its own, or a step size control whose times would be lost.
    """
    if solver.event is not None:
        msg = "ODE(event=...) and doses or stepwise inputs cannot be combined: leave one of them out."
        raise InputError(msg)
    if not isinstance(solver.controller, dfx.PIDController | dfx.ConstantStepSize):
        msg = f"ODE(controller={type(solver.controller).__name__}(...)) cannot be combined with doses or stepwise "
        msg += "inputs, onto which the solver steps by itself: take a diffrax.PIDController or ConstantStepSize."
        raise InputError(msg)


def in_own_time(solver: ODE, gap: Real) -> ODE:
    """Return the solver for a segment of that length whose time goes from zero to one."""
    unit = jax.lax.stop_gradient(jnp.where(jnp.asarray(gap) > 0, gap, 1.0))
    control = solver.controller
    if isinstance(control, dfx.PIDController):
        limits = {name: getattr(control, name) for name in ("dtmin", "dtmax")}
        scaled = {name: limit / unit for name, limit in limits.items() if limit is not None}
        control = _replaced(control, scaled)
    return _replaced(solver, {"controller": control} | ({} if solver.dt0 is None else {"dt0": solver.dt0 / unit}))


def _replaced(module: Any, values: dict[str, Any]) -> Any:
    for name, value in values.items():
        module = eqx.tree_at(lambda m, name=name: getattr(m, name), module, value, is_leaf=lambda x: x is None)
    return module

"""Doses: what is given to, or taken from, states at known times of an experiment."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, ArrayLike, Float

from sciad._errors import InputError, OptionError, check_names, choose

Kind = Literal["add", "set", "scale"]
Numbers = ArrayLike | Sequence[float]
OfModel = Callable[[Any], Any]


class Dose(NamedTuple):
    """One event; `experiments` are labels, None for all."""

    time: float
    amount: float
    state: str
    duration: float
    kind: str
    experiments: tuple[Any, ...] | None


@dataclasses.dataclass(frozen=True, init=False)
class Doses:
    r"""Doses given at known times: to `sciad.ODEProblem`, as ``doses=``.

    With :math:`a` the amount and :math:`F` the fraction, at time :math:`t + \text{lag}`,

    .. math:: x \to x + F a \;\text{(add)}, \qquad x \to a \;\text{(set)}, \qquad x \to a x \;\text{(scale)},

    or, over a duration :math:`d`, :math:`\dot x = f + F a / d` (an infusion). An observation at the very time of a
    dose sees the state before it. The solver steps onto every dose, and onto both ends of every infusion.

    Parameters
    ----------
    state
        The state that is dosed, or one for each dose.
    time, amount
        Number, or vector with a number for each dose; in the units of the data's time, and of the state.
    duration
        How long each dose takes; zero for one that is there at once.
    rate
        In place of the duration: amount for each unit of time.
    every, repeats
        Each dose is given again `repeats` times, `every` so many units of time.
    kind
        ``"add"``, ``"set"`` (the state becomes `amount`) or ``"scale"`` (it is multiplied by it).
    experiment
        Label, or labels, of the experiments along that dimension of the data; default: all.
    fraction
        Function from the model to the factor F of added amounts, as a dictionary from state to number, such as
        ``lambda model: {"gut": model.bioavailability}``, or one number for all states; default: one.
    lag
        The same for the time by which doses come later, at least zero; default: zero. A solve with a negative lag
        fails.

    Raises
    ------
    InputError
        A number that is missing, infinite or impossible.
    OptionError
        Options that cannot be combined.

    Notes
    -----
    Solutions are differentiable in fraction and lag. At a lag that brings a dose to the very time of an observation of
    the state it jumps in, the derivative in the lag does not exist; that of the prediction before the dose is given.

    Examples
    --------
    >>> import jax, sciad as sd, xarray as xr
    >>> jax.config.update("jax_enable_x64", True)
    >>> data = xr.Dataset({"drug": ("hour", [0.0, 4.0, 4.0])}, coords={"hour": [0.0, 1.0, 2.0]})
    >>> twice = Doses("drug", time=0.0, amount=8.0, every=1.0, repeats=1)
    >>> problem = sd.ODEProblem(data, doses=twice, noise=sd.Normal(), initial={"drug": 0.0})
    >>> halving = lambda t, y: -jnp.log(2.0) * y
    >>> problem.predict(halving).mean[0, :, 0].round(3).tolist()
    [0.0, 4.0, 6.0]
    """

    doses: tuple[Dose, ...]
    fraction: OfModel | None
    lag: OfModel | None

    def __init__(
        self,
        state: str | Sequence[str],
        *,
        time: Numbers,
        amount: Numbers,
        duration: Numbers | None = None,
        rate: Numbers | None = None,
        every: Numbers | None = None,
        repeats: Numbers = 0,
        kind: Kind | str = "add",
        experiment: Any = None,
        fraction: OfModel | None = None,
        lag: OfModel | None = None,
    ) -> None:
        kind = choose("kind", kind, get_args(Kind))
        if duration is not None and rate is not None:
            msg = "Doses(duration=..., rate=...): give one of them; the other follows from the amount."
            raise OptionError(msg)
        if kind != "add" and (duration is not None or rate is not None or fraction is not None):
            msg = f"Doses(kind={kind!r}) happens at once, and by the very number given: leave out `duration`, `rate` "
            msg += "and `fraction`, or take kind='add'."
            raise OptionError(msg)
        given = {"time": time, "amount": amount, "repeats": repeats, "every": 0.0 if every is None else every}
        given |= {"duration": 0.0 if duration is None else duration} if rate is None else {"rate": rate}
        table = _broadcast({name: _numbers(name, values) for name, values in given.items()}, state)
        if rate is not None:
            table["duration"] = _durations(table.pop("rate"), table["amount"])
        _check(table)
        self._filled(tuple(_each(table, kind, _labels(experiment))), fraction, lag)

    @classmethod
    def from_table(
        cls,
        frame: pd.DataFrame,
        *,
        time: str,
        amount: str,
        state: str,
        duration: str | None = None,
        rate: str | None = None,
        every: str | None = None,
        repeats: str | None = None,
        experiment: str | None = None,
        fraction: OfModel | None = None,
        lag: OfModel | None = None,
    ) -> "Doses":
        """Read doses from a table, one a row, as files of pharmacometrics hold them; arguments name its columns.

        Rows whose amount is missing or zero are no doses (they hold the observations), and are left out. A duration or
        rate that is missing or zero means at once; `every` or `repeats` missing or zero, once.

        Parameters
        ----------
        frame
            The table.
        time, amount, duration, rate, every, repeats, experiment
            Names of columns; in NONMEM's files often TIME, AMT, DUR, RATE, II, ADDL and ID.
        state
            Name of a column that holds names of states as text, or else the state that all doses go to.
        fraction, lag
            As in `Doses`.

        Raises
        ------
        InputError
            A column that is not there, no dose at all, or a number that is missing or impossible.

        Examples
        --------
        >>> frame = pd.DataFrame({"ID": ["a", "a", "b"], "TIME": [0.0, 1.0, 0.0], "AMT": [5.0, 0.0, 7.0]})
        >>> table = Doses.from_table(frame, time="TIME", amount="AMT", state="gut", experiment="ID")
        >>> [(dose.experiments, dose.amount) for dose in table.doses]
        [(('a',), 5.0), (('b',), 7.0)]
        """
        if not isinstance(frame, pd.DataFrame):
            msg = f"`frame` is a {type(frame).__name__}; expected a pandas.DataFrame."
            raise InputError(msg)
        columns = {"time": time, "amount": amount, "duration": duration, "rate": rate, "every": every}
        columns |= {"repeats": repeats, "experiment": experiment}
        columns = {argument: column for argument, column in columns.items() if column is not None}
        for argument, column in columns.items():
            check_names(argument, [column], frame.columns, "no column of the table")
        there = np.nan_to_num(_coerced(frame[amount])) != 0.0
        if not there.any():
            msg = f"No row of the table has an amount in {amount!r}: there is no dose."
            raise InputError(msg)
        parts = [_of_row(cls, row, columns, state) for _, row in frame[there].iterrows()]
        return cls.__new__(cls)._filled(tuple(dose for part in parts for dose in part.doses), fraction, lag)

    def _filled(self, doses: tuple[Dose, ...], fraction: OfModel | None, lag: OfModel | None) -> "Doses":
        for name, value in (("doses", doses), ("fraction", fraction), ("lag", lag)):
            object.__setattr__(self, name, value)
        return self

    def fractions(self, model: Any, states: Sequence[str]) -> Float[Array, " states"]:
        """Return the factor of amounts added to each state."""
        return _of_model("fraction", self.fraction, model, states, 1.0)

    def lags(self, model: Any, states: Sequence[str]) -> Float[Array, " states"]:
        """Return the time by which doses of each state come later."""
        return _of_model("lag", self.lag, model, states, 0.0)


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        numbers = np.asarray(values, float)
    except (TypeError, ValueError):
        msg = f"Doses({name}={values!r}): expected numbers."
        raise InputError(msg) from None
    if not np.isfinite(numbers).all():
        msg = f"Doses({name}=...) holds {np.sum(~np.isfinite(numbers))} missing or infinite values: every dose needs "
        msg += f"its {name}."
        raise InputError(msg)
    return numbers


def _broadcast(numbers: dict[str, np.ndarray], state: str | Sequence[str]) -> dict[str, np.ndarray]:
    """Return each as a vector with an entry for each dose."""
    columns = numbers | {"state": np.asarray(state, object)}
    sizes = {name: array.size for name, array in columns.items() if array.ndim}
    try:
        arrays = np.broadcast_arrays(*(np.atleast_1d(array) for array in columns.values()))
    except ValueError:
        arrays = []
    if not arrays or arrays[0].ndim > 1:
        listed = ", ".join(f"{size} in {name}" for name, size in sizes.items())
        msg = f"Doses(...) got different numbers of values ({listed}): give one for each dose, or one for all."
        raise InputError(msg)
    return dict(zip(columns, arrays, strict=True))


def _durations(rate: np.ndarray, amount: np.ndarray) -> np.ndarray:
    if not np.all(rate > 0) or not np.all(amount > 0):
        msg = f"Doses(rate=...): rates and amounts must be positive; got {rate.min():g} and {amount.min():g} as the "
        msg += "smallest. To take something away, give a negative amount and its duration."
        raise InputError(msg)
    return amount / rate


def _check(table: dict[str, np.ndarray]) -> None:
    repeats, every, duration = table["repeats"], table["every"], table["duration"]
    if np.any(duration < 0):
        msg = f"Doses(duration=...): a duration is {duration.min():g}; expected at least zero."
        raise InputError(msg)
    if np.any(repeats < 0) or np.any(repeats != np.round(repeats)):
        msg = f"Doses(repeats={repeats.tolist()}): expected whole numbers of at least zero."
        raise InputError(msg)
    if np.any((repeats > 0) & ~(every > 0)):
        msg = "Doses(repeats=...) needs the time from one dose to the next: give a positive `every`."
        raise InputError(msg)
    if np.any((every != 0) & (repeats == 0)):
        msg = "Doses(every=...) needs the number of times that the dose is given again: give `repeats`."
        raise InputError(msg)


def _labels(experiment: Any) -> tuple[Any, ...] | None:
    if experiment is None:
        return None
    return tuple(np.atleast_1d(np.asarray(experiment, object)).tolist())


def _each(table: dict[str, np.ndarray], kind: str, labels: tuple[Any, ...] | None) -> list[Dose]:
    rows = zip(*(table[c].tolist() for c in ("time", "amount", "state", "duration", "every", "repeats")), strict=True)
    return [
        Dose(time + i * every, amount, str(state), duration, kind, labels)
        for time, amount, state, duration, every, repeats in rows
        for i in range(int(repeats) + 1)
    ]


def _of_row(cls: type[Doses], row: pd.Series, columns: dict[str, str], state: str) -> Doses:
    numbers = {a: float(_coerced(row[c])) for a, c in columns.items() if a != "experiment"}
    absent = [a for a in ("duration", "rate", "every", "repeats") if not abs(numbers.get(a, 0.0)) > 0]
    absent += [a for a, b in (("every", "repeats"), ("repeats", "every")) if b in absent]
    given: dict[str, Any] = {a: number for a, number in numbers.items() if a not in absent}
    label = row[columns["experiment"]] if "experiment" in columns else None
    named = state in row.index and isinstance(row[state], str)  # a column of numbers may be called as the state is
    return cls(str(row[state]) if named else state, experiment=label, **given)


def _coerced(values: Any) -> np.ndarray:
    """Return numbers, NaN for what is none: files write a dot for a missing value."""
    return np.asarray(pd.to_numeric(values, errors="coerce"), float)


def _of_model(
    name: str, function: OfModel | None, model: Any, states: Sequence[str], default: float
) -> Float[Array, " states"]:
    """Return what a function of the model gives for each state."""
    found = {} if function is None else function(model)
    found = found if isinstance(found, Mapping) else dict.fromkeys(states, found)
    check_names(name, found, states, "no state")
    values = {state: jnp.asarray(value, jnp.result_type(float)) for state, value in found.items()}
    for state, value in values.items():
        if value.ndim:
            msg = f"`{name}` gives an array of shape {value.shape} for {state!r}; expected one number."
            raise InputError(msg)
    return jnp.stack([values.get(state, jnp.asarray(default, jnp.result_type(float))) for state in states])

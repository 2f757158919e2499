"""A dataset as arrays over (experiment, time, field), checked for what would spoil a fit."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Array, Bool, Float

from sciad._errors import InputError, choose, did_you_mean

Way = Literal["constant", "linear", "step"]


class Observations(NamedTuple):
    """Values of the observed fields; NaN, and false in `observed`, where there is none."""

    time: str
    experiment: str | None
    times: Float[np.ndarray, " times"]
    values: Float[np.ndarray, "experiments times fields"]
    observed: Bool[np.ndarray, "experiments times fields"]

    @property
    def smallest(self) -> float:
        """Root mean square of the field of the smallest values, or one if it is above or all are zero."""
        squares = np.sum(np.square(self.values), axis=(0, 1), where=self.observed)
        sizes = np.sqrt(squares / np.maximum(np.sum(self.observed, axis=(0, 1)), 1))
        return float(min([1.0, *sizes[sizes > 0]]))


def check_dataset(data: Any) -> None:
    """Check that data are a dataset.

    Raises
    ------
    InputError
        If not, with the way there.
    """
    if not isinstance(data, xr.Dataset):
        way = "`sciad.read` makes one from a file."
        if isinstance(data, pd.DataFrame):
            way = 'Write xr.Dataset.from_dataframe(df.set_index("t")), with the column of the time for "t".'
        elif isinstance(data, dict | list | tuple | np.ndarray):
            way = 'Write xr.Dataset({"y": ("t", values)}, coords={"t": times}), with your names, or read a file.'
        msg = f"`data` is a {type(data).__name__}; expected an xarray.Dataset. {way}"
        raise InputError(msg)


def observations(
    data: xr.Dataset, fields: Sequence[str], time: str | None, experiment: str | None, t0: float | None
) -> Observations:
    """Take the fields out of a dataset with a time, and perhaps an experiment, dimension.

    Raises
    ------
    InputError
        If a field is missing or not numeric, dimensions do not fit, times are not ascending, distinct and at or after
        `t0`, or nothing is observed.
    """
    check_dataset(data)
    for field in fields:
        _check_variable(data, field, "variable")
    time, experiment = _dimensions(data, fields, time, experiment)
    times = _times(data, time, t0)
    order = ([experiment] if experiment else []) + [time]
    for field in fields:
        if set(data[field].dims) != set(order):
            msg = f"{field!r} has dimensions {data[field].dims}; expected {tuple(order)}, as other fields have."
            raise InputError(msg)
    values = np.stack([data[f].transpose(*order).to_numpy().astype(float) for f in fields], axis=-1)
    values = values if experiment else values[None]
    if np.isinf(values).any():
        msg = f"The data hold {np.isinf(values).sum()} infinite values: correct them, or make them NaN, which means "
        msg += "not observed."
        raise InputError(msg)
    observed = ~np.isnan(values)
    if not observed.any():
        msg = f"No observation is left of {', '.join(fields)}: every value is missing."
        raise InputError(msg)
    return Observations(time, experiment, times, values, observed)


def input_arrays(data: xr.Dataset, names: Sequence[str], seen: Observations) -> dict[str, Array]:
    """Return inputs with a leading experiment axis, and a time axis if they change.

    Raises
    ------
    InputError
        If an input is missing, not numeric, not known everywhere, or has other dimensions.
    """
    arrays = {}
    for name in (names,) if isinstance(names, str) else names:
        _check_variable(data, name, "input")
        allowed = [dim for dim in (seen.experiment, seen.time) if dim]
        extra = [str(dim) for dim in data[name].dims if dim not in allowed]
        if extra:
            msg = f"Input {name!r} has dimension {', '.join(extra)}; expected {' and '.join(allowed)} at most."
            raise InputError(msg)
        dims = [dim for dim in allowed if dim in data[name].dims]
        array = data[name].transpose(*dims).to_numpy().astype(float)
        if not np.isfinite(array).all():
            msg = f"Input {name!r} has missing or infinite values: an input must be known everywhere."
            raise InputError(msg)
        experiments = seen.values.shape[0]
        by_experiment = seen.experiment in dims
        with jax.ensure_compile_time_eval():  # no traced arrays, even while something is traced
            arrays[name] = jnp.asarray(array if by_experiment else np.broadcast_to(array, (experiments, *array.shape)))
    return arrays


def ways(how: Mapping[str, str], arrays: Mapping[str, Array]) -> tuple[str, ...]:
    """Return the inputs that go stepwise, once each is known to change over time, or not, as its word says.

    Raises
    ------
    InputError
        If an input said to be constant has a time axis, or one said to change has none.
    """
    for name, way in how.items():
        changes = arrays[name].ndim > 1
        if changes != (choose(f"inputs[{name!r}]", way, get_args(Way)) != "constant"):
            msg = f"inputs[{name!r}] is {way!r}, and the variable {'changes' if changes else 'does not change'} over "
            msg += "time. " + ("Take 'linear' or 'step'." if changes else "Take 'constant'.")
            raise InputError(msg)
    return tuple(name for name, way in how.items() if way == "step")


def _check_variable(data: xr.Dataset, name: str, what: str) -> None:
    if name not in data.variables:
        msg = f"The data have no {what} {name!r}. {did_you_mean(name, map(str, data.data_vars))}"
        raise InputError(msg)
    if data[name].dtype.kind not in "fiub":
        msg = f"{name!r} holds {_kind(data[name].dtype)}, not numbers: convert it, or leave it out."
        raise InputError(msg)


def _kind(dtype: np.dtype) -> str:
    return "dates" if dtype.kind in "mM" else "text" if dtype.kind in "OUST" else str(dtype)


def _dimensions(
    data: xr.Dataset, fields: Sequence[str], time: str | None, experiment: str | None
) -> tuple[str, str | None]:
    dims = [str(d) for d in dict.fromkeys(d for f in fields for d in data[f].dims)]
    for name in filter(None, (time, experiment)):
        if name not in dims:
            msg = f"The observed fields have no dimension {name!r}. {did_you_mean(name, dims)}"
            raise InputError(msg)
    if time is None:
        rest = [d for d in dims if d != experiment]
        time = next((d for d in rest if d in ("time", "t")), rest[0] if len(rest) == 1 else None)
    if time is None:
        msg = f"Which of the dimensions {', '.join(dims)} is time? Say `time=`."
        raise InputError(msg)
    others = [d for d in dims if d not in (time, experiment)]
    if experiment is None and len(others) == 1:
        experiment, others = others[0], []
    if others:
        msg = f"Dimensions {', '.join(others)} are neither time nor experiment: select or average over them first."
        raise InputError(msg)
    return time, experiment


def _times(data: xr.Dataset, time: str, t0: float | None) -> Float[np.ndarray, " times"]:
    times = data[time].to_numpy()
    if times.dtype.kind in "mM":
        msg = f"{time!r} holds dates; an equation needs numbers. Read the file with `time_unit='day'`, or convert."
        raise InputError(msg)
    if times.dtype.kind not in "fiu":
        msg = f"{time!r} holds {_kind(times.dtype)}; expected times as numbers."
        raise InputError(msg)
    times = times.astype(float)
    if times.size == 0:
        msg = f"No data are left: {time!r} is empty."
        raise InputError(msg)
    if not np.isfinite(times).all():
        msg = f"{time!r} has {np.sum(~np.isfinite(times))} missing or infinite times: drop these entries."
        raise InputError(msg)
    back = np.flatnonzero(np.diff(times) <= 0)
    if back.size:
        before, after = times[back[0]], times[back[0] + 1]
        msg = f"{time!r} {'repeats' if before == after else 'goes back'} at entry {back[0] + 1} ({after:g} after "
        msg += f"{before:g}): times must ascend. Sort them (`data.sortby`), and average repeated ones or give them an "
        msg += "experiment dimension."
        raise InputError(msg)
    if t0 is not None and not times[0] >= t0:
        msg = f"{np.sum(~(times >= t0))} of {times.size} observations lie before t0={t0:g}, the first at {times[0]:g}, "
        msg += "and the solve starts at t0. Lower t0 or drop them."
        raise InputError(msg)
    return times

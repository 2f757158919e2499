"""A dataset as arrays over (experiment, time, field), checked for what would spoil a fit."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from sciad._errors import InputError, did_you_mean


class Observations(NamedTuple):
    """Values of the observed fields; NaN, and false in `observed`, where there is none."""

    time: str
    experiment: str | None
    times: Float[np.ndarray, " times"]
    values: Float[np.ndarray, "experiments times fields"]
    observed: Bool[np.ndarray, "experiments times fields"]


def observations(
    data: xr.Dataset, fields: Sequence[str], time: str | None, experiment: str | None, t0: float | None
) -> Observations:
    """Take the fields out of a dataset with a time, and perhaps an experiment, dimension.

    Raises
    ------
    InputError
        If a field is missing or not numeric, dimensions do not fit, times are not ascending, distinct and at or after `t0`,
        or nothing is observed.
    """
    if not isinstance(data, xr.Dataset):
        msg = f"`data` is a {type(data).__name__}; expected an xarray.Dataset. `sciad.read` makes one from a file."
        raise InputError(msg)
    for field in fields:
        if field not in data.data_vars:
            msg = f"The data have no variable {field!r}. {did_you_mean(field, map(str, data.data_vars))}"
            raise InputError(msg)
        if data[field].dtype.kind not in "fiub":
            msg = f"{field!r} holds {data[field].dtype}, not numbers: convert or drop the column."
            raise InputError(msg)
    time, experiment = _dimensions(data, fields, time, experiment)
    times = _times(data, time, t0)
    order = ([experiment] if experiment else []) + [time]
    values = np.stack([data[f].transpose(*order).to_numpy().astype(float) for f in fields], axis=-1)
    values = values if experiment else values[None]
    if np.isinf(values).any():
        msg = "The data hold infinite values: correct them, or make them NaN and read with missing='mask'."
        raise InputError(msg)
    observed = ~np.isnan(values)
    if not observed.any():
        msg = f"No observation is left of {', '.join(fields)}: every value is missing."
        raise InputError(msg)
    return Observations(time, experiment, times, values, observed)


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
    times = times.astype(float)
    if times.size == 0:
        msg = f"No data are left: {time!r} is empty."
        raise InputError(msg)
    steps = np.diff(times)
    if (steps <= 0).any():
        at = int(np.argmax(steps <= 0)) + 1
        what = "repeats" if steps[at - 1] == 0 else "goes back"
        msg = (
            f"{time!r} {what} at entry {at} ({times[at]:g} after {times[at - 1]:g}): times must ascend. Sort them "
            "(`data.sortby`), and average repeated ones or give them an experiment dimension."
        )
        raise InputError(
            msg
        )
    if t0 is not None and times[0] < t0:
        msg = (
            f"{int((times < t0).sum())} observations lie before t0={t0:g}, the first at {times[0]:g}: the solve starts at t0. "
            "Lower t0 or drop them."
        )
        raise InputError(
            msg
        )
    return times

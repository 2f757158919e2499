"""`read`: observations from a file, as an xarray.Dataset with named coordinates and units."""

import hashlib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import xarray as xr

from sciad._errors import InputError, check_names, choose
from sciad._files import Format, find_format, read_arrays
from sciad._table import from_table

Missing: TypeAlias = Literal["error", "drop", "mask"]
TimeUnit: TypeAlias = Literal["second", "minute", "hour", "day", "week", "year"]
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "year": 31557600}  # Julian year


def read(
    path: str | PathLike[str],
    *,
    coords: str | Sequence[str],
    variables: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    missing: Missing | str = "error",
    sort: bool = False,
    rows: bool = False,
    time_unit: TimeUnit | str | None = None,
    format: Format | str | None = None,
) -> xr.Dataset:
    r"""Read observations from a CSV, TSV, Parquet, netCDF or Zarr file.

    Parameters
    ----------
    path
        The file. Text files may have lines that start with ``#``; they become ``attrs["comment"]``.
    coords
        The coordinate, or several: the rows of a table are then laid out on their grid. Numbers or dates; with several
        coordinates also text, such as the name of an experiment.
    variables
        The variables to take; None takes all that are not coordinates.
    units
        Units by name, kept as ``attrs["units"]``. By default those of the file: in tables, a header such as
        ``hare [thousand pelts]`` or ``mass (kg)`` gives name and units.
    missing
        What to do where a value is missing: ``"error"``; ``"drop"`` the row; or ``"mask"``, which keeps it as NaN, for
        problems to leave out. Absent combinations of several coordinates are missing values too.
    sort
        Whether to sort by an unsorted coordinate, which is otherwise an error.
    rows
        Whether each row of a table is a place of its own, in any order, as where a field was observed at scattered
        points: variables and coordinates then lie along ``row``, and no grid is made.
    time_unit
        Turns coordinates that are dates into numbers of this unit since the first date, which is kept as
        ``attrs["origin"]``. A year has 365.25 days. By default dates stay dates; problems need numbers.
    format
        The format, where the suffix does not tell it.

    Returns
    -------
    xarray.Dataset
        Variables and numeric coordinates are float64; coordinates increase.

    Raises
    ------
    InputError
        If the file is missing, unreadable, of unknown suffix or empty; a name is not in it; a variable is no number;
        a value is missing or infinite; a coordinate is missing, unsorted or repeated. The message says where, and
        what to do.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "pelts.csv"
    >>> _ = path.write_text("year,hare [thousand],lynx [thousand]\n1900,30,4\n1901,47.2,6.1\n")
    >>> data = read(path, coords="year")
    >>> data["hare"].values, data["hare"].attrs["units"]
    (array([30. , 47.2]), 'thousand')
    """
    path = Path(path)
    names = [coords] if isinstance(coords, str) else list(coords)
    choose("missing", missing, get_args(Missing))
    if time_unit is not None:
        choose("time_unit", time_unit, get_args(TimeUnit))
    if not names:
        msg = f"`coords` is {coords!r}. Expected the name of at least one coordinate."
        raise InputError(msg)
    kind = find_format(path, format)
    if kind in ("netcdf", "zarr"):
        if rows:
            msg = f"rows=True is of tables, and {path.name} holds arrays. Leave it out, or open it with xarray."
            raise InputError(msg)
        data = _from_arrays(path, kind, names, variables, missing)
    else:
        data = from_table(path, kind, names, variables, missing, rows=rows)
    data = _checked_coords(data, names, sort=sort, rows=rows, time_unit=time_unit)
    data = _checked_values(data, missing)
    check_names("units", units or {}, data.variables)
    for name, unit in (units or {}).items():
        data[name].attrs["units"] = unit
    data.attrs["file"] = path.name
    return data


def fingerprint(data: xr.Dataset) -> str:
    """Return the SHA-256 of a dataset's names, dimensions and values; attributes do not count.

    Examples
    --------
    >>> import xarray as xr
    >>> fingerprint(xr.Dataset({"a": ("t", [1.0, 2.0])}))[:8] == fingerprint(xr.Dataset({"a": ("t", [1.0, 2.5])}))[:8]
    False
    """
    digest = hashlib.sha256()
    for name in sorted(map(str, data.variables)):
        variable = data[name]
        values = variable.values
        values = values.astype(str).astype("<U") if values.dtype.kind in "OUT" else values
        values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
        digest.update(repr((name, variable.dims, values.dtype.str, values.shape)).encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


# Arrays


def _from_arrays(
    path: Path, kind: Format, names: list[str], variables: Sequence[str] | None, missing: str
) -> xr.Dataset:
    data = read_arrays(path, kind)
    check_names("coords", names, data.variables)
    check_names("variables", variables or (), data.variables)
    for name in names:
        if data[name].ndim == 1 and name not in data.dims:
            data = data.swap_dims({data[name].dims[0]: name})
    taken = list(variables) if variables is not None else [str(name) for name in data.data_vars]
    data = data[taken].reset_coords(drop=True).assign_coords({name: data[name] for name in names})
    extra = [str(dim) for dim in data.dims if dim not in names]
    if extra or not taken or not all(data.sizes.values()):
        msg = f"{path.name} has variables {taken} on {dict(data.sizes)}. Expected values on {names} only."
        raise InputError(msg)
    for name in taken:
        if data[name].dtype.kind not in "biuf":
            msg = f"Variable {name!r} has dtype {data[name].dtype}. Expected numbers. Leave it out with `variables=`."
            raise InputError(msg)
        data[name] = data[name].astype("float64")
    for name in names:
        if data[name].dtype.kind in "iu":
            data = data.assign_coords({name: data[name].astype("float64")})
    if missing == "drop" and len(names) > 1:
        msg = f"missing='drop' needs one coordinate, not {names}. Use missing='mask'."
        raise InputError(msg)
    return data.dropna(names[0]) if missing == "drop" else data


# Checks that both share


def _checked_coords(data: xr.Dataset, names: list[str], *, sort: bool, rows: bool, time_unit: str | None) -> xr.Dataset:
    dated = [name for name in names if data[name].dtype.kind == "M"]
    if time_unit is not None and not dated:
        msg = f"time_unit={time_unit!r}, but none of the coordinates {names} holds dates. Remove `time_unit`."
        raise InputError(msg)
    if not data.sizes or not all(data.sizes.values()):
        msg = "No rows are left once those with missing values are dropped. Use missing='mask', or fewer `variables`."
        raise InputError(msg)
    for name in names:
        values = data[name].values
        if values.dtype.kind not in "fM":
            continue
        if np.any(np.isnan(values)) or (values.dtype.kind == "f" and np.any(np.isinf(values))):
            msg = f"Coordinate {name!r} holds NaN or infinite values. Expected finite ones. Remove those entries."
            raise InputError(msg)
        data = data if rows else _ordered(data, name, sort=sort)
        if time_unit is not None and name in dated:
            data = _numbered(data, name, time_unit)
    return data


def _ordered(data: xr.Dataset, name: str, *, sort: bool) -> xr.Dataset:
    values = data[name].values
    steps = np.diff(values)
    zero = np.zeros((), steps.dtype)
    if np.any(steps < zero):
        if not sort:
            first = int(np.argmax(steps < zero))
            msg = (
                f"Coordinate {name!r} is not sorted: {values[first]} comes before {values[first + 1]}. "
                "Expected increasing values. Sort the file, or pass `sort=True`."
            )
            raise InputError(msg)
        data = data.sortby(name)
    if np.any(np.diff(data[name].values) == zero):
        msg = f"Coordinate {name!r} repeats a value. Expected each once. Average, or name a further coordinate."
        raise InputError(msg)
    return data


def _numbered(data: xr.Dataset, name: str, unit: str) -> xr.Dataset:
    dates = data[name].values
    elapsed = (dates - dates.min()) / np.timedelta64(1, "s") / _SECONDS[unit]
    attrs = {**data[name].attrs, "units": unit, "origin": str(dates.min())}
    return data.assign_coords({name: (data[name].dims, elapsed, attrs)})


def _checked_values(data: xr.Dataset, missing: str) -> xr.Dataset:
    for name, variable in data.data_vars.items():
        for bad, what, cure in (
            (np.isinf(variable.values), "infinite", "Correct them"),
            (np.isnan(variable.values), "missing", "Choose missing='drop' or missing='mask'"),
        ):
            if np.any(bad) and not (what == "missing" and missing == "mask"):
                first = dict(zip(variable.dims, np.argwhere(bad)[0], strict=True))
                where = ", ".join(f"{dim}={data[dim].values[i]}" for dim, i in first.items())
                msg = f"Variable {name!r} has {int(bad.sum())} {what} values, the first at {where}. {cure}."
                raise InputError(msg)
    return data

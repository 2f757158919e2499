"""Tables of observations as an xarray.Dataset: headers, numbers, dates and grids."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from sciad._errors import InputError, check_names
from sciad._files import Format, parse_header, read_table


def from_table(
    path: Path, kind: Format, names: list[str], variables: Sequence[str] | None, missing: str, *, rows: bool
) -> xr.Dataset:
    """Read a table, with units and comment as attributes; lay it out on the grid of its coordinates, or row by row."""
    table = read_table(path, kind)
    headers = {column: parse_header(str(column)) for column in table.columns}
    units = dict(headers.values())
    table = table.rename(columns={column: name for column, (name, _) in headers.items()})
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        msg = f"{path.name} has two columns {twice!r}. Rename one of them."
        raise InputError(msg)
    check_names("coords", names, list(table.columns))
    check_names("variables", variables or (), list(table.columns))
    taken = list(variables) if variables is not None else [c for c in table.columns if c not in names]
    if table.empty or not taken:
        msg = f"{path.name} has {len(table)} rows and {len(taken)} variables. Expected at least one of each."
        raise InputError(msg)
    columns = {name: _coordinate(pd.Series(table[name]), labels=len(names) > 1 and not rows) for name in names}
    columns |= {name: _numbers(pd.Series(table[name])) for name in taken}
    comment = table.attrs.get("comment")
    table = pd.DataFrame(columns)
    if missing == "drop":
        table = table.dropna()
    data = _lines(table, names) if rows else _grid(table, names)
    for name in data.variables:
        if units[str(name)]:
            data[name].attrs["units"] = units[str(name)]
    if comment:
        data.attrs["comment"] = comment
    return data


def _is_text(column: pd.Series) -> bool:
    return column.dtype.kind == "O" or column.dtype.name in ("str", "string", "category")


def _numbers(column: pd.Series) -> pd.Series:
    numbers = pd.Series(pd.to_numeric(column, errors="coerce")) if _is_text(column) else column
    bad = numbers.isna() & column.notna()
    if bad.any() or (column.dtype.kind not in "Obiuf" and not _is_text(column)):
        row = int(np.argmax(bad.to_numpy())) if bad.any() else 0
        msg = (
            f"Column {column.name!r} holds {column.iloc[row]!r} in row {row + 1}. Expected numbers. "
            "Correct it, or leave the column out with `variables=`."
        )
        raise InputError(msg)
    return numbers.astype("float64")


def _coordinate(column: pd.Series, *, labels: bool) -> pd.Series:
    if column.isna().any():
        row = int(np.argmax(column.isna().to_numpy()))
        msg = f"Coordinate {column.name!r} is missing in row {row + 1}. Fill it, or remove the row."
        raise InputError(msg)
    if not _is_text(column):
        return column if column.dtype.kind == "M" else column.astype("float64")
    try:
        return pd.to_datetime(column, format="ISO8601")
    except (ValueError, TypeError):
        return column.astype(object) if labels else _numbers(column)


def _check_repeats(table: pd.DataFrame, names: list[str]) -> None:
    again = table.duplicated(subset=names)
    if again.any():
        first = table.loc[again, names].iloc[0]
        where = ", ".join(f"{name}={first[name]}" for name in names)
        msg = (
            f"{int(again.sum())} rows repeat a coordinate, first {where}. Expected one row for each. "
            "Name a further coordinate that tells them apart, such as `coords=('experiment', 'time')`, or average them."
        )
        raise InputError(msg)


def _lines(table: pd.DataFrame, names: list[str]) -> xr.Dataset:
    return xr.Dataset({str(name): ("row", table[name].to_numpy()) for name in table}).set_coords(names)


def _grid(table: pd.DataFrame, names: list[str]) -> xr.Dataset:
    _check_repeats(table, names)
    if len(names) == 1:
        return table.set_index(names[0]).to_xarray()
    levels = [np.asarray(table[name].unique()) for name in names]
    levels = [level if level.dtype.kind == "O" else np.sort(level) for level in levels]
    full = pd.MultiIndex.from_product(levels, names=names)
    data = table.set_index(names).reindex(full).to_xarray()
    return data.reindex(dict(zip(names, levels, strict=True)))  # to_xarray may sort labels

"""Files of observations as raw tables or arrays: what is on disk, unchecked."""

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import pandas as pd
import xarray as xr

from sciad._errors import InputError, choose, did_you_mean

T = TypeVar("T")
Format: TypeAlias = Literal["csv", "tsv", "parquet", "netcdf", "zarr"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".nc": "netcdf",
    ".nc4": "netcdf",
    ".h5": "netcdf",
    ".zarr": "zarr",
}
_HEADER = re.compile(r"^(?P<name>.+?)(\s*\[(?P<square>[^\]]*)\]|\s+\((?P<round>[^)]*)\))$")


def find_format(path: Path, format: str | None) -> Format:
    """Return the format that was asked for, else that of the suffix."""
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        msg = f"No file {path}. {did_you_mean(path.name, siblings)}"
        raise InputError(msg)
    if format is not None:
        return choose("format", format, get_args(Format))
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        msg = f"{path.name} has the suffix {path.suffix!r}. Expected one of {known}; or name the format with `format=`."
        raise InputError(msg)
    return SUFFIXES[path.suffix.lower()]


def read_table(path: Path, format: Format) -> pd.DataFrame:
    """Read CSV, TSV or Parquet; lines of text that start with ``#`` are kept as ``attrs["comment"]``."""
    if format == "parquet":
        return _guarded(path, lambda: pd.read_parquet(path))
    lines = _guarded(path, lambda: path.read_text(encoding="utf-8-sig")).splitlines(keepends=True)
    body = "".join(line for line in lines if not line.startswith("#"))
    if not body.strip():
        msg = f"{path.name} is empty. Expected a line of column names and at least one row."
        raise InputError(msg)
    separator = "\t" if format == "tsv" else ","
    table = _guarded(
        path, lambda: pd.read_csv(io.StringIO(body), sep=separator, skipinitialspace=True, index_col=False)
    )
    table.attrs["comment"] = "\n".join(line[1:].strip() for line in lines if line.startswith("#"))
    return table


def read_arrays(path: Path, format: Format) -> xr.Dataset:
    """Read netCDF or Zarr into memory."""
    # A store on disk needs no consolidated metadata, whose absence would draw a warning.
    options: dict[str, Any] = {"engine": "zarr", "consolidated": False} if format == "zarr" else {}
    return _guarded(path, lambda: xr.load_dataset(path, **options))


def _guarded(path: Path, load: Callable[[], T]) -> T:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return load()
    except pd.errors.ParserWarning as error:
        msg = f"{path.name} has a row with more entries than there are column names. Write decimals with a point, put "
        msg += "text that holds a comma in quotes, or name the format with `format=`."
        raise InputError(msg) from error
    except Exception as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        msg = f"{path.name} cannot be read: {reason}. Check the file, or name its format with `format=`."
        raise InputError(msg) from error


def parse_header(header: str) -> tuple[str, str]:
    """Split a column's header into its name and its units.

    Examples
    --------
    >>> parse_header("hare [thousand pelts]"), parse_header("mass (kg)"), parse_header("year")
    (('hare', 'thousand pelts'), ('mass', 'kg'), ('year', ''))
    """
    match = _HEADER.match(header.strip())
    if match is None:
        return header.strip(), ""
    return match["name"].strip(), (match["square"] or match["round"] or "").strip()

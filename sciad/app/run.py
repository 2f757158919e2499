"""A run: the folder of a study's settings, log, results and report, readable by people and safe from crashes."""

import dataclasses
import datetime
import os
import re
import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr

from sciad._atomic import read_json, replacing, write_json, write_text
from sciad._data import fingerprint
from sciad._errors import InputError

try:  # Windows has no fcntl; there two runs of one name are told apart only by their folders.
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """The folder ``<root>/<name>/`` of one run.

    ============================  =================================================================
    ``settings.json``             the study and every setting, those left at their defaults too
    ``environment.json``          Python, platform, processor count and the versions of the packages
    ``data.json``, ``data.nc``    the data's fingerprint, and the data as the model saw them
    ``log.txt``                   what was said, with the time
    ``fit.json``, ``fit.nc``      the fit: values and errors; residuals, prediction, covariance
    ``model.json``                what was assumed, in words
    ``program.npz``               of a field that is trained: the program, for `sciad.load`
    ``posterior.nc``              the draws, in the schema of ArviZ
    ``bands.nc``, ``priors.nc``   bands of predictions on a fine grid; prior densities
    ``checkpoint.npz``            chains and draws so far, until sampling is done; ``sciad resume`` goes on from it
    ``metrics.json``              the checks, the comparison with the reference, the timings
    ``report.html``               all of it as one page that opens without a network
    ============================  =================================================================

    Every file but the log is written beside its place, flushed and renamed, so after a crash each is whole or absent.
    No file holds a pickle. Make one with :meth:`create` or :meth:`open`.

    Parameters
    ----------
    folder : pathlib.Path
        Where the files are.

    Examples
    --------
    >>> import tempfile
    >>> run = Run.create(tempfile.mkdtemp(), "pelts")
    >>> run.write("settings.json", {"draws": 1000})
    >>> Run.open(run.folder).read("settings.json")
    {'draws': 1000}
    """

    folder: Path
    _lock: int | None = None

    @classmethod
    def create(cls, root: str | os.PathLike[str], name: str) -> Self:
        """Make a new, empty folder ``root/name``; an earlier run of that name is kept as ``name.1``, ``name.2``, ...

        Raises
        ------
        InputError
            When the name cannot be a folder's name, the folder cannot be written, or another process is writing it.
        """
        folder = Path(root) / _checked(name)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _keep(folder)
            folder.mkdir()
            return cls(folder, _locked(folder))
        except OSError as error:
            raise InputError(_no_room(folder, error)) from error

    @staticmethod
    def require_room(root: str | os.PathLike[str], name: str) -> None:
        """Check, before any computing, that :meth:`create` will work; an earlier run stays where it is.

        Raises
        ------
        InputError
            As :meth:`create`.
        """
        folder = Path(root) / _checked(name)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".room-", dir=folder.parent):
                pass
            if folder.is_dir() and (held := _locked(folder)) is not None:
                os.close(held)
        except OSError as error:
            raise InputError(_no_room(folder, error)) from error

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, to_write: bool = False) -> Self:
        """Open an existing run for reading or to write its report again; or, held for this process, to go on with it.

        Raises
        ------
        InputError
            When there is no run in the folder, or another process is writing it.
        """
        folder = Path(folder)
        if not (folder / "settings.json").is_file():
            state = "has no settings.json" if folder.is_dir() else "does not exist"
            message = f"{folder} is not a run: it {state}. Give the folder of an earlier run, such as runs/hudson-bay."
            raise InputError(message)
        return cls(folder, _locked(folder) if to_write else None)

    def close(self) -> None:
        """Let another process or another run have the folder; a process that ends does so by itself. Call it once."""
        if self._lock is not None:
            os.close(self._lock)

    def path(self, name: str) -> Path:
        """Place of the file ``name``."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Whether the file ``name`` has been written."""
        return self.path(name).is_file()

    def log(self, text: str) -> None:
        """Append ``text`` with the time to ``log.txt``; the line is handed to the system at once."""
        stamp = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        with self.path("log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{stamp}  {text.rstrip()}\n")

    def write(self, name: str, value: Any) -> None:
        """Write ``value`` whole or not at all: datasets and trees as netCDF, text as it is, the rest as JSON."""
        path = self.path(name)
        if isinstance(value, xr.Dataset | xr.DataTree):
            with replacing(path) as scratch:
                _storable(value).to_netcdf(scratch, engine="h5netcdf")
        elif isinstance(value, str):
            write_text(path, value)
        else:
            write_json(path, value)

    def read(self, name: str) -> Any:
        """Read back what :meth:`write` wrote: a Dataset from ``*.nc``, the value from ``*.json``."""
        path = self.path(name)
        if path.suffix != ".nc":
            return read_json(path)
        if not path.is_file():
            message = f"{path} does not exist: this run has not come that far."
            raise InputError(message)
        return xr.load_dataset(path, engine="h5netcdf")


def data_facts(data: xr.Dataset) -> dict[str, Any]:
    """Describe a dataset so that another run can tell whether it saw the same numbers.

    Parameters
    ----------
    data : xarray.Dataset
        Data as the model sees them.

    Returns
    -------
    dict
        ``sha256``, the fingerprint of `sciad.fingerprint`; ``sizes``; and for each variable its dimensions, shape,
        dtype, unit, range and number of missing values.
    """
    variables = {str(name): _describe(variable) for name, variable in data.variables.items()}
    return {"sha256": fingerprint(data), "sizes": dict(data.sizes), "variables": variables}


def _storable(value: Any) -> Any:
    """Give a dataset whose attributes netCDF can hold: text and numbers stay, the rest becomes text."""
    if isinstance(value, xr.DataTree):
        return value.map_over_datasets(_storable)
    value = value.copy()
    for part in (value, *value.variables.values()):
        part.attrs = {k: v if isinstance(v, str | int | float) else str(v) for k, v in part.attrs.items()}
    return value


def _describe(variable: xr.Variable) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "dims": list(variable.dims),
        "shape": list(variable.shape),
        "dtype": str(variable.dtype),
        "unit": str(variable.attrs.get("units", "")),
        "missing": int(variable.isnull().sum()),
    }
    if np.issubdtype(variable.dtype, np.number) and variable.size:
        facts |= {"least": float(variable.min()), "greatest": float(variable.max())}
    return facts


def _checked(name: str) -> str:
    if _NAME.fullmatch(name):
        return name
    message = f"run name {name!r}: expected letters, digits, '-', '_' and '.', not starting with a dot or dash."
    raise InputError(message)


def _no_room(folder: Path, error: OSError) -> str:
    return f"cannot make the run folder {folder}: {error.strerror or error}. Choose another with `--runs DIR`."


def _keep(folder: Path) -> None:
    if not folder.exists():
        return
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        return
    held = _locked(folder) if folder.is_dir() else None
    number = 1
    while (kept := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    folder.rename(kept)
    if held is not None:
        os.close(held)


def _locked(folder: Path) -> int | None:
    """Hold the folder for this process; the system lets go of it when the process ends, however it ends."""
    if fcntl is None:  # pragma: no cover
        return None
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        message = f"the run {folder} is being written by another process. Wait for it, or choose another `--name`."
        raise InputError(message) from error
    except OSError:  # some network file systems have no locks; a run there goes without
        os.close(handle)
        return None
    return handle

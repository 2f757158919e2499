"""Writing files so that a reader, or the next run after a crash, finds the whole old file or the whole new one."""

import contextlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sciad._errors import InputError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a scratch path beside ``path``; on leaving, put it on the disk and then in the place of ``path``, at once.

    The scratch file lies in the same folder, because only a rename inside one file system is atomic. It is flushed to
    the disk before the rename and the folder after it, so that neither a killed process nor a power cut leaves half a
    file under the final name. When the block raises, ``path`` is left as it was and the scratch file is removed.

    Parameters
    ----------
    path : str or os.PathLike
        Final place of the file. Its folder must exist.

    Yields
    ------
    pathlib.Path
        Where to write. It ends in the suffix of ``path``, for writers that choose a format by it.

    Raises
    ------
    InputError
        When the folder is missing, cannot be written, or is full.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "answer.txt") as scratch:
    ...     _ = scratch.write_text("42")
    >>> [entry.name for entry in folder.iterdir()], (folder / "answer.txt").read_text()
    (['answer.txt'], '42')
    """
    path = Path(path)
    scratch = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.part{path.suffix}")
    try:
        scratch.touch()
        yield scratch
        _flush(scratch)
        scratch.replace(path)
    except OSError as error:
        message = f"Cannot write {path}: {error.strerror or error}. Choose a folder that exists and may be written."
        raise InputError(message) from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
    if os.name == "posix":
        _flush(path.parent)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all; see :func:`plain` for what becomes of arrays and NaN."""
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; :class:`InputError` when it is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        message = f"Cannot read {path}: {error.strerror or error}"
        raise InputError(message) from error
    except ValueError as error:
        message = f"{path} is not valid JSON: {error}"
        raise InputError(message) from error


def plain(value: Any) -> Any:
    """Turn arrays, tuples, paths and NumPy numbers into what JSON can hold; NaN and infinities become ``null``.

    Examples
    --------
    >>> plain({"r_hat": np.float64("nan"), "chains": np.arange(2)})
    {'r_hat': None, 'chains': [0, 1]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None  # NumPy's float64 is a float too
    if hasattr(value, "__array__"):
        return plain(np.asarray(value).tolist())
    return str(value)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Programs on disk: their arrays by name, without pickle."""

import os
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from sciad._atomic import replacing
from sciad._errors import InputError, did_you_mean
from sciad._param import Param
from sciad._roles import fill, is_param, leaves

T = TypeVar("T")
MARK = "leaf "  # before each name in the file, so that none is an argument of the function that writes it


def save(program: object, path: str | os.PathLike[str]) -> Path:
    """Write the arrays of a program, those of parameters too, into one file, whole or not at all.

    Functions, names and other settings are not written: they are the code's. `load` puts the arrays back into a program
    of the same form, in another process too.

    Parameters
    ----------
    program
        Any PyTree: ``fit.program``, for instance.
    path
        Name of the file; ``.npz`` is added if it has no such end.

    Examples
    --------
    >>> import tempfile
    >>> file = save({"rate": Param(2.0)}, Path(tempfile.mkdtemp()) / "decay.npz")
    >>> float(load(file, {"rate": Param(1.0)})["rate"])
    2.0
    """
    path = stored_at(path)
    arrays = {MARK + name: np.asarray(value) for name, value in _arrays(program).items()}
    with replacing(path) as scratch, scratch.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return path


def stored_at(path: str | os.PathLike[str]) -> Path:
    """Return the name of the file, with its end."""
    path = Path(path)
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def load(path: str | os.PathLike[str], like: T) -> T:
    """Return a program with the arrays that `save` wrote.

    Parameters
    ----------
    like
        A program of the same form: ``problem.complete(equation)``, for instance.

    Raises
    ------
    InputError
        If there is no such file, or its arrays are not those of the program, by name or by shape.
    """
    path = stored_at(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name.removeprefix(MARK): file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        msg = f"Cannot read {path} as a stored program: {error}. Give a file that sd.save wrote."
        raise InputError(msg) from error
    like = fill(like)
    wanted = _arrays(like)
    for name in (*wanted, *stored):
        if name not in stored or name not in wanted:
            where, others = ("file", stored) if name in wanted else ("program", wanted)
            msg = f"{path} holds another program: {name} is not in the {where}. {did_you_mean(name, others)}"
            raise InputError(msg)
        if np.shape(wanted[name]) != stored[name].shape:
            msg = f"{path} holds another program: {name} has shape {stored[name].shape} there, and "
            msg += f"{np.shape(wanted[name])} here."
            raise InputError(msg)
    filled = [_with(leaf, stored.get(name)) for name, leaf in leaves(like).items()]
    return jtu.tree_unflatten(jtu.tree_structure(like, is_leaf=is_param), filled)


def _arrays(program: object) -> dict[str, Any]:
    found = leaves(fill(program))
    return {
        name: leaf.array if isinstance(leaf, Param) else leaf
        for name, leaf in found.items()
        if isinstance(leaf, Param) or eqx.is_array(leaf)
    }


def _with(leaf: object, value: np.ndarray | None) -> object:
    if value is None:
        return leaf
    array = jnp.asarray(value)
    return eqx.tree_at(lambda p: p.value, leaf, array) if isinstance(leaf, Param) else array

"""`split_data`: observations for training, validation and test."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import numpy as np
import xarray as xr
from jaxtyping import PRNGKeyArray

from sciad._errors import InputError, OptionError, check_names, choose, did_you_mean
from sciad._key import as_key

By: TypeAlias = Literal["random", "group", "time"]


class Split(NamedTuple):
    """Three datasets that share no observation."""

    train: xr.Dataset
    validation: xr.Dataset
    test: xr.Dataset


def split_data(
    data: xr.Dataset,
    *,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    by: By | str = "random",
    dim: str | None = None,
    group: str | None = None,
    key: PRNGKeyArray | int | None = None,
) -> Split:
    """Split observations along one dimension into train, validation and test.

    With fractions f, n entries (or groups) are cut after round(f₁ n) and round((f₁ + f₂) n) of them. Each part keeps
    the order of the data.

    Parameters
    ----------
    data
        The observations.
    fractions
        Shares of train, validation and test; they add up to 1, and a share of 0 asks for an empty part.
    by
        ``"random"``: entries at random. ``"group"``: groups at random, each kept whole, so that no part has seen the
        groups of another. ``"time"``: contiguous blocks in order, so that validation and test are later than training.
    dim
        The dimension to split along; by default the only one.
    group
        With ``by="group"``, the variable or coordinate along `dim` that names the group of each entry.
    key
        A JAX key or a whole number, for ``"random"`` and ``"group"``: the same key gives the same split.

    Raises
    ------
    InputError
        If the fractions do not add up to 1, a name is not in the data, or a part that has a share would be empty.
    OptionError
        If `key` or `group` is missing where it is needed, or given where it would have no effect.

    Examples
    --------
    >>> data = xr.Dataset({"hare": ("year", np.arange(10.0))}, {"year": np.arange(1900.0, 1910.0)})
    >>> [part.sizes["year"] for part in split_data(data, by="time")]
    [6, 2, 2]
    >>> split_data(data, by="time").test["year"].values
    array([1908., 1909.])
    """
    _check_options(choose("by", by, get_args(By)), group, key)
    shares = np.asarray(fractions, float)
    if shares.shape != (3,) or np.any(shares < 0) or not np.isclose(shares.sum(), 1):
        msg = f"`fractions` is {tuple(fractions)}. Expected three shares, none negative, that add up to 1."
        raise InputError(msg)
    dim = _dimension(data, dim)
    labels = _labels(data, dim, group)
    order = np.unique(labels) if by == "time" else _shuffled(np.unique(labels), key)
    ends = np.rint(np.cumsum(shares) * len(order)).astype(int)
    pieces = np.split(order, ends[:2])
    counts = tuple(len(piece) for piece in pieces)
    if any(share > 0 and count == 0 for share, count in zip(shares, counts, strict=True)):
        what = f"groups of {group!r}" if group else f"entries along {dim!r}"
        msg = (
            f"{len(order)} {what} give parts of {counts} with the fractions {tuple(fractions)}. "
            "Expected at least one in each: give more data, other fractions, or a share of 0."
        )
        raise InputError(msg)
    return Split(*(data.isel({dim: np.flatnonzero(np.isin(labels, piece))}) for piece in pieces))


def _check_options(by: By, group: str | None, key: PRNGKeyArray | int | None) -> None:
    if (by == "group") != (group is not None):
        msg = f"by={by!r} with group={group!r}. Expected a name with by='group', and None otherwise."
        raise OptionError(msg)
    if (by == "time") != (key is None):
        given = "no key" if key is None else "a key"
        msg = f"by={by!r} with {given}. Expected `key=jax.random.key(...)` for a random split, and none for by='time'."
        raise OptionError(msg)


def _dimension(data: xr.Dataset, dim: str | None) -> str:
    dims = [str(name) for name in data.dims]
    if dim is None and len(dims) == 1:
        return dims[0]
    if dim not in dims:
        msg = f"dim={dim!r}, and the data have {dims}. Expected one of these. {did_you_mean(str(dim), dims)}"
        raise InputError(msg)
    return dim


def _labels(data: xr.Dataset, dim: str, group: str | None) -> np.ndarray:
    """Return the number of the group of each entry; without groups, each is its own."""
    if group is None:
        return np.arange(data.sizes[dim])
    check_names("group", [group], data.variables)
    if data[group].dims != (dim,):
        msg = f"The group {group!r} is along {data[group].dims}. Expected one label for each entry along {dim!r}."
        raise InputError(msg)
    return np.unique(data[group].values, return_inverse=True)[1]


def _shuffled(entries: np.ndarray, key: PRNGKeyArray | int | None) -> np.ndarray:
    return np.asarray(jax.random.permutation(as_key(key), len(entries)))

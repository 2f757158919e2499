"""Observations of fields at scattered points."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from sciad._errors import InputError, counted, did_you_mean
from sciad.models.domains import AbstractDomain
from sciad.problems.observations import check_dataset


class Scattered(NamedTuple):
    """Values of fields at points; false in `observed` where there is none."""

    points: Float[np.ndarray, "n d"]
    values: Float[np.ndarray, "n fields"]
    observed: Bool[np.ndarray, "n fields"]


def scattered(data: xr.Dataset, domain: AbstractDomain, fields: Sequence[str]) -> Scattered:
    """Take fields and coordinates out of a dataset: on a grid, or in rows, with coordinates as variables.

    Raises
    ------
    InputError
        If no field of the problem, or not every coordinate, is in the data; if values are infinite, a coordinate is
        missing somewhere, a point lies outside the domain, or nothing is observed.
    """
    check_dataset(data)
    for name in domain.coordinates:
        if name not in data.variables:
            hint = did_you_mean(name, map(str, data.variables))
            msg = f"The data have no {name!r}, a coordinate of the domain. {hint}"
            raise InputError(msg)
    seen = [field for field in fields if field in data.variables]
    if not seen:
        msg = f"The data hold none of the fields {', '.join(fields)}. They hold: {', '.join(map(str, data.data_vars))}."
        raise InputError(msg)
    columns = xr.broadcast(*(data[name] for name in (*domain.coordinates, *seen)))
    flat = {str(c.name): np.ravel(c.to_numpy().astype(float)) for c in columns}
    points = np.stack([flat[name] for name in domain.coordinates], axis=-1)
    values = np.stack([flat.get(field, np.full(len(points), np.nan)) for field in fields], axis=-1)
    observed = ~np.isnan(values)
    rows = observed.any(axis=1)
    _check(points[rows], values[rows], domain, seen)
    return Scattered(points[rows], values[rows], observed[rows])


def _check(points: np.ndarray, values: np.ndarray, domain: AbstractDomain, seen: Sequence[str]) -> None:
    if not len(points):
        msg = f"No observation is left of {', '.join(seen)}: every value is missing."
        raise InputError(msg)
    if np.isinf(values).any():
        msg = f"The data hold {counted(int(np.isinf(values).sum()), 'infinite value')}: correct them, or make them "
        msg += "NaN, which means not observed."
        raise InputError(msg)
    if not np.isfinite(points).all():
        msg = f"{counted(int((~np.isfinite(points)).any(axis=1).sum()), 'observation')} have no place: a coordinate is "
        msg += "missing or infinite. Leave these rows out."
        raise InputError(msg)
    outside = ~domain.contains(points)
    if outside.any():
        where = ", ".join(f"{n}={v:.4g}" for n, v in zip(domain.coordinates, points[outside][0], strict=True))
        msg = (
            f"{counted(int(outside.sum()), 'observation')} of {len(points)} lie outside the domain ({domain.limits}), "
        )
        msg += (
            f"the first at {where}. Leave them out, or enlarge the domain. Are coordinates swapped, or of other units?"
        )
        raise InputError(msg)

"""Prior densities beside the posterior's draws."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from sciad._posterior import scalars
from sciad._spec import entry_name
from sciad._vector import vectorize


def prior_curves(
    program: Any, draws: xr.Dataset | None, *, label: Callable[[str], str] = str, points: int = 200
) -> xr.Dataset | None:
    """Prior density of each scalar parameter over the range of its draws, a third wider.

    Parameters
    ----------
    program : PyTree
        Program whose inner leaves have priors.
    draws : xarray.Dataset
        Draws of the posterior.
    label : callable
        Gives the name in ``draws`` of a leaf's path.
    points : int
        Length of each curve.

    Returns
    -------
    xarray.Dataset or None
        ``<name>`` and ``<name>@at`` over ``point``; None when nothing has a scalar prior.
    """
    if draws is None:
        return None
    places = {
        entry_name(label(path), place, site.axis): (site, place)
        for path, site in vectorize(program).sites.items()
        for place in np.ndindex(site.shape)
    }
    curves: dict[str, Any] = {}
    for name, values in scalars(draws):
        site, place = places.get(name, (None, ()))
        if site is None or site.prior is None or site.prior.event_shape:
            continue
        margin = (values.max() - values.min()) / 3
        at = np.linspace(values.min() - margin, values.max() + margin, points)
        curves[name] = ("point", _density(site.prior, at, place))
        curves[f"{name}@at"] = ("point", at)
    return xr.Dataset(curves) if curves else None


def _density(prior: Any, at: np.ndarray, place: tuple[int, ...]) -> np.ndarray:
    """Density of one element of a prior, zero outside the support, where a log density may be anything."""
    grid = at.reshape((-1,) + (1,) * len(prior.batch_shape))
    inside = np.asarray(prior.support(grid))
    with warnings.catch_warnings():  # of values out of the support, whose densities are put to zero
        warnings.simplefilter("ignore", UserWarning)
        density = np.where(inside, np.exp(np.asarray(prior.log_prob(grid))), 0.0)
    return np.broadcast_to(density, (at.size, *prior.batch_shape))[(slice(None), *place)]

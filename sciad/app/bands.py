"""Bands of the posterior predictive on a fine grid of times, between the observations too."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

from sciad._roles import unwrap
from sciad._vector import vectorize, with_values

_MOST_DRAWS = 400


def predictive_bands(problem: Any, program: Any, draws: xr.Dataset, times: np.ndarray, levels: Any) -> Any:
    """Quantiles of new observations, by time, over draws of the posterior.

    The scatter of one draw has the same quantile at all times, and each draw another, so that the bands are as smooth
    as the curves.

    Parameters
    ----------
    problem, program : ODEProblem, ODEProgram
        What the draws are of.
    draws : xarray.Dataset
        Group ``posterior``.
    times : numpy.ndarray
        Where to predict.
    levels : sequence of float
        Which quantiles.

    Returns
    -------
    xarray.Dataset or None
        Fields over ``quantile`` and what their data are over, NaN where no draw is possible, as where a positive field
        is predicted as zero; None where no draw can be evaluated, or the draws are of other parameters.
    """
    program = problem.complete(program)
    size = draws.sizes["chain"] * draws.sizes["draw"]
    chosen = np.linspace(0, size - 1, min(size, _MOST_DRAWS)).astype(int)
    flat = {str(name): _flat(values)[chosen] for name, values in draws.data_vars.items()}
    sites = vectorize(program).sites
    drawn = {path: flat.get(problem.label(path), np.empty(0)) for path in sites}
    if any(not drawn[path].size or drawn[path].shape[1:] != site.shape for path, site in sites.items()):
        return None  # draws of another model, as of a population beside a fit
    values = jax.tree.map(jnp.asarray, drawn)

    def one(values: dict[str, Array], key: Array) -> Array:
        drawn = with_values(program, values)
        prediction, noise = problem.predict(drawn, times), unwrap(drawn.noise)
        keys = jax.random.split(key, len(problem.fields))
        return jnp.stack(
            [_scattered(noise[f], prediction, i, k) for i, (f, k) in enumerate(zip(problem.fields, keys, strict=True))],
            axis=-1,
        )

    found = np.asarray(jax.jit(jax.vmap(one))(values, jax.random.split(jax.random.key(0), chosen.size)))
    found = found[np.isfinite(found).any(axis=(1, 2, 3))]
    if not len(found):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of times at which no draw is possible
        made = problem.dataset(np.nanquantile(found, levels, axis=0), times, lead=("quantile",))
    return made.assign_coords(quantile=list(levels))


def _flat(values: xr.DataArray) -> np.ndarray:
    array = values.transpose("chain", "draw", ...).to_numpy()
    return array.reshape(-1, *array.shape[2:])


def _scattered(noise: Any, prediction: Any, field: int, key: Array) -> Array:
    """Draw an observation at each time, by one key: (experiment, time); NaN where the prediction is impossible."""
    mean = prediction.mean[..., field]
    possible = noise.possible(mean) & prediction.ok[:, None]
    drawn = jax.vmap(lambda m: noise.distribution(m).sample(key), in_axes=1, out_axes=1)(jnp.where(possible, mean, 1.0))
    return jnp.where(possible, drawn.astype(mean.dtype), jnp.nan)

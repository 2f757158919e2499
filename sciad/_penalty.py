r"""Priors as residuals, so that least squares finds a posterior's mode.

A prior of density p on a scalar x is the residual

.. math:: \rho(x) = \operatorname{sign}(x - m) \sqrt{2 \log p(m) - 2 \log p(x)}, \quad m = \arg\max p,

for then :math:`\tfrac12 \rho^2 = -\log p(x)` up to a constant. A normal prior gives :math:`(x - m)/\sigma`, which is
weight decay; a uniform one gives zero. The density is that of x in natural units: the mode is the usual one, which
depends on them.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpyro.distributions import ExpandedDistribution, Independent, biject_to

from sciad._errors import InputError
from sciad._vector import Site, Vectorized

DRAWS = 256  # of a prior, that say where to look for its mode
BEYOND = 3.0  # the same, in widths of all draws, beyond them
POINTS, ZOOMS = 257, 4  # of a grid about the mode, and how often it is refined
RISING = 1e-2  # slope of a log-density at the end of the search by which it has no maximum
FLAT = 1e-10  # fall of the log-density from its maximum within which the root is taken as linear
FAR = 1e12  # fall that stands for an infinite one


class Penalty(eqx.Module):
    """The residuals of all priors of a program, given its vector; empty where no inner leaf has one."""

    mode: Float[Array, " d"]
    top: Float[Array, " d"]
    curvature: Float[Array, " d"]

    def __init__(self, full: Vectorized) -> None:
        found = {"mode": full.vector, "top": jnp.zeros_like(full.vector), "curvature": jnp.zeros_like(full.vector)}
        for path, site in full.sites.items():
            if site.prior is None:
                continue
            for name, value in zip(found, _summit(path, _alone(site)), strict=True):
                value = jnp.broadcast_to(value, site.shape).ravel().astype(full.vector.dtype)
                found[name] = found[name].at[full.places[path]].set(value)
        self.mode, self.top, self.curvature = found.values()

    def __call__(self, full: Vectorized, vector: Float[Array, " d"]) -> Float[Array, " k"]:
        """Return a residual for each number with a prior, in the order of the vector."""
        parts = [
            self._residual(_alone(site), full.places[path], vector)
            for path, site in full.sites.items()
            if site.prior is not None
        ]
        return jnp.concatenate([jnp.zeros(0, vector.dtype), *parts])

    def places(self, full: Vectorized) -> Int[np.ndarray, " k"]:
        """Return the places in the vector that the residuals belong to."""
        with_prior = [full.places[path] for path, site in full.sites.items() if site.prior is not None]
        return np.concatenate([np.zeros(0, int), *(np.arange(full.vector.size)[place] for place in with_prior)])

    def _residual(self, site: Site, place: slice, vector: Array) -> Array:
        off, shape = vector[place] - self.mode[place], site.shape
        fall = self.top[place] - jnp.ravel(_log_density(site, vector[place].reshape(shape))).astype(vector.dtype)
        near, above = jnp.abs(fall) < FLAT, fall <= -FLAT  # above: by less than `_summit` lets pass
        fall = jnp.where(near | above | ~jnp.isfinite(fall), FAR, fall)
        far = jnp.where(above, 0.0, jnp.sign(off) * jnp.sqrt(2 * fall))
        return jnp.where(near, jnp.sqrt(self.curvature[place]) * off, far)


def _log_density(site: Site, u: Array) -> Array:
    assert site.prior is not None
    return jnp.asarray(site.prior.log_prob(site.bijection(u)))


def _alone(site: Site) -> Site:
    """Return the site with the prior of each number, where the numbers of an array are merely declared as one event."""
    if not isinstance(site.prior, Independent):
        return site
    base = site.prior.base_dist
    return site._replace(prior=base, bijection=biject_to(base.support))


def _summit(path: str, site: Site) -> tuple[Array, Array, Array]:
    """Return where a prior is densest, in unconstrained space, its log-density there, and minus the curvature."""
    prior = site.prior
    assert prior is not None
    if prior.event_dim or site.bijection.domain.event_dim:
        msg = f"{path}: its prior binds several numbers to each other. `fit(priors=True)` takes a prior for each "
        msg += "number alone: give such priors, or use `sample`."
        raise InputError(msg)
    if isinstance(prior, ExpandedDistribution):  # its numbers are alike
        prior = prior.base_dist
        site = site._replace(prior=prior)
    drawn = site.bijection.inv(jnp.asarray(prior.sample(jax.random.key(0), (DRAWS,))))
    drawn = jnp.where(jnp.isfinite(drawn), drawn, jnp.nanmedian(jnp.where(jnp.isfinite(drawn), drawn, jnp.nan)))
    width = BEYOND * (drawn.max(axis=0) - drawn.min(axis=0) + jnp.finfo(drawn.dtype).tiny)
    low, high = drawn.min(axis=0) - width, drawn.max(axis=0) + width
    at, slope, curvature = _climb(site, low, high)
    top = _log_density(site, at)
    if np.any(jax.vmap(lambda u: _log_density(site, u))(drawn) > top[None] + RISING):
        msg = f"{path}: its prior {type(prior).__name__} has a maximum too narrow to be found. Give another, or use "
        msg += "`sample`."
        raise InputError(msg)
    if not np.all(np.isfinite(top)) or np.any(np.abs(slope) * (high - low) > RISING):
        msg = f"{path}: its prior {type(prior).__name__} has no smooth maximum, but a corner, or a density that grows "
        msg += "without limit. Give another, or use `sample`."
        raise InputError(msg)
    return at, top, jnp.maximum(curvature, 0.0)


@eqx.filter_jit
def _climb(site: Site, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """Return the place of greatest log-density, its slope there, and minus its curvature."""
    for _ in range(ZOOMS):
        grid = jnp.linspace(low, high, POINTS)
        best = jnp.argmax(jax.vmap(lambda u: _log_density(site, u))(grid), axis=0, keepdims=True)
        low = jnp.take_along_axis(grid, jnp.maximum(best - 1, 0), axis=0)[0]
        high = jnp.take_along_axis(grid, jnp.minimum(best + 1, POINTS - 1), axis=0)[0]
    at = (low + high) / 2

    def total(u: Array) -> Array:
        return jnp.sum(_log_density(site, u))

    slope = jax.grad(total)(at)
    curvature = -jax.jvp(jax.grad(total), (at,), (jnp.ones_like(at),))[1]
    newton = at + jnp.where(curvature > 0, slope / jnp.where(curvature > 0, curvature, 1.0), 0.0)
    at = jnp.where((newton >= low) & (newton <= high), newton, at)
    return at, jax.grad(total)(at), curvature

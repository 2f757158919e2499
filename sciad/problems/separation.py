"""A problem's unconstrained vector in two: what moves the predictions, and what only moves the noise about them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions.transforms import IdentityTransform

from sciad._vector import Vectorized
from sciad.problems.nudging import nudged, thinned
from sciad.problems.ode import ODEProblem, Prediction
from sciad.solvers.least_squares import REJECTED


class Separation:
    """The functions that least squares works with, on `location` and `noise`, the two parts of the vector."""

    def __init__(self, problem: ODEProblem, full: Vectorized) -> None:
        problem = problem.with_forward_sensitivities()
        is_noise = np.array([name.startswith("noise.") for name in full.names])
        self.problem, self.full, self.thinned = problem, full, thinned(problem)
        self.forward = problem.solver.sensitivity == "forward"
        self.location, self.noise = np.flatnonzero(~is_noise), np.flatnonzero(is_noise)

    def joined(self, location: Array, noise: Array) -> Array:
        """Return the whole vector."""
        places = np.argsort(np.concatenate([self.location, self.noise]))
        return jnp.concatenate([location, noise])[places]

    def residuals(self, location: Array, noise: Array) -> tuple[Array, Any]:
        """Return the residuals of what was observed, `REJECTED` where a solve fails, and what `noise_loss` needs."""
        program = self.full.program(self.joined(location, noise))
        residuals, prediction = self.problem.residuals(program)
        return _accepted(residuals[self.problem.observations.observed], prediction), (location, prediction)

    def eased(self, location: Array, noise: Array, gain: Array) -> tuple[Array, Any]:
        """Return the residuals of the problem eased by a gain, and nothing; see `sciad.problems.nudging`."""
        program = self.full.program(self.joined(location, noise))
        residuals, prediction = nudged(self.thinned, program, gain)
        return _accepted(residuals[self.thinned.observations.observed], prediction), ()

    def noise_loss(self, noise: Array, found: Any) -> Array:
        """Return the negative log-likelihood of noise parameters, the predictions being what they are."""
        location, prediction = found
        program = self.full.program(self.joined(location, noise))
        return -jnp.sum(self.problem.log_likelihoods(program, prediction))

    def weights(self, noise: Array, found: Any) -> Array:
        """Return what turns rows of the residuals' Jacobian into rows whose squares are the expected information."""
        location, prediction = found
        program = self.full.program(self.joined(location, noise))
        return self.problem.weights(program, prediction)[self.problem.observations.observed]

    def about_constants(self, found: Any) -> Float[Array, "experiments times fields"]:
        """Return the residuals of an estimate's noise about each field's median, zero where nothing was observed."""
        program = self.full.program(self.joined(found.point.location, jnp.asarray(found.noise)))
        seen = self.problem.observations
        median = np.nanmedian(np.where(seen.observed, seen.values, np.nan), axis=(0, 1))
        median = np.where(median > 0, median, np.nanmean(seen.values, axis=(0, 1)))
        same = Prediction(jnp.broadcast_to(median, seen.values.shape), jnp.ones(len(seen.values), bool))
        return self.problem.compared(program, same)[0]

    def starts(self, number: int, key: PRNGKeyArray) -> Float[np.ndarray, "starts p"]:
        """Return the given point, then draws: from the priors where there are any, else normal about it."""
        given, sites = np.asarray(self.full.vector), self.full.sites.values()
        if number and any(site.prior is not None for site in sites):
            draws = np.array(jax.jit(lambda key: jax.vmap(self.full.draw)(jax.random.split(key, number)))(key))
        else:
            draws = np.tile(given, (number, 1))
        bare = np.concatenate([np.full(_size(site), site.prior is None) for site in sites])
        real = np.concatenate([np.full(_size(site), isinstance(site.bijection, IdentityTransform)) for site in sites])
        spread = np.where(real & (given != 0), np.abs(given), 1.0)  # a factor of e, or as much as the value itself
        noise = np.random.default_rng(np.asarray(jax.random.key_data(key))).standard_normal(draws.shape)
        draws[:, bare] = (given + spread * noise)[:, bare]
        return np.concatenate([given[None], draws])[:, self.location]


def _accepted(residuals: Array, prediction: Prediction) -> Array:
    ok = jnp.all(prediction.ok) & jnp.all(jnp.isfinite(residuals))
    return jnp.where(ok, jnp.where(ok, residuals, 0.0), REJECTED)


def _size(site: Any) -> int:
    return int(np.prod(site.bijection.inverse_shape(site.shape)))

"""A problem's unconstrained vector in two: what moves the predictions, and what only moves the noise about them."""

import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from numpyro.distributions import constraints
from numpyro.distributions.transforms import IdentityTransform
from scipy.stats import norm, qmc

from sciad._penalty import Penalty
from sciad._vector import Site, Vectorized
from sciad.problems.easing import KNOTS, MANY_TIMES, nudged, shortened, thinned
from sciad.problems.likelihood import Prediction
from sciad.problems.ode import ODEProblem
from sciad.solvers.decades import Decades, wide
from sciad.solvers.least_squares import REJECTED

MANY = 4  # parameters for each observation, beyond which Jacobians are taken in reverse


class Separation(eqx.Module):
    """The functions that least squares works with, on `location` and `noise`, the two parts of the vector.

    A module whose arrays are the program's: what is compiled for one program serves others of the same problem.
    """

    full: Vectorized
    penalty: Penalty | None
    problem: ODEProblem = eqx.field(static=True)

    def __init__(self, problem: ODEProblem, full: Vectorized, *, priors: bool = False) -> None:
        self.full, self.penalty = full, Penalty(full) if priors else None
        forward = self.location.size <= MANY * problem.observations.observed.sum()
        self.problem = problem.with_sensitivity("forward" if forward else "reverse")

    @property
    def forward(self) -> bool:
        """Whether derivatives are taken in forward mode."""
        return self.problem.solver.sensitivity == "forward"

    @property
    def location(self) -> Int[np.ndarray, " p"]:
        """Places of the location in the vector."""
        return np.flatnonzero(~self._is_noise)

    @property
    def noise(self) -> Int[np.ndarray, " q"]:
        """Places of the noise in the vector."""
        return np.flatnonzero(self._is_noise)

    @property
    def _is_noise(self) -> np.ndarray:
        return np.array([name.startswith("noise.") for name in self.full.names])

    @property
    def observations(self) -> int:
        """Number of observations: of residuals that are not of priors."""
        return int(self.problem.observations.observed.sum())

    def joined(self, location: Array, noise: Array) -> Array:
        """Return the whole vector."""
        places = np.argsort(np.concatenate([self.location, self.noise]))
        return jnp.concatenate([location, noise])[places]

    def residuals(self, location: Array, noise: Array) -> tuple[Array, Any]:
        """Return the residuals of what was observed, then of the location's priors, and what `noise_loss` needs.

        They are `REJECTED` where a solve fails.
        """
        program = self.full.program(self.joined(location, noise))
        residuals, prediction = self.problem.residuals(program)
        residuals = self._with_priors(residuals[self.problem.observations.observed], location, noise)
        return _accepted(residuals, prediction), (location, prediction)

    def nudged(self, location: Array, noise: Array, gain: Array) -> tuple[Array, Any]:
        """Return the residuals of the problem eased by nudges, and nothing; see `sciad.problems.easing`."""
        return self._eased(nudged, KNOTS, location, noise, gain)

    def shortened(self, location: Array, noise: Array, ease: Array) -> tuple[Array, Any]:
        """Return the residuals up to a horizon, and nothing; see `sciad.problems.easing`."""
        return self._eased(shortened, MANY_TIMES, location, noise, ease)

    def _eased(
        self, way: Callable[..., Any], most: int, location: Array, noise: Array, ease: Array
    ) -> tuple[Array, Any]:
        program, problem = self.full.program(self.joined(location, noise)), thinned(self.problem, most)
        residuals, prediction = way(problem, program, ease)
        residuals = self._with_priors(residuals[problem.observations.observed], location, noise)
        return _accepted(residuals, prediction), ()

    def _with_priors(self, residuals: Array, location: Array, noise: Array) -> Array:
        if self.penalty is None:
            return residuals
        of_location, _ = self._of_priors(location, noise)
        return jnp.concatenate([residuals, of_location])

    def _of_priors(self, location: Array, noise: Array) -> tuple[Array, Array]:
        """Return the residuals of the priors of either part."""
        if self.penalty is None:
            return location[:0], noise[:0]
        of_all = self.penalty(self.full, self.joined(location, noise))
        is_noise = self._is_noise[self.penalty.places(self.full)]
        return of_all[~is_noise], of_all[is_noise]

    def noise_loss(self, noise: Array, found: Any) -> Array:
        """Return the loss at noise parameters, the predictions being what they are.

        It is the negative log-likelihood and, if priors count, the fall of their log-densities from their maxima.
        """
        location, prediction = found
        program = self.full.program(self.joined(location, noise))
        return self.prior_loss(location, noise) - jnp.sum(self.problem.log_likelihoods(program, prediction))

    def prior_loss(self, location: Array, noise: Array) -> Array:
        """Return how far the priors' log-densities are below their maxima; zero if priors do not count."""
        return sum((jnp.sum(r**2) / 2 for r in self._of_priors(location, noise)), start=jnp.zeros((), location.dtype))

    def scores(self, noise: Array, found: Any) -> Float[Array, "experiments times fields"]:
        """Return quantile residuals; see `ODEProblem.scores`."""
        location, prediction = found
        return self.problem.scores(self.full.program(self.joined(location, noise)), prediction)

    def weights(self, noise: Array, found: Any) -> Array:
        """Return what turns rows of the residuals' Jacobian into rows whose squares are the expected information."""
        location, prediction = found
        program = self.full.program(self.joined(location, noise))
        of_data = self.problem.weights(program, prediction)[self.problem.observations.observed]
        of_location, _ = self._of_priors(location, noise)
        return jnp.concatenate([of_data, jnp.ones_like(of_location)])

    def about_constants(self, location: Array, noise: Array) -> Float[Array, "experiments times fields"]:
        """Return the residuals about each field's median, zero where nothing was observed."""
        program = self.full.program(self.joined(location, noise))
        seen = self.problem.observations
        columns = [seen.values[..., i][seen.observed[..., i]] for i in range(len(self.problem.fields))]
        middles = [(np.median(column), np.mean(column)) if column.size else (1.0, 1.0) for column in columns]
        median = np.array([median if median > 0 else mean for median, mean in middles])
        same = Prediction(jnp.broadcast_to(median, seen.values.shape), jnp.ones(len(seen.values), bool))
        return self.problem.compared(program, same)[0]

    @property
    def chart(self) -> Decades:
        """Coordinates to descend in: the logarithms of numbers in wide intervals."""
        low, high = np.full((2, self.full.vector.size), [[-np.inf], [np.inf]])
        for path, place in self.full.places.items():
            ends = _ends(self.full.sites[path])
            if ends is not None:
                low[place], high[place] = ends
        return Decades(low[self.location], high[self.location])

    def starts(self, number: int, key: PRNGKeyArray) -> Float[np.ndarray, "starts p"]:
        """Return the given point, then a design: drawn from the priors; quasi-random where a parameter has none.

        Without prior, a number in an interval is spread over it, evenly or, if it spans decades, in its logarithm; any
        other normally about the given one, by a factor of e if positive, by its own size if not.
        """
        given = np.asarray(self.full.vector)
        if not number:
            return given[None][:, self.location]
        words = np.asarray(jax.random.key_data(key)).ravel()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of numbers that are no power of two
            uniform = qmc.Sobol(given.size, rng=np.random.default_rng(words)).random(number)
        uniform = np.clip(uniform, 1e-6, 1 - 1e-6)
        draws = np.empty_like(uniform)
        for path, place in self.full.places.items():
            draws[:, place] = _spread(self.full.sites[path], given[place], uniform[:, place])
        if any(site.prior is not None for site in self.full.sites.values()):
            drawn = np.asarray(_draws(self.full, jax.random.split(key, number)))
            for path, place in self.full.places.items():
                draws[:, place] = drawn[:, place] if self.full.sites[path].prior is not None else draws[:, place]
        return np.concatenate([given[None], draws])[:, self.location]


def _spread(site: Site, given: Float[np.ndarray, " n"], uniform: Float[np.ndarray, "k n"]) -> np.ndarray:
    """Return a design of numbers without prior, in unconstrained space."""
    ends = _ends(site)
    if ends is not None:
        lower, upper = ends
        decades = wide(lower, upper)
        even = lower + (upper - lower) * uniform
        with np.errstate(invalid="ignore", divide="ignore"):
            logarithmic = np.exp(np.log(lower) + np.log(upper / lower) * uniform)
        spread = np.where(decades, logarithmic, even).reshape(len(uniform), *site.shape)
        return np.asarray(site.bijection.inv(jnp.asarray(spread))).reshape(uniform.shape)
    real = isinstance(site.bijection, IdentityTransform)
    return given + np.where(real & (given != 0), np.abs(given), 1.0) * norm.ppf(uniform)


def _ends(site: Site) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the ends of each number's interval, if it has one."""
    support = site.bijection.codomain
    if not isinstance(support, type(constraints.interval(0.0, 1.0))):
        return None
    ends = support.lower_bound, support.upper_bound
    low, high = (np.broadcast_to(np.asarray(end), site.shape).ravel() for end in ends)
    return low, high


@eqx.filter_jit
def _draws(full: Vectorized, keys: Array) -> Array:
    return jax.vmap(full.draw)(keys)


def _accepted(residuals: Array, prediction: Prediction) -> Array:
    ok = jnp.all(prediction.ok) & jnp.all(jnp.isfinite(residuals))
    return jnp.where(ok, jnp.where(ok, residuals, 0.0), REJECTED)

"""What observations say of predictions, field by field."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sciad.models.probability import AbstractNoise
from sciad.problems.observations import Observations


class Prediction(NamedTuple):
    """Predicted fields, ones where the solve failed; `ok` per experiment."""

    mean: Float[Array, "experiments times fields"]
    ok: Bool[Array, " experiments"]


class Likelihood(NamedTuple):
    """Observations, to be held against predictions by noise models without roles, one for each field."""

    fields: tuple[str, ...]
    observations: Observations

    def possible(self, noise: Mapping[str, AbstractNoise], prediction: Prediction) -> Prediction:
        """Put ones where a prediction is impossible for the noise; an experiment where one was observed is not ok."""
        mean = prediction.mean
        possible = jnp.stack([noise[f].possible(mean[..., i]) for i, f in enumerate(self.fields)], axis=-1)
        ok = prediction.ok & jnp.all(possible | ~self.observations.observed, axis=(1, 2))
        return Prediction(jnp.where(possible, mean, 1.0), ok)

    def log_likelihoods(
        self, noise: Mapping[str, AbstractNoise], prediction: Prediction
    ) -> Float[Array, "experiments times fields"]:
        """Return the log-likelihood of each observation, zero where there is none."""
        mean, _ = self.possible(noise, prediction)
        return self._each(noise, lambda noise, m, y: noise.distribution(m).log_prob(y), mean)

    def residuals(
        self, noise: Mapping[str, AbstractNoise], prediction: Prediction
    ) -> tuple[Float[Array, "experiments times fields"], Prediction]:
        """Return standardised residuals, zero where nothing was observed, and the possible prediction."""
        prediction = self.possible(noise, prediction)
        return self._each(noise, lambda noise, m, y: noise.residual(m, y), prediction.mean), prediction

    def weights(
        self, noise: Mapping[str, AbstractNoise], prediction: Prediction
    ) -> Float[Array, "experiments times fields"]:
        """Return the root of each observation's expected information over the slope of its residual.

        By them, rows of the residuals' Jacobian become rows whose squares add up to the expected information. They are
        one for normal and log-normal noise.
        """

        def weight(noise: AbstractNoise, m: Array, y: Array) -> Array:
            slope = jax.grad(lambda m: jnp.sum(noise.residual(m, y)))(m)
            return jnp.sqrt(noise.information(m)) / jnp.abs(slope)

        return self._each(noise, weight, self.possible(noise, prediction).mean)

    def scores(
        self, noise: Mapping[str, AbstractNoise], prediction: Prediction
    ) -> Float[Array, "experiments times fields"]:
        """Return quantile residuals, zero where nothing was observed; see `AbstractNoise.scores`."""
        mean, _ = self.possible(noise, prediction)
        uniform = np.random.default_rng(0).random(mean.shape[:2])
        return self._each(noise, lambda noise, m, y: noise.scores(m, y, uniform), mean)

    def _each(
        self, noise: Mapping[str, AbstractNoise], function: Callable[[Any, Array, Array], Any], mean: Array
    ) -> Array:
        """Return ``function(noise, mean, y)`` of each field, zero where nothing was observed."""
        seen = self.observations.observed
        values = jnp.asarray(np.where(seen, self.observations.values, 1.0))
        each = [function(noise[f], mean[..., i], values[..., i]) for i, f in enumerate(self.fields)]
        return jnp.where(seen, jnp.stack(each, axis=-1), 0.0)

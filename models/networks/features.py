"""A network of which only the last layer is learnt."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciad._roles import Param, frozen


class RandomFeatures(eqx.Module):
    r"""One hidden layer that is drawn and stays, and a last layer to be found, in which the network is linear.

    .. math:: f(z) = C \sin(W z + \varphi), \quad W_{ij} \sim \mathcal N(0, s_j^2), \quad
              \varphi_i \sim \mathcal U(-\pi, \pi)

    C begins at zero.

    Parameters
    ----------
    scale
        s, in radians by input: one for each input, or one for all.

    Source: A. Rahimi and B. Recht, *Random features for large-scale kernel machines* (2007); for equations, V. Dwivedi
    and B. Srinivasan, *Physics informed extreme learning machine*, Neurocomputing 391 (2020).
    """

    weight: Param
    phase: Param
    coefficients: Float[Array, "outputs width"]

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int = 1000,
        scale: float | Float[Array, "..."] = 1.0,
        key: PRNGKeyArray,
    ) -> None:
        of_weight, of_phase = jax.random.split(key)
        weight = jax.random.normal(of_weight, (width, inputs)) * jnp.broadcast_to(jnp.asarray(scale), (1, inputs))
        self.weight = frozen(weight)
        self.phase = frozen(jax.random.uniform(of_phase, (width,), minval=-jnp.pi, maxval=jnp.pi))
        self.coefficients = jnp.zeros((outputs, width))

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " m"]:
        """Evaluate at one point."""
        return self.coefficients @ jnp.sin(self.weight @ z + self.phase)

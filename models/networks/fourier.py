"""Networks that see their inputs through random waves."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciad._roles import Param, frozen
from sciad.models.networks.mlp import MLP


class Fourier(eqx.Module):
    r"""A network of :math:`(\cos B z, \sin B z)` in the place of z, with B drawn once and kept.

    .. math:: B_{ij} \sim \mathcal N(0, s_j^2)

    Parameters
    ----------
    features
        Rows of B.
    scale
        s, in radians by input: one for each input, or one for all.
    network
        A builder of what follows, ``(inputs, outputs, *, key)``.

    Source: M. Tancik et al., *Fourier features let networks learn high frequency functions in low dimensional domains*
    (2020).
    """

    matrix: Param
    network: Any

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        features: int = 16,
        scale: float | Float[Array, "..."] = 2.0,
        network: Callable[..., Any] = MLP,
        key: PRNGKeyArray,
    ) -> None:
        of_matrix, of_network = jax.random.split(key)
        scales = jnp.broadcast_to(jnp.asarray(scale, float), (1, inputs))
        self.matrix = frozen(jax.random.normal(of_matrix, (features, inputs)) * scales)
        self.network = network(2 * features, outputs, key=of_network)

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " m"]:
        """Evaluate at one point."""
        turn = self.matrix @ z
        return self.network(jnp.concatenate([jnp.cos(turn), jnp.sin(turn)]))

"""Sums of products of functions of one input each."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciad.models.networks.layers import Activation
from sciad.models.networks.mlp import MLP


class Separable(eqx.Module):
    r"""A sum of products of small networks, one for each input.

    .. math:: f_m(z) = \sum_{r=1}^R c_{mr} \prod_i \varphi_{ir}(z_i)

    For solutions of low rank, in many dimensions above all. Each factor is an `MLP` from a number to R numbers; the
    coefficients begin normal with variance 1/R.

    Parameters
    ----------
    rank
        R.
    width, depth, activation
        Of the networks φ, as for `MLP`.

    Source: J. Cho et al., *Separable physics-informed neural networks* (2023).
    """

    factors: list[MLP]
    coefficients: Float[Array, "out rank"]

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        rank: int = 10,
        width: int = 12,
        depth: int = 2,
        activation: Activation = "tanh",
        key: PRNGKeyArray,
    ) -> None:
        *keys, last = jax.random.split(key, inputs + 1)
        self.factors = [MLP(1, rank, width=width, depth=depth, activation=activation, key=k) for k in keys]
        self.coefficients = jax.random.normal(last, (outputs, rank)) / rank**0.5

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " m"]:
        """Evaluate at one point."""
        parts = [factor(one) for factor, one in zip(self.factors, z[:, None], strict=True)]
        return self.coefficients @ jnp.prod(jnp.stack(parts), axis=0)

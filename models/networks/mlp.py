"""Fully connected networks."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class MLP(eqx.Module):
    r"""A fully connected network :math:`\mathbb R^d \to \mathbb R^m` with smooth activations.

    .. math:: h_0 = z, \quad h_{k+1} = \sigma(W_k h_k + b_k), \quad f = W_L h_L + b_L

    Weights are drawn from a normal law with variance :math:`2/(\text{fan in} + \text{fan out})` (Glorot), biases of
    hidden layers from a uniform one on (-1, 1), so that units differ in where they bend; those of the last are zero.

    Source: X. Glorot and Y. Bengio, *Understanding the difficulty of training deep feedforward neural networks* (2010).
    """

    weights: list[Float[Array, "out in"]]
    biases: list[Float[Array, " out"]]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int = 20,
        depth: int = 3,
        activation: Callable[[Array], Array] = jnp.tanh,
        key: PRNGKeyArray,
    ) -> None:
        sizes = [inputs, *[width] * depth, outputs]
        keys = jax.random.split(key, 2 * (depth + 1))
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        self.weights = [
            jax.random.normal(k, (m, n)) * jnp.sqrt(2.0 / (m + n)) for k, (m, n) in zip(keys[::2], shapes, strict=True)
        ]
        bounds = [1.0] * depth + [0.0]
        self.biases = [
            jax.random.uniform(k, (m,), minval=-bound, maxval=bound)
            for k, (m, _), bound in zip(keys[1::2], shapes, bounds, strict=True)
        ]
        self.activation = activation

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " m"]:
        """Evaluate at one point."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            z = self.activation(weight @ z + bias)
        return self.weights[-1] @ z + self.biases[-1]

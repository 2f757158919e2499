"""Fully connected networks."""

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from sciad.models.networks.layers import Activation, Dense, activation_of


class MLP(eqx.Module):
    r"""A fully connected network :math:`\mathbb R^d \to \mathbb R^m` with smooth activations.

    .. math:: h_0 = z, \quad h_{k+1} = \sigma(W_k h_k + b_k), \quad f = W_L h_L + b_L

    Weights are drawn from a normal law with variance :math:`2/(\text{fan in} + \text{fan out})` (Glorot), biases of
    hidden layers from a uniform one on (-1, 1), so that units differ in where they bend; those of the last are zero.

    Parameters
    ----------
    width, depth
        Units of each hidden layer, and how many of these there are.
    activation
        ``"tanh"``, ``"sin"``, ``"silu"``, ``"gelu"``, or a function.

    Source: X. Glorot and Y. Bengio, *Understanding the difficulty of training deep feedforward neural networks* (2010).
    """

    layers: list[Dense]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int = 20,
        depth: int = 3,
        activation: Activation = "tanh",
        key: PRNGKeyArray,
    ) -> None:
        self.activation = activation_of(activation)
        sizes = [inputs, *[width] * depth, outputs]
        keys = jax.random.split(key, depth + 1)
        hidden = [Dense(n, m, key=k) for n, m, k in zip(sizes[:-2], sizes[1:-1], keys[:-1], strict=True)]
        self.layers = [*hidden, Dense(sizes[-2], outputs, spread=0.0, key=keys[-1])]

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " m"]:
        """Evaluate at one point."""
        for layer in self.layers[:-1]:
            z = self.activation(layer(z))
        return self.layers[-1](z)

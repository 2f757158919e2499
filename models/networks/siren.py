"""Networks of sines."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciad.models.networks.layers import Dense


class SIREN(eqx.Module):
    r"""A fully connected network of sines, whose first layer has a learnable frequency.

    .. math:: h_1 = \sin(\omega (W_0 z + b_0)), \quad h_{k+1} = \sin(W_k h_k + b_k), \quad f = W_L h_L + b_L

    It begins with :math:`W_0 \sim \mathcal U(-1/d, 1/d)`, :math:`b_0 \sim \mathcal U(-1, 1)`, further weights
    :math:`\mathcal U(-\sqrt{6/n}, \sqrt{6/n})` for n units, by which the law of what units say is the same in all
    layers, further biases zero, and a last layer smaller by that factor.

    Parameters
    ----------
    width, depth
        Units of each hidden layer, and how many of these there are.
    frequency
        ω at the start, in radians by input, and inputs are in [-1, 1]. Images take 30; of solutions of equations a few
        periods are seen as a rule.

    Source: V. Sitzmann et al., *Implicit neural representations with periodic activation functions* (2020).
    """

    frequency: Float[Array, ""]
    first: Dense
    hidden: list[Dense]
    last: Dense

    def __init__(
        self, inputs: int, outputs: int, *, width: int = 20, depth: int = 3, frequency: float = 5.0, key: PRNGKeyArray
    ) -> None:
        keys = jax.random.split(key, depth + 1)
        self.frequency = jnp.asarray(frequency, float)
        self.first = _uniform(Dense(inputs, width, key=keys[0]), 1 / inputs, keys[0])
        bound = (6.0 / width) ** 0.5
        self.hidden = [_uniform(Dense(width, width, spread=0.0, key=k), bound, k) for k in keys[1:-1]]
        self.last = _uniform(Dense(width, outputs, spread=0.0, key=keys[-1]), bound / width**0.5, keys[-1])

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " m"]:
        """Evaluate at one point."""
        h = jnp.sin(self.frequency * self.first(z))
        for layer in self.hidden:
            h = jnp.sin(layer(h))
        return self.last(h)


def _uniform(layer: Dense, bound: float, key: PRNGKeyArray) -> Dense:
    weight = jax.random.uniform(jax.random.fold_in(key, 1), layer.weight.shape, minval=-bound, maxval=bound)
    return eqx.tree_at(lambda dense: dense.weight, layer, weight)

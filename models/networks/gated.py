"""Networks whose layers blend two encodings of the input."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciad.models.networks.layers import Activation, Dense, activation_of


class ModifiedMLP(eqx.Module):
    r"""A fully connected network in which each layer blends two encodings of the input, U and V.

    .. math:: U = \sigma(W_U z + b_U), \quad V = \sigma(W_V z + b_V), \quad
              h_{k+1} = g_k U + (1 - g_k) V, \quad g_k = \sigma(W_k h_k + b_k), \quad f = W_L h_L + b_L

    with :math:`h_0 = z`. It begins as `MLP` does.

    Parameters
    ----------
    width, depth, activation
        As for `MLP`.

    Source: S. Wang, Y. Teng and P. Perdikaris, *Understanding and mitigating gradient flow pathologies in physics-
    informed neural networks*, SIAM J. Sci. Comput. 43 (2021).
    """

    gates: tuple[Dense, Dense]
    hidden: list[Dense]
    last: Dense
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
        keys = jax.random.split(key, depth + 3)
        self.activation = activation_of(activation)
        self.gates = Dense(inputs, width, key=keys[0]), Dense(inputs, width, key=keys[1])
        sizes = [inputs, *[width] * (depth - 1)]
        self.hidden = [Dense(n, width, key=k) for n, k in zip(sizes, keys[3:], strict=True)]
        self.last = Dense(width, outputs, spread=0.0, key=keys[2])

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " m"]:
        """Evaluate at one point."""
        u, v = (self.activation(gate(z)) for gate in self.gates)
        for layer in self.hidden:
            z = _blended(self.activation(layer(z)), u, v)
        return self.last(z)


class PirateNet(eqx.Module):
    r"""A residual network whose blocks begin as the identity, so that depth grows as it is trained.

    .. math:: f_k = \sigma(W_1 h_k + b_1), \; z_k = f_k U + (1 - f_k) V, \;
              g_k = \sigma(W_2 z_k + b_2), \; w_k = g_k U + (1 - g_k) V, \;
              h_{k+1} = \alpha_k \sigma(W_3 w_k + b_3) + (1 - \alpha_k) h_k

    from an encoding :math:`h_0` of the input, with U and V as in `ModifiedMLP` but of :math:`h_0`. Each
    :math:`\alpha_k` begins at zero: the network is then linear in its encoding.

    Parameters
    ----------
    width
        Units of each layer.
    blocks
        Residual blocks, of three layers each.
    scale
        Of the encoding :math:`h_0 = (\cos B z, \sin B z)`, whose B is drawn as in `Fourier`, and learnt.
    activation
        As for `MLP`.

    Source: S. Wang, B. Li, Y. Chen and P. Perdikaris, *PirateNets: physics-informed deep learning with residual
    adaptive networks* (2024). What is fitted to the data before training there, the last layer, is left to the solver.
    """

    matrix: Float[Array, "half in"]
    gates: tuple[Dense, Dense]
    blocks: list[tuple[Dense, Dense, Dense]]
    alphas: Float[Array, " blocks"]
    last: Dense
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int = 20,
        blocks: int = 2,
        scale: float = 2.0,
        activation: Activation = "tanh",
        key: PRNGKeyArray,
    ) -> None:
        keys = jax.random.split(key, 4 + 3 * blocks)
        self.activation = activation_of(activation)
        half = (width + 1) // 2
        self.matrix = scale * jax.random.normal(keys[0], (half, inputs))
        self.gates = Dense(2 * half, 2 * half, key=keys[1]), Dense(2 * half, 2 * half, key=keys[2])
        layers = [Dense(2 * half, 2 * half, key=k) for k in keys[4:]]
        self.blocks = list(zip(layers[::3], layers[1::3], layers[2::3], strict=True))
        self.alphas = jnp.zeros(blocks)
        self.last = Dense(2 * half, outputs, spread=0.0, key=keys[3])

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " m"]:
        """Evaluate at one point."""
        h = jnp.concatenate([jnp.cos(self.matrix @ z), jnp.sin(self.matrix @ z)])
        u, v = (self.activation(gate(h)) for gate in self.gates)
        for alpha, (first, second, third) in zip(self.alphas, self.blocks, strict=True):
            w = _blended(self.activation(first(h)), u, v)
            w = _blended(self.activation(second(w)), u, v)
            h = alpha * self.activation(third(w)) + (1 - alpha) * h
        return self.last(h)


def _blended(share: Array, u: Array, v: Array) -> Array:
    return share * u + (1 - share) * v

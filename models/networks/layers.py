"""What networks are made of."""

from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciad._errors import choose

Activation: TypeAlias = str | Callable[[Array], Array]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "sin": jnp.sin,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
}


def activation_of(given: Activation) -> Callable[[Array], Array]:
    """Return an activation by name, or the function itself.

    Raises
    ------
    OptionError
        If there is none of that name.
    """
    return given if callable(given) else ACTIVATIONS[choose("activation", given, tuple(ACTIVATIONS))]


class Dense(eqx.Module):
    """``W z + b``: weights normal with variance 2/(fan in + fan out), biases uniform on (-spread, spread)."""

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"]

    def __init__(self, inputs: int, outputs: int, *, spread: float = 1.0, key: PRNGKeyArray) -> None:
        of_weight, of_bias = jax.random.split(key)
        self.weight = jax.random.normal(of_weight, (outputs, inputs)) * jnp.sqrt(2.0 / (outputs + inputs))
        self.bias = jax.random.uniform(of_bias, (outputs,), minval=-spread, maxval=spread)

    def __call__(self, z: Float[Array, " in"]) -> Float[Array, " out"]:
        """Evaluate at one point."""
        return self.weight @ z + self.bias

"""What a sampler needs to know of a model, and nothing more."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from sciad._spec import Axis

Vector = Float[Array, " d"]


class Target(NamedTuple):
    """A probability density over an unconstrained vector.

    Attributes
    ----------
    log_density
        Of the vector, up to a constant, the transformations' Jacobians included; -inf where the model cannot be
        evaluated.
    draw_prior
        Draws a vector from the prior, from a key.
    values
        Natural values by name of a vector.
    axes
        The experiments along the first axis of such values, by name, where there are any.
    start
        Where the user's program stands, or None.
    names
        A name for each number of the vector.
    in_step
        Whether evaluations are best batched; not so where each takes its own number of steps, as an ODE's solution
        does.
    """

    log_density: Callable[[Vector], Float[Array, ""]]
    draw_prior: Callable[[PRNGKeyArray], Vector]
    values: Callable[[Vector], dict[str, jax.Array]]
    start: Vector | None
    names: tuple[str, ...]
    in_step: bool
    axes: Mapping[str, Axis] = MappingProxyType({})

    @property
    def size(self) -> int:
        """Length of the vector."""
        return len(self.names)

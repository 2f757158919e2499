"""Where along a step a condition stops being positive."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, PyTree, Scalar

CLOSE = 4.0  # units of rounding between the last place where it is positive and the first where it is not


class _Bracket(eqx.Module):
    """The last place known where the condition is positive, and the first where it is not."""

    lower: Float[Array, ""]
    upper: Float[Array, ""]
    size: Float[Array, ""]  # of the interval at first, or of its ends


class Crossing(optx.AbstractRootFinder):
    """Bisection, to rounding, between ``options["lower"]``, where a condition is positive, and ``options["upper"]``.

    The answer is the place found where it is *not* positive. Units of the condition do not matter, and where it is
    nowhere positive or everywhere the answer is an end.
    """

    rtol: float = 0.0
    atol: float = 0.0
    norm: ClassVar[Callable[[PyTree], Scalar]] = optx.max_norm

    def init(
        self,
        fn: Callable,
        y: Scalar,
        args: PyTree,
        options: dict[str, Any],
        f_struct: PyTree,
        aux_struct: PyTree,
        tags: frozenset[object],
    ) -> _Bracket:
        """Return the whole interval."""
        del fn, args, f_struct, aux_struct, tags
        low, high = (jnp.asarray(options[end], jnp.result_type(y)) for end in ("lower", "upper"))
        return _Bracket(low, high, jnp.maximum(jnp.abs(low), jnp.abs(high)))

    def step(
        self, fn: Callable, y: Scalar, args: PyTree, options: dict[str, Any], state: _Bracket, tags: frozenset[object]
    ) -> tuple[Scalar, _Bracket, PyTree]:
        """Look in the middle."""
        del y, options, tags
        middle = state.lower + 0.5 * (state.upper - state.lower)
        values, aux = fn(middle, args)
        positive = sum(jax.tree.leaves(values)) > 0
        low, high = jnp.where(positive, middle, state.lower), jnp.where(positive, state.upper, middle)
        return high, _Bracket(low, high, state.size), aux

    def terminate(
        self, fn: Callable, y: Scalar, args: PyTree, options: dict[str, Any], state: _Bracket, tags: frozenset[object]
    ) -> tuple[Bool[Array, ""], optx.RESULTS]:
        """Return whether there is nothing left between the two."""
        del fn, y, args, options, tags
        rounding = CLOSE * jnp.finfo(state.size.dtype).eps * state.size
        return jnp.abs(state.upper - state.lower) <= rounding, optx.RESULTS.successful

    def postprocess(
        self,
        fn: Callable,
        y: Scalar,
        aux: PyTree,
        args: PyTree,
        options: dict[str, Any],
        state: _Bracket,
        tags: frozenset[object],
        result: optx.RESULTS,
    ) -> tuple[Scalar, PyTree, dict[str, Any]]:
        """Return the place as it is."""
        del fn, args, options, state, tags, result
        return y, aux, {}

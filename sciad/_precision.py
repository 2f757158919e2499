"""A word of warning where single precision would spoil an answer."""

import functools
import warnings

import jax


class PrecisionWarning(UserWarning):
    """Single precision where double is needed."""


@functools.cache
def warn_if_float32(what: str) -> None:
    """Warn, once for each kind of work, if JAX computes in float32."""
    if not jax.config.read("jax_enable_x64"):
        warnings.warn(
            f"JAX computes in float32, which is too coarse for {what}. Call "
            "`jax.config.update('jax_enable_x64', True)` first.",
            PrecisionWarning,
            stacklevel=3,
        )

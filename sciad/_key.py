"""Keys of random numbers as users give them."""

import contextlib

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from sciad._errors import InputError


def as_key(key: PRNGKeyArray | int | None) -> PRNGKeyArray:
    """Return a key: a whole number seeds one, and None is ``jax.random.key(0)``.

    Raises
    ------
    InputError
        If it is anything else.

    Examples
    --------
    >>> bool(as_key(3) == jax.random.key(3))
    True
    """
    if key is None or (isinstance(key, int | np.integer) and not isinstance(key, bool)):
        return jax.random.key(0 if key is None else int(key))
    if isinstance(key, jax.Array):
        with contextlib.suppress(TypeError):
            jax.random.key_data(key)
            return key
    msg = f"`key` is {key!r}; expected a key, such as jax.random.key(0), or a whole number."
    raise InputError(msg)

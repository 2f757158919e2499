"""Independent computations, each a call of compiled functions, side by side on the machine's cores."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import jax

from sciad._cores import cores

# What a `with` sets for its own thread alone, and a compiled function depends on.
SETTINGS = ("jax_enable_x64", "jax_default_device", "jax_disable_jit", "jax_debug_nans", "jax_numpy_dtype_promotion")


Item, Answer = TypeVar("Item"), TypeVar("Answer")


def spread(function: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
    """Yield ``function(item)`` for each item, in their order.

    The first is called alone, for it compiles what all the others use. Those share the cores, in threads: JAX lets go
    of Python's lock while a compiled function runs. What is left is dropped when the caller asks for no more.

    Examples
    --------
    >>> list(spread(lambda x: 2 * x, [1, 2, 3]))
    [2, 4, 6]
    """
    items = iter(items)
    yield from map(function, islice(items, 1))
    pool = ThreadPoolExecutor(cores(), thread_name_prefix="spread")
    try:
        alike = cores() > 1 and pool.submit(_settings).result() == _settings()
        yield from (pool.map if alike else map)(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _settings() -> list[object]:
    return [getattr(jax.config, name) for name in SETTINGS]

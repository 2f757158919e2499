"""Independent computations, each a call of compiled functions, side by side on the machine's cores."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import jax

from sciad._cores import cores

# What a `with` sets for its own thread alone, and a compiled function depends on.
SETTINGS = (
    "jax_enable_x64", "jax_default_device", "jax_disable_jit", "jax_debug_nans", "jax_debug_infs",
    "jax_numpy_dtype_promotion", "jax_numpy_rank_promotion", "jax_default_matmul_precision", "jax_default_prng_impl",
)  # fmt: skip


Item = TypeVar("Item")
Answer = TypeVar("Answer")


def spread(function: Callable[[Item], Answer], items: Iterable[Item]) -> Generator[Answer, None, None]:
    """Yield ``function(item)`` for each item, in their order.

    The first is called alone, for it compiles what all the others use. Those share the cores, in threads: JAX lets go
    of Python's lock while a compiled function runs. When the caller asks for no more, or is interrupted, what has not
    begun is dropped, and what has is waited for. On other hardware than CPUs, and where the calling thread has settings
    of its own, all are called one after the other.

    Examples
    --------
    >>> list(spread(lambda x: 2 * x, [1, 2, 3]))
    [2, 4, 6]
    """
    items = iter(items)
    yield from map(function, islice(items, 1))
    pool = ThreadPoolExecutor(cores(), thread_name_prefix="spread")
    try:
        several = cores() > 1 and jax.default_backend() == "cpu"
        alike = several and pool.submit(_settings).result() == _settings()
        yield from (pool.map if alike else map)(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _settings() -> list[object]:
    return [getattr(jax.config, name) for name in SETTINGS]

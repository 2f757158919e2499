"""Functions traced now and compiled meanwhile, on threads beside the main one.

XLA compiles without Python's lock, so what a run needs later is compiled while something else is traced, compiled or
run.
"""

import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, thread_name_prefix="compile")


class Compiled:
    """A function of fixed shapes, whose call waits until it is compiled.

    Parameters
    ----------
    function, arguments
        What to compile, and arrays or `jax.ShapeDtypeStruct` in place of its arguments.
    once
        Compile fast rather than well, for what is called once.
    options
        Of `jax.jit`.

    Attributes
    ----------
    seconds
        Time that the caller spent on tracing, and on waiting for the compilation.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any, once: bool = False, **options: Any) -> None:
        began = time.perf_counter()
        lowered = jax.jit(function, **options).lower(*arguments)
        effort: dict[str, Any] | None = {"xla_backend_optimization_level": 0} if once else None
        self._compiled = _pool().submit(lowered.compile, effort)
        self.seconds = time.perf_counter() - began

    def __call__(self, *arguments: Any) -> Any:
        """Return the function's value."""
        if not self._compiled.done():
            began = time.perf_counter()
            self._compiled.exception()
            self.seconds += time.perf_counter() - began
        return self._compiled.result()(*arguments)

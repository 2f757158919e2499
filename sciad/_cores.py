"""The machine's cores as devices that JAX can use side by side; counting them imports no JAX."""

import os
import warnings


def use_cores(number: int | None = None) -> int:
    """Let JAX see several CPU devices, so that chains run in parallel; call it before anything else uses JAX.

    Parameters
    ----------
    number
        How many; default: as many as the machine has cores.

    Returns
    -------
    int
        How many devices there are now. If JAX was already in use nothing changes, and a warning says so.
    """
    import jax

    wanted = number or cores()
    try:
        jax.config.update("jax_num_cpu_devices", wanted)
    except RuntimeError:
        if len(jax.local_devices()) != wanted:
            warnings.warn(
                f"JAX is already in use, with {len(jax.local_devices())} device(s): chains share these. Call "
                "`sciad.use_cores()` at the top of the script, before the first array is made.",
                stacklevel=2,
            )
    return len(jax.local_devices())


def cores() -> int:
    """Count the processors that this process may use; containers and ``taskset`` give fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""Set up this process for a run, before JAX is imported: float64, the cores as devices, a compilation cache."""

import hashlib
import importlib.metadata
import os
import platform
import stat
import sys
from pathlib import Path
from typing import Any

from sciad._cores import cores

_PACKAGES = (
    "sciad", "jax", "jaxlib", "equinox", "diffrax", "optimistix", "lineax", "optax", "numpyro",
    "numpy", "scipy", "xarray", "arviz-base", "arviz-stats", "pandas", "matplotlib",
)  # fmt: skip


def prepare(*, devices: int | None = None, cache: bool = True) -> list[str]:
    """Configure JAX for the command line. Imports JAX, which takes seconds: say so to the user first.

    The library itself flips no global switch; the command line owns its process, so it does:

    * float64, because tolerances of 1e-8 and Hessians are out of float32's reach;
    * ``devices`` CPU devices, so that chains run beside each other without an environment variable;
    * a compilation cache on disk, since compiling takes far longer than sampling;
    * ``EQX_ON_ERROR=nan``. JAX does not store a computation that holds a host callback, and Equinox's run-time errors
      are host callbacks: with them the cache would never be hit. Failures are not lost by this, as every solver here
      reports through its result code.

    Parameters
    ----------
    devices : int, optional
        Number of CPU devices; the processors that this process may use by default.
    cache : bool
        Whether to use the compilation cache.

    Returns
    -------
    list of str
        What could not be set up and what that costs, in plain words; empty when all is well.
    """
    notes = []
    if "equinox" in sys.modules and os.environ.get("EQX_ON_ERROR") != "nan":
        notes.append("Equinox was imported earlier, so compiled code is not kept between runs.")
    os.environ.setdefault("EQX_ON_ERROR", "nan")

    import jax

    jax.config.update("jax_enable_x64", True)
    try:
        jax.config.update("jax_num_cpu_devices", devices or cores())
    except RuntimeError:
        notes.append(f"JAX was started earlier with {jax.local_device_count()} device(s); chains share them.")
    if cache:
        notes += _use_cache(jax)
    return notes


def describe() -> dict[str, Any]:
    """Describe the machine and the versions of the packages, without names of hosts, users or folders.

    Examples
    --------
    >>> describe()["python"].count(".")
    2
    """
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": cores(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")


def _use_cache(jax: Any) -> list[str]:
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return []
    try:
        folder = _cache_folder(jax.__version__)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_private(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home folder
        reason = getattr(error, "strerror", None) or error
        return [f"No compilation cache ({reason}), so every run compiles anew. Set XDG_CACHE_HOME to a private folder."]
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return []


def _cache_folder(jax_version: str) -> Path:
    """One folder for each version and processor: XLA's CPU code uses the instructions of the machine that made it."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    traits = "\n".join((platform.machine(), _processor(), _cpuinfo("flags") or _cpuinfo("Features")))
    return base / "sciad" / f"jax-{jax_version}-{hashlib.sha256(traits.encode()).hexdigest()[:12]}"


def _require_private(folder: Path) -> None:
    """Refuse a folder that others may write: what lies in it is executed."""
    if os.name != "posix":
        return
    facts = folder.stat()
    if facts.st_uid != os.getuid():
        raise PermissionError(None, "it belongs to another user")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        folder.chmod(0o700)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(None, "it is not writable")

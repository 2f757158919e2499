"""Tools for honest figures: rows, the machine's description, fresh processes and interleaved timing."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any, TypedDict

from sciad._cores import cores

PACKAGES = ("sciad", "jax", "jaxlib", "equinox", "diffrax", "optimistix", "lineax", "numpyro", "arviz-stats")
ROOT = Path(__file__).resolve().parent.parent


class Row(TypedDict):
    """One figure of one system on one case."""

    case: str
    system: str
    metric: str
    value: float | None  # None: not a finite number
    unit: str


class MeasurementError(Exception):
    """A measurement in a fresh process that ended without an answer; the message holds its last words."""


class OverBudgetError(MeasurementError):
    """A measurement that was stopped because it took longer than it was given."""


def rows(case: str, system: str, figures: Mapping[str, tuple[float, str]]) -> list[Row]:
    """Turn ``{metric: (value, unit)}`` into rows of one case and system."""
    return [
        Row(case=case, system=system, metric=metric, value=float(value) if isfinite(value) else None, unit=unit)
        for metric, (value, unit) in figures.items()
    ]


def progress(message: str) -> None:
    """Say on standard error what is being measured; standard output is kept for the answer."""
    sys.stderr.write(f"[benchmarks] {message}\n")
    sys.stderr.flush()


def isolated(measurement: Callable[..., Any], *, timeout: float, peer: str | None = None, **arguments: Any) -> Any:
    """Call a module-level function in a fresh process and return its answer, which must be JSON.

    A `peer` has an environment of its own, which ``make peers`` builds.

    JAX's persistent compilation cache is off there, so that compile time is really spent, float64 is on, and
    nothing is inherited that changes the number of devices: each system asks for its own.

    Raises
    ------
    OverBudgetError
        If the process runs longer than ``timeout`` seconds; it is stopped.
    MeasurementError
        If the process fails; the message ends with the last line of its standard error. If the peer's environment
        is not there.
    """
    python = sys.executable if peer is None else f"{sys.prefix}-peers/{peer}/bin/python"
    if not Path(python).exists():
        message = f"{peer} has no environment: run `make peers`"
        raise MeasurementError(message)
    target = f"{measurement.__module__}:{measurement.__qualname__}"
    command = [python, "-m", "benchmarks.worker", target, json.dumps(arguments)]
    try:
        done = subprocess.run(
            command, env=_environment(), cwd=ROOT, timeout=timeout, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired as error:
        message = f"{target} {arguments} took longer than {timeout:.0f} s and was stopped"
        raise OverBudgetError(message) from error
    if done.returncode != 0:
        message = f"{target} {arguments} ended with code {done.returncode}: {_last_words(done.stderr)}"
        raise MeasurementError(message)
    return json.loads(done.stdout.strip().splitlines()[-1])


def _last_words(text: str) -> str:
    """Return the last line that looks like an exception, since JAX puts remarks after it, else the last line."""
    lines = text.strip().splitlines() or ["no message"]
    return next((line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)), lines[-1])


def _environment() -> dict[str, str]:
    """Return this process's environment without JAX settings, compile cache off, float64 on, CPU only."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    return kept | {
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "JAX_ENABLE_X64": "true",
        "JAX_PLATFORMS": "cpu",
    }


class CompileClock:
    """The time since it was made in which JAX has traced, lowered or compiled.

    JAX reports each of these as an event with a duration when it ends. Events nest and, in threads, overlap: what
    counts is the union of their intervals.
    """

    def __init__(self) -> None:
        import jax.monitoring

        self._intervals: list[tuple[float, float]] = []
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            now = time.perf_counter()
            self._intervals.append((now - duration_secs, now))

    @property
    def seconds(self) -> float:
        """Length of the union of the intervals so far."""
        total, covered = 0.0, float("-inf")
        for start, end in sorted(self._intervals):
            total += max(0.0, end - max(start, covered))
            covered = max(covered, end)
        return total


def interleave(
    calls: Mapping[str, Callable[[], Any]], *, seconds: float, slice_seconds: float = 0.01, least_rounds: int = 20
) -> dict[str, list[float]]:
    """Time several calls in alternation and return, for each, the seconds of one call in every round.

    A round times each call once, for about ``slice_seconds``, one after the other; the order is reversed from
    round to round, so that a drift of the machine hits all of them alike and ratios are taken within rounds. Every
    call must block until its result is there.
    """
    repeats = {name: max(1, round(slice_seconds / _warm(call))) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order, stop, rounds = list(calls), time.perf_counter() + seconds, 0
    while rounds < least_rounds or time.perf_counter() < stop:
        for name in order:
            samples[name].append(_per_call(calls[name], repeats[name]))
        order.reverse()
        rounds += 1
    return samples


def _warm(call: Callable[[], Any]) -> float:
    """Return the seconds of one call after two that are thrown away (compilation, caches)."""
    return [_per_call(call, 1) for _ in range(3)][-1]


def _per_call(call: Callable[[], Any], repeats: int) -> float:
    """Return the mean seconds of one of ``repeats`` calls in a row."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def ratio(samples: list[float], bare: list[float]) -> float:
    """Return the median over rounds of the ratio of the two calls' times in the same round."""
    return median(ours / theirs for ours, theirs in zip(samples, bare, strict=True))


def machine() -> dict[str, str | int | float]:
    """Describe the processor, cores that this process may use, memory in GiB and platform."""
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _cpu_model() -> str:
    """Return the processor's name where the system tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _memory_gib() -> float:
    """Return the machine's memory in GiB, 0 where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return 0.0


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the figures depend on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    """Return a package's version, or say that it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

"""Measured claims: ``python -m benchmarks list`` names them; each prints one JSON line last."""

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from benchmarks.measure import Row

BENCHMARKS = ("nuts_ode", "ode_fit", "ode_overhead", "pinn", "pinn_coverage", "pinn_domains", "pinn_inverse", "ude")


class Benchmark(Protocol):
    """What every benchmark module offers: a docstring, its cases, and a function that measures one of them."""

    CASES: Sequence[str]
    __doc__: str | None

    def run(self, case: str, budget: float, peers: bool) -> list[Row]:
        """Measure one case within about ``budget`` seconds for each system; ``peers`` adds other packages."""
        ...


def load(name: str) -> Benchmark:
    """Import the benchmark called ``name``, one of `BENCHMARKS`."""
    return cast(Benchmark, import_module(f"benchmarks.{name}"))

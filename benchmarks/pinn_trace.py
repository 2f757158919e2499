"""The error of a network while it trains: what a peer reports, and what is read off it. Needs NumPy and SciPy alone."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.pde_references import REFERENCES, relative_l2, solution

FIRST, GROWTH = 0.25, 1.1  # seconds of the first look, and how much later each next one is

Pairs = Sequence[Sequence[float]]  # seconds and relative L2 error, in the order of time


class Trace:
    """Seconds and errors on the usual grid, looked at ever more rarely; looking does not count as time.

    The clock starts with `start`, after the reference has been computed, and includes whatever the peer compiles.
    """

    def __init__(self, case: str, budget: float) -> None:
        axes = REFERENCES[case].grid()
        self.exact = solution(case, *axes)
        self.points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        self.pairs: list[tuple[float, float]] = []
        self._budget = budget
        self.start()

    def start(self) -> None:
        """Start the clock."""
        self._began, self._next = time.perf_counter(), FIRST

    @property
    def seconds(self) -> float:
        """Seconds since the start, without those of looking."""
        return time.perf_counter() - self._began

    def over(self, share: float = 1.0) -> bool:
        """Say whether a share of the budget is spent."""
        return self.seconds >= share * self._budget

    def look(self, predict: Callable[[np.ndarray], np.ndarray], *, now: bool = False) -> None:
        """Note the error if it is time to: ``predict`` takes points of shape (n, 2), in the order of the reference."""
        seconds = self.seconds
        if not (now or seconds >= self._next):
            return
        begun = time.perf_counter()
        found = np.asarray(predict(self.points), float).reshape(self.exact.shape)
        self.pairs.append((seconds, relative_l2(found, self.exact)))
        self._next = max(seconds * GROWTH, seconds + FIRST)
        self._began += time.perf_counter() - begun


def best(pairs: Pairs) -> tuple[float, float]:
    """Return the seconds at which a trace had its smallest error, and that error; without one, infinity twice."""
    finite = [(error, seconds) for seconds, error in pairs if np.isfinite(error)]
    error, seconds = min(finite, default=(float("inf"), float("inf")))
    return seconds, error


def seconds_to(pairs: Pairs, error: float) -> float:
    """Return the first seconds at which a trace has at most the error, infinity if it never has."""
    return next((seconds for seconds, reached in pairs if reached <= error), float("inf"))

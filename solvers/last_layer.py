"""Linear problems by one linear least-squares solve, over features that are drawn and chosen by their scales."""

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, PyTree

from sciad._errors import OptionError
from sciad.solvers.rounds import Outcome, Posed, judged
from sciad.solvers.step_forms import bytes_of

SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)  # of all coordinates, tried first
FACTORS = (0.25, 0.5, 2.0, 4.0)  # for each coordinate in turn, tried then
SWEEPS = 3  # over the coordinates at most
NEAR = (1.0, 0.6, 1.6)  # factors of the best scales, tried with all features
SMALL = 0.4  # share of features and points with which scales are compared
ROUNDING = 1e-12  # of the residual without a solution: nothing is gained below it
RANK = 1e-15  # of the largest singular value: what is smaller is rounding

Pose = Callable[[Float[np.ndarray, " d"], int], tuple[Posed, Float[Array, " p"]]]


class LastLayer(eqx.Module):
    r"""Solve for the last layer of a network whose hidden layer is drawn, where equation and conditions are linear.

    .. math:: \min_c \lVert r(0) + J c \rVert^2

    by a complete orthogonal decomposition. The scales of the features, one for each coordinate, are chosen by the
    residual on points held out: first one for all, then each in turn, with two fifths of the features; the best and its
    neighbours with all of them. What comes out is a spectral method with a random basis, and no trained network.

    Parameters
    ----------
    width
        Number of features.
    points
        How many inside the domain.
    """

    width: int = eqx.field(static=True)
    points: int = eqx.field(static=True)

    def __init__(self, *, width: int = 1000, points: int = 3000) -> None:
        for name, value in {"width": width, "points": points}.items():
            if not value > 0:
                msg = f"LastLayer({name}={value}): expected a positive number."
                raise OptionError(msg)
        self.width, self.points = width, points

    def memory(self, rows: int, parameters: int) -> float:
        """Return the bytes of the Jacobian and of what is made of it."""
        return bytes_of("normal", rows, parameters)

    def solve(
        self,
        coordinates: int,
        pose: Pose,
        setting: Callable[[int, int], PyTree],
        report: Callable[[int, float], None] | None = None,
    ) -> tuple[Posed, Outcome]:
        """Return the problem posed with the best features, and what was found.

        ``pose(scales, width)`` gives the problem with such features and its start, ``setting(0, n)`` n points inside,
        ``setting(-1, n)`` others that are held out.
        """
        search = _Search(pose, setting, report)
        few, fewer = int(np.ceil(SMALL * self.width)), int(np.ceil(SMALL * self.points))
        search.size(few, fewer)
        best = min((np.full(coordinates, scale) for scale in SCALES), key=search.held_out)
        for _ in range(SWEEPS if coordinates > 1 else 0):
            before = best
            for axis in range(coordinates if search.held_out(best) > ROUNDING * search.unsolved["equation"] else 0):
                factors = np.ones((len(FACTORS) + 1, coordinates))
                factors[1:, axis] = FACTORS
                best = min((best * factor for factor in factors), key=search.held_out)
            if np.array_equal(best, before):
                break
        search.size(self.width, self.points)
        fine = search.held_out(best) <= ROUNDING * search.unsolved["equation"]
        best = min((best * factor for factor in NEAR[: 1 if fine else None]), key=search.held_out)
        words = ", ".join(f"{scale:.3g}" for scale in best)
        return search.outcome(best, f"Linear: {self.width} random features of scale {words}, one least-squares solve.")


class _Search:
    """Solves by scales, each made once."""

    def __init__(
        self, pose: Pose, setting: Callable[[int, int], PyTree], report: Callable[[int, float], None] | None
    ) -> None:
        self._pose, self._setting, self._report = pose, setting, report
        self._began, self._history, self._compiling = time.perf_counter(), [], 0.0
        self._width, self._train, self._held = 0, None, None
        self._found: dict[tuple[float, ...], tuple[float, float, Posed, Array, dict[str, float]]] = {}
        self.unsolved: dict[str, float] = {}

    def size(self, width: int, points: int) -> None:
        """Choose how many features and points; what was found with others is forgotten."""
        self._width, self._found = width, {}
        self._train, self._held = self._setting(0, points), self._setting(-1, points)

    def held_out(self, scales: Float[np.ndarray, " d"]) -> float:
        """Return the root mean square of the residuals on points held out."""
        place = tuple(scales.tolist())
        if place not in self._found:
            posed, start = self._pose(scales, self._width)
            self.unsolved = {name: float(value) for name, value in judged(posed, start, self._held).items()}
            location, trained = _solved(posed, start, self._train)
            out = {name: float(value) for name, value in judged(posed, location, self._held).items()}
            total = float(np.sqrt(sum(value**2 for value in out.values())))
            self._found[place] = total if np.isfinite(total) else np.inf, trained, posed, location, out
            seconds = time.perf_counter() - self._began
            self._compiling = self._compiling or seconds
            self._history.append((len(self._history) + 1, seconds, trained, total))
            if self._report is not None:
                self._report(len(self._history), min(f[0] for f in self._found.values()))
        return self._found[place][0]

    def outcome(self, scales: Float[np.ndarray, " d"], words: str) -> tuple[Posed, Outcome]:
        """Return what was found with these scales."""
        total, trained, posed, location, out = self._found[tuple(scales.tolist())]
        stats: dict[str, Any] = {
            "steps": len(self._history),
            "rounds": len(self._history),
            "seconds": time.perf_counter() - self._began,
            "compile_seconds": self._compiling,
            "scales": scales.tolist(),
            "trained": trained,
            "held_out": total,
            "unsolved": self.unsolved,
            "ended": words,
        }
        return posed, Outcome(location, out, np.array(self._history), stats)


def _solved(posed: Posed, start: Array, setting: PyTree) -> tuple[Array, float]:
    """Return the best coefficients, and the root mean square of the residuals there."""
    jacobian, (residuals, _) = jax.tree.map(np.asarray, eqx.filter_jit(posed.linearised)(start, setting))
    lengths = np.linalg.norm(jacobian, axis=0)
    lengths = np.where(lengths > 0, lengths, 1.0)
    step: Any = scipy.linalg.lstsq(jacobian / lengths, -residuals, cond=RANK, lapack_driver="gelsy")
    change = step[0] / lengths
    return start + jnp.asarray(change), float(np.linalg.norm(residuals + jacobian @ change))

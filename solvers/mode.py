"""Modes of a density, from many draws of its prior, by damped Newton steps taken on the host.

The model is compiled once, as a batch of values and gradients; Hessians are central differences of these gradients. That is
less work for a small model than compiling its second derivatives.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Batch = Callable[[Float[np.ndarray, "n d"]], tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n d"]]]

STEP = 1e-4  # of the central differences, in units of the unconstrained parameters
DECREMENT = 1e-6  # half the squared Newton decrement, in units of log-density, at which a mode is found


class Mode(NamedTuple):
    """A local minimum of the potential; `converged` if the Newton decrement is below `DECREMENT`."""

    position: Float[np.ndarray, " d"]
    potential: float
    hessian: Float[np.ndarray, "d d"]
    converged: bool


def find_modes(evaluate: Batch, starts: Float[np.ndarray, "n d"], *, best: int = 16, iterations: int = 60) -> list[Mode]:
    """Return the distinct modes reached from the first start and the `best` others, lowest potential first.

    None are returned if every start is impossible.

    Parameters
    ----------
    evaluate
        Potentials and gradients of a batch of positions; infinite and zero where the model fails.
    """
    potentials, _ = evaluate(starts)
    order = [i for i in [0, *np.argsort(potentials[1:])[:best] + 1] if np.isfinite(potentials[i])]
    modes: list[Mode] = []
    for i in order:
        mode = _newton(evaluate, starts[i], iterations)
        if not any(_same(mode, other) for other in modes):
            modes.append(mode)
    return sorted(modes, key=lambda mode: mode.potential)


def _newton(evaluate: Batch, position: Float[np.ndarray, " d"], iterations: int) -> Mode:
    """Minimise with the Hessian's absolute eigenvalues, which lead downhill from saddles too, and a growing damping."""
    damping = 1e-3
    values, gradients = evaluate(position[None])
    potential, gradient = float(values[0]), gradients[0]
    hessian = _hessian(evaluate, position)
    for _ in range(iterations):
        curvature, axes = np.linalg.eigh(hessian)
        slope = axes.T @ gradient
        decrement = 0.5 * np.sum(slope**2 / np.maximum(np.abs(curvature), 1e-8))
        if decrement < DECREMENT and curvature[0] > 0:
            return Mode(position, potential, hessian, converged=True)
        # All damping values are tried in one batch; the lowest point is taken.
        dampings = damping * 10.0 ** np.arange(-2, 6)
        steps = np.stack([-axes @ (slope / (np.maximum(np.abs(curvature), 1e-8) + d)) for d in dampings])
        values, gradients = evaluate(position + np.clip(steps, -2.0, 2.0))
        lowest = int(np.argmin(values))
        if not values[lowest] < potential:
            break
        position = position + np.clip(steps[lowest], -2.0, 2.0)
        potential, gradient = float(values[lowest]), gradients[lowest]
        damping = min(max(dampings[lowest], 1e-8), 1e4)
        hessian = _hessian(evaluate, position)
    return Mode(position, potential, hessian, converged=False)


def _hessian(evaluate: Batch, position: Float[np.ndarray, " d"]) -> Float[np.ndarray, "d d"]:
    shifts = STEP * np.eye(position.size)
    values, gradients = evaluate(np.concatenate([position + shifts, position - shifts]))
    up, down = np.split(gradients, 2)
    good = np.isfinite(values).reshape(2, -1).all(axis=0)
    rows = np.where(good[:, None], (up - down) / (2 * STEP), 0.0)
    return (rows + rows.T) / 2


def _same(mode: Mode, other: Mode) -> bool:
    apart = mode.position - other.position
    return bool(apart @ other.hessian @ apart < 0.1 and abs(mode.potential - other.potential) < 0.1)

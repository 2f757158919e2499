"""Modes of a density, from many draws of its prior, by damped Newton steps taken on the host.

The model is compiled once, as a batch of values and gradients; Hessians are central differences of these gradients.
That is less work for a small model than compiling its second derivatives. All starts advance together, so that batches
are full.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

Batch = Callable[[Float[np.ndarray, "n d"]], tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n d"]]]

STEP = 1e-4  # of the central differences, in units of the unconstrained parameters
DECREMENT = 1e-4  # half the squared Newton decrement, in units of log-density, at which a mode is found
STALLED = 1e-2  # the same, where rounding or a solver's tolerance lets no step descend
FLATTEST = 0.1  # least curvature believed of a point that is no mode: a standard deviation of 3 in unconstrained space
SPIKE = 3.0  # a mode that holds less than a place on the way to it, by this logarithm, is passed over
GREATEST = 1e12  # damping beyond which no step descends
FEW = 6  # steps after which the best are chosen
IMPOSSIBLE = 1e30  # stands for an infinite potential, which no line search can interpolate
LONGEST = 2.0  # change of any parameter in one step


class Mode(NamedTuple):
    """A local minimum of the potential, or, if not `converged`, the place of most mass on the way to one."""

    position: Float[np.ndarray, " d"]
    potential: float
    hessian: Float[np.ndarray, "d d"]
    converged: bool

    @property
    def mass(self) -> float:
        r"""Laplace's estimate of the log-probability about it: :math:`-U - \tfrac12\log\det\lvert H\rvert`.

        A spike without volume, such as the neck of a funnel, is high and has little mass.
        """
        curvature = np.abs(np.linalg.eigvalsh(self.hessian))
        curvature = curvature if self.converged else np.maximum(curvature, FLATTEST)
        return float(-self.potential - 0.5 * np.sum(np.log(curvature)))

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Inverse of the Hessian; if not converged, of its absolute value, bounded."""
        curvature, axes = np.linalg.eigh(self.hessian)
        curvature = curvature if self.converged else np.maximum(np.abs(curvature), FLATTEST)
        return (axes / curvature) @ axes.T


def find_modes(
    evaluate: Batch,
    starts: Float[np.ndarray, "n d"],
    *,
    wide: int = 32,
    best: int = 8,
    apart: int = 4,
    iterations: int = 60,
) -> list[Mode]:
    """Return distinct modes, that of most mass first.

    The first start and the `wide` best others go a few steps, since the best at first need not lead to the best mode;
    the `best` of these then go to the end, and the `apart` that are furthest from them, since the best may all be on
    their way to one mode. None are returned if every start is impossible.

    Parameters
    ----------
    evaluate
        Potentials and gradients of a batch of positions; infinite and zero where the model fails.
    """
    potentials, _ = evaluate(starts)
    order = [i for i in [0, *np.argsort(potentials[1:])[:wide] + 1] if np.isfinite(potentials[i])]
    if not order:
        return []
    early = [mode.position for mode in _distinct(_descend(evaluate, starts[order], FEW))]
    kept = _with_furthest(early[:best], early[best:], apart, np.std(starts, axis=0))
    return _distinct(_descend(evaluate, np.stack(kept), iterations))


def descend(evaluate: Batch, starts: Float[np.ndarray, "n d"], *, iterations: int = 200) -> list[Mode]:
    """Return a place downhill of the best start, by L-BFGS, where parameters are too many for their Hessian.

    Its Hessian is taken as the identity. None is returned if every start is impossible.
    """
    potentials, _ = evaluate(starts)
    if not np.isfinite(potentials).any():
        return []

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        potential, gradient = evaluate(x[None])
        return min(float(potential[0]), IMPOSSIBLE), gradient[0].astype(float)

    best = starts[np.argmin(potentials)]
    found = minimize(value, best, jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    return [Mode(found.x, float(found.fun), np.eye(best.size), converged=False)]


def _with_furthest(
    kept: list[np.ndarray], others: list[np.ndarray], number: int, unit: Float[np.ndarray, " d"]
) -> list[np.ndarray]:
    """Add so many of the others, each the one furthest, in units of the starts' spread, from the nearest of those kept.

    It is how T. F. Gonzalez, Theoretical Computer Science 38 (1985), finds centres of clusters.
    """
    kept, others = list(kept), list(others)
    scale = np.where(unit > 0, unit, 1.0)
    while others and number > 0:
        away = [min(np.linalg.norm((x - y) / scale) for y in kept) for x in others]
        kept.append(others.pop(int(np.argmax(away))))
        number -= 1
    return kept


def _distinct(found: list[Mode]) -> list[Mode]:
    """Sort by mass, and leave out what was reached before."""
    modes: list[Mode] = []
    for mode in sorted(found, key=lambda mode: -mode.mass):
        if not any(_same(mode, other) for other in modes):
            modes.append(mode)
    return modes


def _descend(evaluate: Batch, x: Float[np.ndarray, "n d"], iterations: int) -> list[Mode]:
    """Minimise from each row by the Hessian's absolute eigenvalues, downhill from saddles too, with a damping."""
    potential, gradient = evaluate(x)
    found: list[Mode | None] = [None] * len(x)
    rows, damping = np.arange(len(x)), np.full(len(x), 1e-3)
    for _ in range(iterations):
        if not rows.size:
            break
        hessians = _hessians(evaluate, x)
        curvature, axes = np.linalg.eigh(hessians)
        slope = np.einsum("nij,ni->nj", axes, gradient)
        bounded = np.maximum(np.abs(curvature), 1e-8)
        decrement = 0.5 * np.sum(slope**2 / bounded, axis=1)
        # Eight dampings of each row are tried in one batch; the lowest point is taken.
        dampings = damping[:, None] * 10.0 ** np.arange(-2, 6)
        scaled = slope[:, None] / (bounded[:, None] + dampings[..., None])
        steps = np.clip(-np.einsum("nij,nkj->nki", axes, scaled), -LONGEST, LONGEST)
        values, gradients = evaluate((x[:, None] + steps).reshape(-1, x.shape[1]))
        values, gradients = values.reshape(dampings.shape), gradients.reshape(steps.shape)
        at = np.arange(len(x)), np.argmin(values, axis=1)
        lower = values[at] < potential
        stuck = ~lower & (dampings[:, -1] > GREATEST)
        done: np.ndarray = np.logical_and(curvature[:, 0] > 0, decrement < np.where(lower, DECREMENT, STALLED))
        for i, row in enumerate(rows):
            reached = Mode(x[i], float(potential[i]), hessians[i], converged=bool(done.item(i)))
            before = found[row]
            credit = SPIKE if reached.converged else 0.0
            found[row] = reached if before is None or reached.mass + credit > before.mass else before
        x = np.where(lower[:, None], x + steps[at], x)
        potential = np.where(lower, values[at], potential)
        gradient = np.where(lower[:, None], gradients[at], gradient)
        damping = np.where(lower, np.maximum(dampings[at], 1e-8), 1e2 * dampings[:, -1])
        on = np.logical_not(np.logical_or(done, stuck))
        x, potential, gradient, damping, rows = (a[on] for a in (x, potential, gradient, damping, rows))
    return [mode for mode in found if mode is not None]


def _hessians(evaluate: Batch, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d d"]:
    shifts = STEP * np.concatenate([np.eye(x.shape[1]), -np.eye(x.shape[1])])
    values, gradients = evaluate((x[:, None] + shifts).reshape(-1, x.shape[1]))
    up, down = np.moveaxis(gradients.reshape(len(x), 2, x.shape[1], -1), 1, 0)
    good = np.all(np.isfinite(values).reshape(len(x), 2, -1, 1), axis=1)
    matrix = np.where(good, (up - down) / (2 * STEP), 0.0)
    return (matrix + np.swapaxes(matrix, 1, 2)) / 2


def _same(mode: Mode, other: Mode) -> bool:
    apart = mode.position - other.position
    return bool(apart @ other.hessian @ apart < 0.1 and abs(mode.potential - other.potential) < 0.1)

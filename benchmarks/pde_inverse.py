"""Coefficients of equations from scattered observations: M. Raissi et al.'s problems (J. Comput. Phys. 378, 2019).

The published fields are computed here on their grids instead of read: `benchmarks.pde_references` agrees with them to
3e-12 (Burgers) and 7e-12 (KdV). Observations are points of the grid drawn without replacement, as there, with noise in
shares of the field's standard deviation.

| case | equation | true coefficients | grid |
| --- | --- | --- | --- |
| `burgers` | u_t + first u u_x = second u_xx | 1, 0.01 / pi | 256 in [-1, 1] x 100 in [0, 0.99] |
| `kdv` | u_t + first u u_x + second u_xxx = 0 | 1, 0.0025 | 512 in [-1, 1) x 201 in [0, 1] |

Raissi's own KdV problem has two snapshots; here its observations are scattered in time too. Needs NumPy and SciPy
alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.pde_references import NU, cole_hopf, kdv

OBSERVED = 2000
NOISE = {"clean": 0.0, "noise_1_percent": 0.01}


@dataclass(frozen=True)
class Inverse:
    """True coefficients, and the grid of the published field."""

    true: dict[str, float]
    x: np.ndarray
    t: np.ndarray
    solution: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Observations:
    """Coordinates and noisy values, one entry a point."""

    x: np.ndarray
    t: np.ndarray
    u: np.ndarray


INVERSE = {
    "burgers": Inverse({"first": 1.0, "second": NU}, np.linspace(-1, 1, 256), np.arange(100) / 100, cole_hopf),
    "kdv": Inverse(
        {"first": 1.0, "second": 0.0025},
        np.arange(512) / 256 - 1,
        np.arange(201) / 200,
        lambda x, t: kdv(x, t, dispersion=0.0025),
    ),
}


def observed(case: str, seed: int, *, noise: float = 0.0, points: int = OBSERVED) -> Observations:
    """Return seeded observations; ``noise`` is a share of the standard deviation of the whole field."""
    problem = INVERSE[case]
    field = problem.solution(problem.x, problem.t)
    draw = np.random.default_rng(seed)
    at = draw.choice(field.size, points, replace=False)
    i, j = np.unravel_index(at, field.shape)
    scatter = noise * field.std() * draw.standard_normal(points)
    return Observations(problem.x[i], problem.t[j], field[i, j] + scatter)


def errors(case: str, found: dict[str, float]) -> dict[str, float]:
    """Return the relative error of each coefficient."""
    return {name: abs(found[name] / true - 1) for name, true in INVERSE[case].true.items()}

"""Solutions on domains with corners and holes, in many dimensions, and of a system, each with its own measured error.

`CASES` gives for each case ``(points on which errors are measured, the solution there, its own error)``. Closed forms,
least squares over functions that solve the equation, whose error inside is at most that on the boundary (maximum
principle), and collocation on Chebyshev nodes, compared with that on fewer.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sciad.problems.grids import chebyshev, interpolation

RADIUS, INNER, OUTER = 0.6, 1.0, 10.0  # of the round inclusion
HOLES = ((-0.4, -0.4, 0.2), (0.45, -0.3, 0.15), (0.0, 0.45, 0.25))  # centres and radii
REYNOLDS, NODES = 100.0, 32


class Truth(NamedTuple):
    """Points (n, d), the fields there (n, fields), and the relative error of these."""

    points: np.ndarray
    values: np.ndarray
    floor: float


def grid(*axes: np.ndarray) -> np.ndarray:
    """Return all points of a grid."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def poisson5d() -> Truth:
    """Return the sum of ``cos(πx)`` over five coordinates of the unit cube, at random points."""
    points = np.random.default_rng(0).random((10_000, 5))
    return Truth(points, np.cos(np.pi * points).sum(axis=1, keepdims=True), float(np.finfo(float).eps))


def interface() -> Truth:
    """Return ``r²/a``, continuous, with a = 1 within the radius and 10 beyond it: ``a Δu = 4``."""
    points = grid(*[np.linspace(-1, 1, 201)] * 2)
    squared = (points**2).sum(axis=1)
    beyond = squared / OUTER + (1 / INNER - 1 / OUTER) * RADIUS**2
    values = np.where(squared < RADIUS**2, squared / INNER, beyond)
    return Truth(points, values[:, None], float(np.finfo(float).eps))


def perforated() -> Truth:
    """Return the harmonic function of a square with three holes, 1 on these and 0 on the sides."""
    degree, powers, along = 40, 20, np.linspace(-1, 1, 400)

    def basis(z: np.ndarray) -> np.ndarray:
        parts = [np.ones((z.size, 1))]
        whole = (z[:, None] / np.sqrt(2)) ** np.arange(1, degree + 1)
        parts += [whole.real, whole.imag]
        for x, y, radius in HOLES:
            from_centre = z - (x + 1j * y)
            inverse = (radius / from_centre[:, None]) ** np.arange(1, powers + 1)
            parts += [inverse.real, inverse.imag, np.log(np.abs(from_centre))[:, None]]
        return np.concatenate(parts, axis=1)

    sides = np.concatenate([along - 1j, along + 1j, -1 + 1j * along, 1 + 1j * along])
    circle = np.exp(2j * np.pi * np.arange(200) / 200)
    holes = np.concatenate([x + 1j * y + radius * circle for x, y, radius in HOLES])
    points = grid(*[np.linspace(-1, 1, 201)] * 2)
    outside = [np.hypot(points[:, 0] - x, points[:, 1] - y) > radius for x, y, radius in HOLES]
    points = points[np.all(outside, axis=0)]
    where = np.concatenate([sides, holes])
    wanted = np.concatenate([np.zeros(sides.size), np.ones(holes.size)])
    return _by_boundary(points, np.zeros_like, basis, where, wanted)


def lshape() -> Truth:
    """Return the solution of ``-Δu = 1``, u = 0 on the sides, on the square less its lower right quarter.

    A function with the right behaviour on the sides that meet in the re-entrant corner, and ``r^(2k/3) sin(2kθ/3)``, as
    they are there; at the other corners the solution holds ``z² log z`` of the distance from them.
    """
    terms = 60
    others = np.array([1, 1 + 1j, -1 + 1j, -1 - 1j, -1j])
    bisectors = np.array([np.pi * 3 / 4, -np.pi * 3 / 4, -np.pi / 4, np.pi / 4, np.pi * 3 / 4])  # into the domain

    def angle(z: np.ndarray) -> np.ndarray:
        return np.mod(np.angle(z) + 1e-14, 2 * np.pi)

    def particular(z: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.where(z == 0, 0.0, (z**2 * (np.log(np.abs(z)) + 1j * angle(z))).imag)
        return -(np.abs(z) ** 2) / 4 + np.real(z**2) / 4 - log / (3 * np.pi)

    def basis(z: np.ndarray) -> np.ndarray:
        k = 2 / 3 * np.arange(1, terms + 1)
        parts = [(np.abs(z[:, None]) / np.sqrt(2)) ** k * np.sin(k * angle(z)[:, None])]
        for corner, bisector in zip(others, bisectors, strict=True):
            w = (z - corner) * np.exp(-1j * bisector)
            with np.errstate(divide="ignore", invalid="ignore"):
                log = np.log(w)
                found = [np.where(w == 0, 0.0, w**n * log) for n in (2, 6, 10)]
            parts += [part[:, None] for f in found for part in (np.real(f), np.imag(f))]
        whole = (z[:, None] / np.sqrt(2)) ** np.arange(1, 13)
        return np.concatenate([*parts, np.ones((z.size, 1)), whole.real, whole.imag], axis=1)

    t = (1 - np.cos(np.pi * np.arange(1, 240) / 240)) / 2  # dense near the corners
    sides = [t, 1 + 1j * t, 1j + (2 * t - 1), -1 + 1j * (2 * t - 1), -1 + t - 1j, -1j * t]
    where = np.concatenate(sides)
    points = grid(*[np.linspace(-1, 1, 201)] * 2)
    points = points[~((points[:, 0] > 0) & (points[:, 1] < 0))]
    return _by_boundary(points, particular, basis, where, np.zeros(where.size))


def _by_boundary(
    points: np.ndarray,
    particular: Callable[[np.ndarray], np.ndarray],
    basis: Callable[[np.ndarray], np.ndarray],
    where: np.ndarray,
    wanted: np.ndarray,
) -> Truth:
    """Fit harmonic functions to what is left on the boundary; every other place there tells the error."""
    matrix, missing = basis(where), wanted - np.real(particular(where))
    scale = np.linalg.norm(matrix[::2], axis=0)
    solution = np.linalg.lstsq(matrix[::2] / scale, missing[::2], rcond=1e-14)[0] / scale
    missed = np.abs(matrix @ solution - missing).max()
    z = points[:, 0] + 1j * points[:, 1]
    values = np.real(particular(z)) + basis(z) @ solution
    return Truth(points, values[:, None], float(missed / np.sqrt(np.mean(values**2))))


def lid(x: np.ndarray) -> np.ndarray:
    """Return the velocity of the lid, at rest with its slope in both corners."""
    return 16 * x**2 * (1 - x) ** 2


def cavity() -> Truth:
    """Return the velocities of a fluid in the unit square, driven by its lid, at Reynolds number 100."""
    axis = np.linspace(0, 1, 101)
    fine, coarse = (_velocities(nodes, axis) for nodes in (NODES, NODES - 6))
    return Truth(grid(axis, axis), fine, float(np.linalg.norm(fine - coarse) / np.linalg.norm(fine)))


def _velocities(nodes: int, axis: np.ndarray) -> np.ndarray:
    """Solve ``ψ_y Δψ_x - ψ_x Δψ_y = Δ²ψ / Re`` by Chebyshev collocation and Newton's method."""
    lattice = chebyshev(0.0, 1.0, nodes + 1)
    x, derivative, one = lattice.nodes, lattice.derivatives[0], np.eye(nodes + 1)
    dx, dy = np.kron(derivative, one), np.kron(one, derivative)
    laplace = dx @ dx + dy @ dy
    biharmonic, lx, ly = laplace @ laplace, laplace @ dx, laplace @ dy
    i, j = np.divmod(np.arange((nodes + 1) ** 2), nodes + 1)
    rim = (i == 0) | (i == nodes) | (j == 0) | (j == nodes)
    inner = (i > 1) & (i < nodes - 1) & (j > 1) & (j < nodes - 1)
    left_right, low_high = (i == 0) | (i == nodes), (j == 0) | (j == nodes)
    held = np.concatenate([np.eye(rim.size)[rim], dx[left_right], dy[low_high]])
    moving = np.where(j[low_high] == np.argmax(x), lid(x[i[low_high]]), 0.0)
    wanted = np.concatenate([np.zeros(rim.sum() + left_right.sum()), moving])
    psi = np.zeros((nodes + 1) ** 2)
    size = np.linalg.norm(biharmonic[inner], axis=1).mean() / REYNOLDS
    for _ in range(12):
        u, v = dy @ psi, dx @ psi
        off = u * (lx @ psi) - v * (ly @ psi) - biharmonic @ psi / REYNOLDS
        slope = (
            u[:, None] * lx + (lx @ psi)[:, None] * dy - v[:, None] * ly - (ly @ psi)[:, None] * dx
            - biharmonic / REYNOLDS
        )  # fmt: skip
        rows = np.concatenate([slope[inner] / size, held])
        step = np.linalg.lstsq(rows, np.concatenate([-off[inner] / size, wanted - held @ psi]), rcond=None)[0]
        psi = psi + step
        if np.linalg.norm(step) < 1e-12 * np.linalg.norm(psi):
            break
    to = interpolation(lattice, axis)
    at = np.kron(to, to)
    return np.stack([at @ (dy @ psi), -(at @ (dx @ psi))], axis=1)


CASES: dict[str, Callable[[], Truth]] = {
    "lshape": lshape,
    "perforated": perforated,
    "cavity": cavity,
    "poisson5d": poisson5d,
    "interface": interface,
}

"""Grids on an interval, with spectral derivatives and interpolation."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

ORDERS = 4  # derivatives along the grid


class Grid(NamedTuple):
    """Nodes, the matrices of the first derivatives, and the weights of barycentric interpolation."""

    nodes: Float[np.ndarray, " n"]
    derivatives: Float[np.ndarray, "orders n n"]
    weights: Float[np.ndarray, " n"]
    period: float  # 0: none


def chebyshev(low: float, high: float, number: int) -> Grid:
    r"""Return Chebyshev's points of the second kind, :math:`\cos(\pi k / (n - 1))` on the interval, in rising order.

    Source: L. N. Trefethen, *Spectral Methods in MATLAB* (2000), chapter 6; its diagonal is that of the negative sum.
    """
    k = np.arange(number)
    nodes = (low + high) / 2 - (high - low) / 2 * np.cos(np.pi * k / (number - 1))
    weights = np.where((k == 0) | (k == number - 1), 0.5, 1.0) * (-1.0) ** k
    apart = nodes[:, None] - nodes[None, :] + np.eye(number)
    first = weights[None, :] / weights[:, None] / apart
    np.fill_diagonal(first, 0.0)
    np.fill_diagonal(first, -first.sum(axis=1))
    return Grid(nodes, _powers(first), weights, 0.0)


def fourier(low: float, high: float, number: int) -> Grid:
    """Return equidistant points of a period, the second end left out; their number is made odd.

    Source: as for `chebyshev`, chapter 3.
    """
    number += 1 - number % 2
    k = np.arange(number)
    nodes = low + (high - low) * k / number
    angle = np.pi * (k[:, None] - k[None, :]) / number
    signs = (-1.0) ** (k[:, None] - k[None, :])
    first = np.zeros((number, number))
    off = ~np.eye(number, dtype=bool)
    first[off] = np.pi / (high - low) * signs[off] / np.sin(angle[off])
    return Grid(nodes, _powers(first), (-1.0) ** k, high - low)


def _powers(first: np.ndarray) -> np.ndarray:
    found = [first]
    for _ in range(ORDERS - 1):
        found.append(found[-1] @ first)
    return np.stack(found)


def interpolation(grid: Grid, points: Float[np.ndarray, " m"]) -> Float[np.ndarray, "m n"]:
    """Return the matrix that takes values at the nodes to those at other points, by the barycentric formula.

    Source: J.-P. Berrut and L. N. Trefethen, *Barycentric Lagrange interpolation*, SIAM Review 46 (2004).
    """
    apart = points[:, None] - grid.nodes[None, :]
    lengths = np.sin(np.pi * apart / grid.period) if grid.period else apart / np.ptp(grid.nodes)
    at = np.abs(lengths) < 1e-13
    terms = grid.weights / np.where(at, 1.0, lengths)
    matrix = terms / terms.sum(axis=1, keepdims=True)
    return np.where(at.any(axis=1, keepdims=True), at.astype(float), matrix)

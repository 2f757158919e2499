r"""Distances from edges, joined to one function by R-functions.

The distance from one edge, from the line or circle f = 0 that bears it and the half-plane or disk t >= 0 that cuts it
off, is

.. math:: \varphi_i = \sqrt{f^2 + \tfrac14\left(\sqrt{t^2 + f^4} - t\right)^2},

and all together are :math:`\varphi = 1 / \sum_i 1/\varphi_i` (R-equivalence of order one). It is zero on the edges
alone, has slope one across them, and is smooth elsewhere. Corners are the exception: there :math:`\varphi` has no
derivative, and second derivatives grow without bound towards them, as 1/distance.

A segment of length l has t = ((l/2)^2 - |x - m|^2)/l about its middle m; an arc has for t the distance from its chord,
towards the arc; a circle is not cut off. Lengths are in units of the greatest extent of the edges.

Source: N. Sukumar and A. Srivastava, *Exact imposition of boundary conditions with distance functions in
physics-informed deep neural networks*, Comput. Methods Appl. Mech. Engrg. 389 (2022).
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from sciad.models.domains.edges import Edge, bounds

ROUNDING = 1e-6  # of float32
FAR = 1e12  # for t, where nothing is cut off


def joined_distance(edges: Sequence[Edge], x: Any, y: Any, xp: ModuleType = jnp) -> Any:
    r"""Return :math:`\varphi` at points, in the unit of the coordinates."""
    unit, x, y = max(high - low for low, high in bounds(edges)), x[..., None] * 1.0, y[..., None] * 1.0
    straight, bent = [edge for edge in edges if not edge.sweep], [edge for edge in edges if edge.sweep]
    f, t = (xp.concatenate(pair, axis=-1) for pair in zip(_segments(straight, x, y), _arcs(bent, x, y), strict=True))
    each = unit * _cut_off(f / unit, t / unit, xp)
    # φ = φ_k / Σ φ_k/φ_i with the least φ_k: no division by zero on an edge, and derivatives in one piece there.
    k = xp.argmin(each, axis=-1, keepdims=True)
    least = xp.take_along_axis(each, k, axis=-1)
    same = (xp.arange(len(edges)).reshape((1,) * (each.ndim - 1) + (-1,)) == k) | (each == 0)
    return least[..., 0] / xp.sum(xp.where(same, 1.0, least / xp.where(same, 1.0, each)), axis=-1)


def _cut_off(f: Any, t: Any, xp: ModuleType) -> Any:
    # On the edge the derivative of |f| is that from within, where f is positive, whatever rounding says of its sign.
    width = xp.where(f < -ROUNDING, -f, f)
    squared = t**2 + f**4
    root = xp.sqrt(xp.where(squared > 0, squared, 1.0))
    # Before the edge (root - t)/2 is f^4/(2(root + t)), and |f| a factor of the whole: nothing cancels.
    before = width * xp.sqrt(1.0 + (f**3 / (2.0 * xp.where(t > 0, root + t, 1.0))) ** 2)
    beside = xp.where((t > 0) | (squared == 0), 1.0, f**2 + ((root - t) / 2.0) ** 2)
    return xp.where(t > 0, before, xp.where(squared == 0, 0.0, xp.sqrt(beside)))


def _segments(edges: Sequence[Edge], x: Any, y: Any) -> tuple[Any, Any]:
    start, end = (np.array([getattr(edge, which) for edge in edges], complex) for which in ("start", "end"))
    length, middle = np.abs(end - start), (start + end) / 2
    along = (end - start) / length
    ends = _like(x, np.real(middle), np.imag(middle), np.real(along), np.imag(along), length)
    middle_x, middle_y, along_x, along_y, length = ends
    x, y = x - middle_x, y - middle_y
    return along_x * y - along_y * x, (length**2 / 4.0 - x**2 - y**2) / length


def _arcs(edges: Sequence[Edge], x: Any, y: Any) -> tuple[Any, Any]:
    start, end, centre = (
        np.array([getattr(edge, which) for edge in edges], complex) for which in ("start", "end", "centre")
    )
    closed, turn = np.array([edge.closed for edge in edges], bool), np.sign([edge.sweep for edge in edges])
    chord = turn * np.where(closed, 0, end - start) / np.where(closed, 1.0, np.abs(end - start))
    # The arc lies to the right of its chord if it runs anticlockwise, whether it is short or long.
    offset = np.where(closed, FAR, np.imag(chord.conj() * start))
    parts = (np.real(centre), np.imag(centre), np.abs(start - centre), turn, np.real(chord), np.imag(chord), offset)
    centre_x, centre_y, radius, turn, chord_x, chord_y, offset = _like(x, *parts)
    f = turn * (radius**2 - (x - centre_x) ** 2 - (y - centre_y) ** 2) / (2.0 * radius)
    return f, chord_y * x - chord_x * y + offset


def _like(x: Any, *numbers: np.ndarray) -> list[np.ndarray]:
    """Return arrays of the precision and rank of x."""
    return [n.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,)) for n in numbers]

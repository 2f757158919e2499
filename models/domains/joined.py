r"""Distances from edges, joined to one function by R-functions.

The distance from one edge, from the line or circle f = 0 that bears it and the half-plane or disk t >= 0 that cuts it
off, is

.. math:: \varphi_i = \sqrt{f^2 + \tfrac14\left(\sqrt{t^2 + f^4} - t\right)^2},

and all together are :math:`\varphi = 1 / \sum_i 1/\varphi_i` (R-equivalence of order one). It is zero on the edges
alone, has slope one across them, and is smooth elsewhere. Corners are the exception: there :math:`\varphi` has no
derivative, and second derivatives grow without bound towards them, as 1/distance.

A segment of length l has t = ((l/2)^2 - |x - m|^2)/l about its middle m; an arc has for t the distance from its chord,
towards the arc; a circle is not cut off. Lengths are in units of the greatest coordinate of the edges.

Source: N. Sukumar and A. Srivastava, *Exact imposition of boundary conditions with distance functions in
physics-informed deep neural networks*, Comput. Methods Appl. Mech. Engrg. 389 (2022), section 4.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from sciad.models.domains.edges import Edge, size

ROUNDING = 1e-6  # of float32


def joined_distance(edges: Sequence[Edge], x: Any, y: Any, xp: ModuleType = jnp) -> Any:
    r"""Return :math:`\varphi` at points, in the unit of the coordinates."""
    unit = size(edges)
    each = [_one(edge, x, y, unit, xp) for edge in edges]
    # φ = φ_k / Σ φ_k/φ_i with the least φ_k: no division by zero on an edge, and derivatives in one piece there.
    least, chosen = xp.min(xp.stack(each), axis=0), xp.argmin(xp.stack(each), axis=0)
    return least / sum(_ratio(least, one, (chosen == i) | (one == 0), xp) for i, one in enumerate(each))


def _ratio(least: Any, one: Any, same: Any, xp: ModuleType) -> Any:
    return xp.where(same, 1.0, least / xp.where(same, 1.0, one))


def _one(edge: Edge, x: Any, y: Any, unit: float, xp: ModuleType) -> Any:
    f, t = (_arc if edge.sweep else _segment)(edge, x, y)
    # On the edge the derivative of |f| is that from within, where f is positive, whatever rounding says of its sign.
    width = xp.where(f < -ROUNDING * unit, -f, f)
    if t is None:
        return width
    f, t = f / unit, t / unit
    squared = t**2 + f**4
    root = xp.sqrt(xp.where(squared > 0, squared, 1.0))
    # Before the edge (root - t)/2 is f^4/(2(root + t)), and |f| a factor of the whole: nothing cancels.
    before = width * xp.sqrt(1.0 + (f**3 / (2.0 * xp.where(t > 0, root + t, 1.0))) ** 2)
    beside = xp.where((t > 0) | (squared == 0), 1.0, f**2 + ((root - t) / 2.0) ** 2)
    return xp.where(t > 0, before, xp.where(squared == 0, 0.0, unit * xp.sqrt(beside)))


def _segment(edge: Edge, x: Any, y: Any) -> tuple[Any, Any]:
    length, middle = edge.length, (edge.start + edge.end) / 2
    along = (edge.end - edge.start) / length
    x, y = x - middle.real, y - middle.imag
    return along.real * y - along.imag * x, (length**2 / 4 - x**2 - y**2) / length


def _arc(edge: Edge, x: Any, y: Any) -> tuple[Any, Any]:
    radius, turn = abs(edge.start - edge.centre), float(np.sign(edge.sweep))
    u, v = x - edge.centre.real, y - edge.centre.imag
    f = turn * (radius**2 - u**2 - v**2) / (2 * radius)
    if edge.closed:
        return f, None
    chord = (edge.end - edge.start) / abs(edge.end - edge.start)
    # The arc lies to the right of its chord if it runs anticlockwise, whether it is short or long.
    return f, turn * (chord.imag * (x - edge.start.real) - chord.real * (y - edge.start.imag))

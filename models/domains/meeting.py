"""Where segments and arcs meet."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Complex

from sciad.models.domains.edges import Edge


def shares_where_met(edge: Edge, others: Sequence[Edge], tolerance: float) -> list[float]:
    """Return the shares of an edge's length, strictly between its ends, at which other edges meet it.

    Where they run along it, these are where they begin and end.
    """
    candidates = [np.concatenate([_meeting(edge, other), [other.start, other.end]]) for other in others]
    points = np.concatenate([z[other.gap(z) <= tolerance] for z, other in zip(candidates, others, strict=True)])
    shares = np.sort(edge.share(points[edge.gap(points) <= tolerance]))
    least = 4 * tolerance / edge.length
    inner = shares[(shares > least) & (shares < 1 - least)]
    return inner[np.diff(inner, prepend=0.0) > least].tolist()


def _meeting(a: Edge, b: Edge) -> Complex[np.ndarray, " n"]:
    """Return where the lines or circles meet that bear two edges; nothing where they are the same."""
    if a.sweep and b.sweep:
        return _circles(a, b)
    if a.sweep or b.sweep:
        return _line_circle(b, a) if a.sweep else _line_circle(a, b)
    along, other = a.end - a.start, b.end - b.start
    cross = (along.conjugate() * other).imag
    if abs(cross) <= 1e-14 * a.length * b.length:
        return np.empty(0, complex)
    return np.array([a.start + along * ((b.start - a.start).conjugate() * other).imag / cross])


def _line_circle(line: Edge, arc: Edge) -> Complex[np.ndarray, " n"]:
    along = (line.end - line.start) / line.length
    foot = line.start + along * ((arc.centre - line.start) * along.conjugate()).real
    return _about(foot, along, abs(arc.start - arc.centre), abs(foot - arc.centre))


def _circles(a: Edge, b: Edge) -> Complex[np.ndarray, " n"]:
    apart = b.centre - a.centre
    if apart == 0:
        return np.empty(0, complex)
    r, s, d = abs(a.start - a.centre), abs(b.start - b.centre), abs(apart)
    far = (d**2 + r**2 - s**2) / (2 * d)
    return _about(a.centre + far * apart / d, 1j * apart / d, r, abs(far))


def _about(foot: complex, along: complex, radius: float, distance: float) -> Complex[np.ndarray, " n"]:
    """Return the ends of a chord with a given foot; its foot where a circle is touched to rounding."""
    squared = (radius - distance) * (radius + distance)
    if squared < -1e-9 * radius**2:
        return np.empty(0, complex)
    half = np.sqrt(max(squared, 0.0))
    return np.array([foot - half * along, foot + half * along])

r"""Pieces of a boundary in the plane: straight segments and arcs of circles, as complex numbers :math:`x + iy`.

A boundary is a set of edges that run with the domain on their left.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Complex, Float

TURN = 2 * np.pi
OFFSET = 1e-4


class Edge(NamedTuple):
    """A segment, or an arc if it sweeps an angle about a centre (positive: anticlockwise; a full turn: a circle)."""

    face: str
    start: complex
    end: complex
    centre: complex = 0.0
    sweep: float = 0.0

    @property
    def length(self) -> float:
        """Its length."""
        return abs(self.start - self.centre) * abs(self.sweep) if self.sweep else abs(self.end - self.start)

    @property
    def closed(self) -> bool:
        """Whether it is a whole circle."""
        return abs(self.sweep) >= TURN

    @property
    def area(self) -> float:
        r"""Its part :math:`\frac12\oint x\,dy - y\,dx` in the area that the boundary encloses."""
        squared = abs(self.start - self.centre) ** 2
        return float((self.start.conjugate() * self.end).imag + squared * (self.sweep - np.sin(self.sweep))) / 2

    def at(self, share: Float[np.ndarray, " n"]) -> Complex[np.ndarray, " n"]:
        """Return the points at shares of its length."""
        if self.sweep:
            return self.centre + (self.start - self.centre) * np.exp(1j * self.sweep * share)
        return self.start + share * (self.end - self.start)

    def outward(self, points: Complex[np.ndarray, " n"]) -> Complex[np.ndarray, " n"]:
        """Return the normals at points on it, to its right."""
        if self.sweep:
            return np.sign(self.sweep) * (points - self.centre) / abs(self.start - self.centre)
        along = (self.end - self.start) / self.length
        return np.full_like(points, -1j * along)

    def share(self, points: Complex[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the share of its length at which it comes nearest to each point."""
        if not self.sweep:
            along = self.end - self.start
            return np.clip(((points - self.start) * along.conjugate()).real / abs(along) ** 2, 0, 1)
        ray = (points - self.centre) / (self.start - self.centre)
        turned = np.mod(np.sign(self.sweep) * np.angle(ray), TURN) / abs(self.sweep)
        before = TURN / abs(self.sweep)  # what is past the end by more than half of the gap is nearer to the start
        return np.where(turned > (1 + before) / 2, 0.0, np.minimum(turned, 1.0))

    def gap(self, points: Complex[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the distance of points from it."""
        return np.abs(points - self.at(self.share(points)))

    def part(self, first: float, last: float) -> "Edge":
        """Return what lies between two shares of its length; of a circle `last` may pass one."""
        start, end = (complex(z) for z in self.at(np.array([first, last])))
        start, end = (self.start if first == 0 else start), (self.end if last == 1 else end)
        return Edge(self.face, start, end, self.centre, self.sweep * (last - first))

    def reversed(self) -> "Edge":
        """Return it in the other direction."""
        return Edge(self.face, self.end, self.start, self.centre, -self.sweep)


def circle(face: str, centre: complex, radius: float) -> Edge:
    """Return a circle, with the domain inside."""
    return Edge(face, centre + radius, centre + radius, centre, TURN)


def size(edges: Sequence[Edge]) -> float:
    """Return a length to compare rounding with: the extent, or, far from the origin, a part of the coordinates."""
    ends = bounds(edges)
    return max(max(high - low, OFFSET * abs(low), OFFSET * abs(high)) for low, high in ends)


def bounds(edges: Sequence[Edge]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the least and greatest x, and y."""
    points = np.array([end for piece in rising(edges) for end in (piece.start, piece.end)])
    points = np.concatenate([points, *(_leftmost(edge) for edge in edges if edge.sweep)])
    x, y = np.real(points), np.imag(points)
    return (float(x.min()), float(x.max())), (float(y.min()), float(y.max()))


def on_any(edges: Sequence[Edge], points: Complex[np.ndarray, " n"], tolerance: float) -> Bool[np.ndarray, " n"]:
    """Return which points lie on one of the edges."""
    return np.any([edge.gap(points) <= tolerance for edge in edges], axis=0)


def inside(edges: Sequence[Edge], points: Complex[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Return which points lie inside a closed boundary: their rays to the right cross it an odd number of times."""
    crossed, x, y = np.zeros(points.shape, bool), np.real(points), np.imag(points)
    for piece in rising(edges):
        low, high = piece.start.imag, piece.end.imag
        meets = (low > y) != (high > y)
        crossed[meets] ^= x[meets] < _abscissa(piece, y[meets])
    return crossed


def rising(edges: Sequence[Edge]) -> list[Edge]:
    """Return the edges, with arcs cut where they are highest and lowest, so that each meets a level line once."""
    return [piece for edge in edges for piece in _cut(edge, _turns(edge, np.pi / 2))]


def _cut(edge: Edge, shares: list[float]) -> list[Edge]:
    # Where two pieces of an arc meet, both have the same end, to the last bit: no ray slips through.
    ends = [edge.start, *edge.at(np.array(shares)).tolist(), edge.end]
    parts = np.diff([0.0, *shares, 1.0]) * edge.sweep
    return [Edge(edge.face, a, b, edge.centre, s) for a, b, s in zip(ends[:-1], ends[1:], parts, strict=True)]


def _turns(edge: Edge, first: float) -> list[float]:
    """Return the shares of an arc's length at which its angle is `first` or half a turn more."""
    if not edge.sweep:
        return []
    begin = np.angle(edge.start - edge.centre)
    low, high = sorted((begin, begin + edge.sweep))
    angles = first + np.pi * np.arange(np.ceil((low - first) / np.pi), np.floor((high - first) / np.pi) + 1)
    shares = (angles - begin) / edge.sweep
    return sorted(float(share) for share in shares if 1e-12 < share < 1 - 1e-12)


def _leftmost(edge: Edge) -> Complex[np.ndarray, " n"]:
    return edge.at(np.array(_turns(edge, 0.0)))


def _abscissa(piece: Edge, y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    if not piece.sweep:
        share = (y - piece.start.imag) / (piece.end.imag - piece.start.imag)
        return piece.start.real + share * (piece.end.real - piece.start.real)
    middle = np.real(piece.at(np.array([0.5])))[0] - piece.centre.real
    squared = abs(piece.start - piece.centre) ** 2
    return piece.centre.real + np.sign(middle) * np.sqrt(np.maximum(squared - (y - piece.centre.imag) ** 2, 0.0))

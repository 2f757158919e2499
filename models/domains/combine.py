"""Differences, unions and intersections of domains of the plane.

The boundary of the result is made of parts of both boundaries: each edge is cut where it meets the other boundary, and
of its parts those remain that lie outside or inside the other set, whichever the operation asks for. Where boundaries
coincide, parts of the first remain if the sets lie on the same side of it (union, intersection), or on different sides
(difference).
"""

import itertools
from collections.abc import Sequence

import numpy as np

from sciad._errors import InputError
from sciad.models.domains.ball import Ball
from sciad.models.domains.base import AbstractDomain
from sciad.models.domains.box import Box
from sciad.models.domains.edges import Edge, circle, inside, on_any, size
from sciad.models.domains.meeting import shares_where_met
from sciad.models.domains.planar import ROUNDING, AbstractPlanar, Region

WORDS = {"-": "difference", "|": "union", "&": "intersection"}


def combine(a: AbstractDomain, sign: str, b: AbstractDomain) -> Region:
    """Return the difference, union or intersection of two domains.

    Raises
    ------
    InputError
        If one is not a domain of the plane, their coordinates differ, or nothing is left.
    """
    first, second = edges_of(a), edges_of(b)
    if a.coordinates != b.coordinates:
        msg = (
            f"The {WORDS[sign]} of a domain of {a.coordinates} and one of {b.coordinates}: the coordinates must be the "
        )
        msg += 'same, in the same order. Name them by `coordinates=("x", "y")`.'
        raise InputError(msg)
    second = _renumbered(second, a.faces)
    tolerance = ROUNDING * max(size(first), size(second))
    kept = [part for edge in first for part in _parts(edge, second, sign != "&", sign != "-", tolerance)]
    more = [part for edge in second for part in _parts(edge, first, sign == "|", None, tolerance)]
    more = [part.reversed() if sign == "-" else part for part in more]
    region = Region(tuple(_snapped([*kept, *more], tolerance)), a.coordinates)
    if region.volume <= tolerance * max(size(first), size(second)):
        msg = f"The {WORDS[sign]} is empty: nothing is left of the domains. Look at where they lie: {a.bounds} and "
        msg += f"{b.bounds}."
        raise InputError(msg)
    return region


def edges_of(domain: AbstractDomain) -> tuple[Edge, ...]:
    """Return the boundary of a domain of the plane.

    Raises
    ------
    InputError
        If it is not one of which edges are known.
    """
    if isinstance(domain, AbstractPlanar):
        return domain.edges
    if isinstance(domain, Ball) and len(domain.centre) == 2:
        return (circle(domain.face, complex(*domain.centre), domain.radius),)
    if isinstance(domain, Box) and len(domain.names) == 2:
        return _rectangle(domain)
    msg = f"A {type(domain).__name__} of the coordinates {domain.coordinates} cannot be joined with -, | or &, which "
    msg += "are for boxes of two coordinates, disks and polygons. Join these first, and multiply by the rest: "
    msg += "(Disk(...) - Disk(...)) * Box(t=(0, 1))."
    raise InputError(msg)


def _rectangle(box: Box) -> tuple[Edge, ...]:
    (left, right), (low, high) = box.bounds
    x_min, x_max, y_min, y_max = box.faces
    corners = [complex(left, low), complex(right, low), complex(right, high), complex(left, high)]
    ends = zip((y_min, x_max, y_max, x_min), corners, [*corners[1:], corners[0]], strict=True)
    # In the order of the box's own faces
    return tuple(sorted((Edge(*each) for each in ends), key=lambda edge: box.faces.index(edge.face)))


def _renumbered(edges: Sequence[Edge], taken: Sequence[str]) -> tuple[Edge, ...]:
    names: dict[str, str] = {}
    for face in dict.fromkeys(edge.face for edge in edges):
        options = itertools.chain([face], (f"{face}_{number}" for number in itertools.count(2)))
        names[face] = next(name for name in options if name not in (*taken, *names.values()))
    return tuple(edge._replace(face=names[edge.face]) for edge in edges)


def _parts(edge: Edge, others: Sequence[Edge], outside: bool, alike: bool | None, tolerance: float) -> list[Edge]:
    """Return the parts of an edge that lie outside or inside the others; on them, where directions are alike or not."""
    cuts = shares_where_met(edge, others, tolerance)
    shares = [0.0, *cuts, 1.0]
    middles = edge.at(np.array([(a + b) / 2 for a, b in itertools.pairwise(shares)]))
    stays = inside(others, middles) != outside
    for i in np.flatnonzero(on_any(others, middles, tolerance)):
        stays[i] = alike is not None and _alike(edge, others, middles[i : i + 1]) == alike
    # Neighbours that stay are one part: a cut where nothing ends leaves no trace.
    runs = [list(run) for stay, run in itertools.groupby(range(len(stays)), key=lambda i: bool(stays[i])) if stay]
    spans = [(shares[run[0]], shares[run[-1] + 1]) for run in runs]
    if edge.closed and len(spans) > 1 and spans[0][0] == 0 and spans[-1][1] == 1:
        spans = [*spans[1:-1], (spans[-1][0], 1 + spans[0][1])]  # a circle begins nowhere
    return [edge if span == (0, 1) else edge.part(*span) for span in spans]


def _alike(edge: Edge, others: Sequence[Edge], point: np.ndarray) -> bool:
    nearest = min(others, key=lambda other: other.gap(point)[0])
    return bool(np.real(edge.outward(point) * nearest.outward(point).conj())[0] > 0)


def _snapped(edges: Sequence[Edge], tolerance: float) -> list[Edge]:
    """Return the edges with ends that differ by rounding made equal, so that no ray slips through between them."""
    known: list[complex] = []

    def snap(z: complex) -> complex:
        near = next((other for other in known if abs(z - other) <= 2 * tolerance), None)
        if near is None:
            known.append(z)
        return z if near is None else near

    return [edge._replace(start=snap(edge.start), end=snap(edge.end)) for edge in edges]

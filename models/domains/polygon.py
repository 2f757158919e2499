"""Polygons with holes."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import numpy as np
import shapely
from jaxtyping import Float, Num

from sciad._errors import InputError
from sciad._typing import Real
from sciad.models.domains.base import check_coordinates
from sciad.models.domains.edges import Edge
from sciad.models.domains.planar import AbstractPlanar


class Polygon(AbstractPlanar):
    r"""A polygon, with or without holes.

    Parameters
    ----------
    vertices
        The corners, one after the other in either direction; the first need not be repeated.
    holes
        Corners of each hole, by the name of its face.
    coordinates
        Names of the two coordinates.
    faces
        The name of the outer face; or a name for each side, of which the first goes from the first corner to the
        second: sides of one name form one face.

    Raises
    ------
    InputError
        If corners are no list of pairs of finite numbers, sides cross or touch, there is no area, a hole lies
        outside or meets another, or names do not fit.

    Notes
    -----
    `distance` is an R-function of the sides' distances: zero on the faces alone, with slope (up to a factor) across
    them, but without derivatives at corners; `sciad.models.domains.joined` has the formula. Points inside are those of
    a design on the box around the polygon that fall into it. Round holes are exact as ``polygon - Disk(...)``; `ring`
    gives the corners of a regular polygon.

    Examples
    --------
    >>> from sciad.models.domains import Polygon
    >>> shape = Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)])
    >>> shape.volume, shape.measure("outside")
    (3.0, 8.0)
    >>> Polygon([(0, 0), (1, 0), (1, 1), (0, 1)], faces=["inlet", "wall", "outlet", "wall"]).measure("wall")
    2.0
    """

    rings: tuple[Edge, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        vertices: Sequence[Sequence[Real]] | Num[np.ndarray, "corners 2"],
        holes: Mapping[str, Any] | None = None,
        coordinates: Sequence[str] = ("x", "y"),
        *,
        faces: str | Sequence[str] = "outside",
    ) -> None:
        self.names = tuple(coordinates)
        check_coordinates("Polygon", self.names, 2)
        outer = _corners("The polygon", vertices)
        inner = {name: _corners(f"The hole {name!r}", ring) for name, ring in (holes or {}).items()}
        sides = [faces] * len(outer) if isinstance(faces, str) else list(faces)
        _check_names(sides, len(outer), list(inner))
        _check_shape(outer, inner)
        rings = [_edges(sides, outer, 1), *(_edges([name] * len(ring), ring, -1) for name, ring in inner.items())]
        self.rings = tuple(edge for ring in rings for edge in ring)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The sides, each with the name of its face."""
        return self.rings

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return self.names


def ring(centre: Sequence[Real], radius: Real, corners: int = 64) -> Float[np.ndarray, "corners 2"]:
    """Return the corners of a regular polygon, on a circle.

    Raises
    ------
    InputError
        If it has fewer than three corners, or the radius is not positive.

    Examples
    --------
    >>> from sciad.models.domains import ring
    >>> [[float(c) for c in corner.round(3)] for corner in ring((0, 0), 1, 3)]
    [[1.0, 0.0], [-0.5, 0.866], [-0.5, -0.866]]
    """
    if not (corners >= 3 and 0 < radius < np.inf):
        msg = f"ring(radius={radius!r}, corners={corners!r}): expected a positive radius and at least 3 corners."
        raise InputError(msg)
    angles = 2 * np.pi * np.arange(corners) / corners
    return np.asarray(centre, float) + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _corners(what: str, given: Any) -> Float[np.ndarray, "corners 2"]:
    try:
        corners = np.asarray(given, float)
    except (TypeError, ValueError):
        corners = np.empty((0, 0))
    if corners.ndim == 2 and len(corners) and np.array_equal(corners[0], corners[-1]):
        corners = corners[:-1]
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3 or not np.isfinite(corners).all():
        msg = f"{what} has corners of shape {corners.shape}; expected at least three pairs of finite numbers, such as "
        msg += "[(0, 0), (1, 0), (0, 1)]."
        raise InputError(msg)
    twice = np.flatnonzero((corners == np.roll(corners, -1, axis=0)).all(axis=1))
    if len(twice):
        msg = (
            f"{what} has corner {twice[0]}, {tuple(corners[twice[0]].tolist())}, twice in a row: leave one of them out."
        )
        raise InputError(msg)
    return corners


def _check_names(sides: list[Any], number: int, holes: list[Any]) -> None:
    if len(sides) != number:
        msg = f"Polygon(faces=...) names {len(sides)} sides of {number}: give one name for all, or one for each."
        raise InputError(msg)
    for name in [*sides, *holes]:
        if not isinstance(name, str) or (name in holes and name in sides):
            msg = f"Polygon: {name!r} names a hole and the outer face; give every hole a name of its own, as text."
            raise InputError(msg)


def _check_shape(outer: Float[np.ndarray, "corners 2"], inner: Mapping[str, Float[np.ndarray, "_ 2"]]) -> None:
    shell = shapely.Polygon(outer)
    _check_ring("The polygon", shell)
    holes = {name: shapely.Polygon(corners) for name, corners in inner.items()}
    for name, hole in holes.items():
        _check_ring(f"The hole {name!r}", hole)
        if not shell.contains_properly(hole):
            msg = f"The hole {name!r} is not inside the polygon. Move it, or write polygon - Polygon(hole)."
            raise InputError(msg)
        for other in holes:
            if other < name and hole.intersects(holes[other]):
                msg = f"The holes {other!r} and {name!r} meet. Move them apart, or make them one."
                raise InputError(msg)


def _check_ring(what: str, shape: shapely.Polygon) -> None:
    extent = max(shape.bounds[2] - shape.bounds[0], shape.bounds[3] - shape.bounds[1])
    if shape.area <= 1e-12 * extent**2:
        msg = f"{what} has no area: its corners lie on a line. Give corners in their order around it."
        raise InputError(msg)
    if not shape.is_valid:
        msg = f"{what} crosses or touches itself ({shapely.is_valid_reason(shape)}). Give its corners in their order "
        msg += "around it, in either direction."
        raise InputError(msg)


def _edges(names: Sequence[str], corners: Float[np.ndarray, "corners 2"], turn: int) -> list[Edge]:
    """Return the sides, anticlockwise for a turn of 1, clockwise for -1, so that the domain is on the left."""
    ends = [complex(x, y) for x, y in corners.tolist()]
    sides = [Edge(name, a, b) for name, a, b in zip(names, ends, [*ends[1:], ends[0]], strict=True)]
    same = (sum(side.area for side in sides) > 0) == (turn > 0)
    return sides if same else [side.reversed() for side in reversed(sides)]

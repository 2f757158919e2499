"""Domains known by points alone, as those of a mesh or a scan."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from sciad._derivatives import Point
from sciad._errors import InputError
from sciad.models.domains.base import AbstractDomain, Surface, check_coordinates, check_face


class Cloud(AbstractDomain):
    """Given points inside, and given points on each face.

    Parameters
    ----------
    points
        Points inside, a column for each coordinate.
    faces
        Points on each face, by its name.
    coordinates
        Names of the coordinates.
    normals
        Outward normals at the points of faces, by the face's name; their lengths do not matter. A face without normals
        has NaN for them: it carries values, but no condition on a flux.
    volume
        The set's measure, if it is known.
    measures
        Those of faces, by name.

    Raises
    ------
    InputError
        If points or normals have another shape or are not finite, or normals or measures are of no face; later, if
        a measure is asked for that was not given.

    Notes
    -----
    `interior` and `surface` draw from the given points, evenly over their order, and repeat some where many are drawn.
    `contains` says no more than whether a point is in the box around all points. There is no `distance`: conditions
    on the faces are met in the least-squares sense.

    Examples
    --------
    >>> from sciad.models.domains import Cloud
    >>> cloud = Cloud([(0.5, 0.5), (0.6, 0.4)], {"left": [(0.0, 0.2), (0.0, 0.8)]}, ("x", "y"), volume=1.0)
    >>> cloud.faces, cloud.surface("left", 1, seed=0).points[0, 0].item()
    (('left',), 0.0)
    """

    points: Float[np.ndarray, "n d"]
    boundary: tuple[Surface, ...]
    on: tuple[str, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    sizes: tuple[float | None, ...] = eqx.field(static=True)

    def __init__(
        self,
        points: Any,
        faces: Mapping[str, Any],
        coordinates: Sequence[str] = ("x", "y"),
        *,
        normals: Mapping[str, Any] | None = None,
        volume: float | None = None,
        measures: Mapping[str, float] | None = None,
    ) -> None:
        self.names = tuple(coordinates)
        check_coordinates("Cloud", self.names, len(self.names))
        self.points = _rows("The points", points, len(self.names))
        self.on = tuple(faces)
        normals, measures = normals or {}, measures or {}
        check_face(self, *normals, *measures)
        self.boundary = tuple(_face(name, given, normals.get(name), len(self.names)) for name, given in faces.items())
        self.sizes = (volume, *(measures.get(name) for name in self.on))

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return self.names

    @property
    def faces(self) -> tuple[str, ...]:
        """Names of the sets of points on the boundary."""
        return self.on

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Least and greatest coordinate of all the points."""
        every = np.concatenate([self.points, *(face.points for face in self.boundary)])
        return tuple((float(low), float(high)) for low, high in zip(every.min(axis=0), every.max(axis=0), strict=True))

    @property
    def volume(self) -> float:
        """The measure that was given."""
        return self._size(0, "volume=...")

    def measure(self, face: str) -> float:
        """Return the face's measure that was given."""
        return self._size(1 + self._index(face), f"measures={{{face!r}: ...}}")

    def numbers(self, face: str | None) -> int:  # noqa: ARG002
        """Return one: it chooses a point."""
        return 1

    def place(self, face: str | None, design: Float[np.ndarray, "n k"]) -> Surface:
        """Choose one of the points for each number."""
        given = Surface(self.points, np.zeros_like(self.points)) if face is None else self.boundary[self._index(face)]
        chosen = (design[:, 0] * len(given.points)).astype(int)
        return Surface(given.points[chosen], given.normals[chosen])

    def contains(self, points: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Return which points lie in the box around all the given ones."""
        return self.encloses(points)

    def side(self, face: str) -> None:
        """Return None: no face need span the domain."""
        check_face(self, face)

    def distance(self, faces: tuple[str, ...], p: Point) -> None:  # noqa: ARG002
        """Return None: points do not say how far a face is."""
        check_face(self, *faces)

    def _index(self, face: str) -> int:
        check_face(self, face)
        return self.on.index(face)

    def _size(self, which: int, remedy: str) -> float:
        size = self.sizes[which]
        if size is None:
            msg = f"A cloud of points does not know its measures. Give Cloud(..., {remedy})."
            raise InputError(msg)
        return float(size)


def _rows(what: str, given: Any, columns: int) -> Float[np.ndarray, "n d"]:
    try:
        rows = np.asarray(given, float)
    except (TypeError, ValueError):
        rows = np.empty(0)
    if rows.ndim != 2 or rows.shape[1:] != (columns,) or not len(rows) or not np.isfinite(rows).all():
        msg = f"{what} of a cloud: got an array of shape {rows.shape}; expected rows of {columns} finite numbers."
        raise InputError(msg)
    return rows


def _face(name: str, given: Any, normals: Any, columns: int) -> Surface:
    points = _rows(f"The face {name!r}", given, columns)
    if normals is None:
        return Surface(points, np.full_like(points, np.nan))
    normals = _rows(f"The normals on {name!r}", normals, columns)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    if len(normals) != len(points) or not lengths.all():
        msg = f"The face {name!r} has {len(points)} points and {len(normals)} normals: give one, not zero, for each."
        raise InputError(msg)
    return Surface(points, normals / lengths)

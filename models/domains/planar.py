"""Domains of the plane, bounded by segments and arcs."""

import abc

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from sciad._derivatives import Point
from sciad.models.domains.base import AbstractDomain, Surface, check_face
from sciad.models.domains.edges import Edge, bounds, inside, on_any, size
from sciad.models.domains.joined import joined_distance

ROUNDING = 1e-10  # of the size of a domain


class AbstractPlanar(AbstractDomain):
    """A domain of the plane that its boundary describes: edges that run with the domain on their left.

    Everything is computed from the edges, exactly: an arc stays an arc.
    """

    @property
    @abc.abstractmethod
    def edges(self) -> tuple[Edge, ...]:
        """The boundary's pieces, each with the name of its face."""

    @property
    def faces(self) -> tuple[str, ...]:
        """Names of the parts of the boundary."""
        return tuple(dict.fromkeys(edge.face for edge in self.edges))

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Least and greatest value of each coordinate."""
        return bounds(self.edges)

    @property
    def volume(self) -> float:
        r"""The area, :math:`\frac12\oint x\,dy - y\,dx`."""
        return float(sum(edge.area for edge in self.edges))

    def measure(self, face: str) -> float:
        """Return the length of a face."""
        return float(sum(edge.length for edge in self._on(face)))

    def numbers(self, face: str | None) -> int:
        """Return two numbers inside, one on a face."""
        return 2 if face is None else 1

    def place(self, face: str | None, design: Float[np.ndarray, "n k"]) -> Surface:
        """Spread points over the box around the domain, and reject those outside; or walk along a face."""
        if face is None:
            low, high = np.asarray(self.bounds).T
            points = low + design * (high - low)
            out = ~inside(self.edges, _complex(points))
            return Surface(np.where(out[:, None], np.nan, points), np.zeros_like(points))
        edges = self._on(face)
        ends = np.cumsum([0.0] + [edge.length for edge in edges])
        way = design[:, 0] * ends[-1]
        which = np.clip(np.searchsorted(ends, way, side="right") - 1, 0, len(edges) - 1)
        points, normals = np.empty(len(way), complex), np.empty(len(way), complex)
        for i, edge in enumerate(edges):
            here = which == i
            points[here] = edge.at((way[here] - ends[i]) / edge.length)
            normals[here] = edge.outward(points[here])
        return Surface(_real(points), _real(normals))

    def contains(self, points: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Return which points lie inside or on the boundary, to rounding."""
        z = _complex(points)
        return inside(self.edges, z) | on_any(self.edges, z, ROUNDING * size(self.edges))

    def side(self, face: str) -> None:
        """Return None: no face need span the domain."""
        check_face(self, face)

    def distance(self, faces: tuple[str, ...], p: Point) -> Float[Array, ""]:
        """Return an R-function of the distances from the edges, scaled to be about one at its greatest.

        See Also
        --------
        sciad.models.domains.joined : the formulas, and what they are not.
        """
        check_face(self, *faces)
        x, y = (p[name] for name in self.coordinates)
        if not faces:
            return jnp.ones_like(x)
        edges = tuple(edge for edge in self.edges if edge.face in faces)
        inner = self.interior(256, 0)
        greatest = np.max(joined_distance(edges, *inner.T, xp=np))
        return joined_distance(edges, x, y) / float(greatest)

    def renamed(self, **names: str) -> "Region":
        """Return the same set with other names of faces; two faces of one name become one face.

        Raises
        ------
        InputError
            If there is no face of an old name.

        Examples
        --------
        >>> from sciad.models.domains import Disk
        >>> ring = Disk((0, 0), 2) - Disk((0, 0), 1)
        >>> ring.renamed(boundary="outer", boundary_2="inner").faces
        ('outer', 'inner')
        """
        check_face(self, *names)
        edges = tuple(edge._replace(face=names.get(edge.face, edge.face)) for edge in self.edges)
        return Region(edges, self.coordinates)

    def _on(self, face: str) -> list[Edge]:
        check_face(self, face)
        return [edge for edge in self.edges if edge.face == face]


class Region(AbstractPlanar):
    r"""A set of the plane that was made of others by ``a - b``, ``a | b`` or ``a & b``.

    Parameters
    ----------
    edges
        The boundary, with the set on the left.
    coordinates
        Names of the two coordinates.

    Notes
    -----
    Boxes of two coordinates, disks, polygons and regions can be joined, in any order. What is left of the boundary of
    `a` keeps the names of its faces, and so does what is left of the boundary of `b`; where both have a face of the
    same name, that of `b` gets a number: ``boundary_2``, then ``boundary_3``. Name faces by ``Disk(..., face="hole")``
    beforehand or by `renamed` afterwards. Where boundaries coincide, the face is that of `a`.

    Arcs remain arcs, so areas, lengths, points and normals are exact to rounding.

    Examples
    --------
    >>> from sciad.models.domains import Box, Disk
    >>> plate = Box(x=(0, 2), y=(0, 1)) - Disk((1, 0.5), 0.25, face="hole")
    >>> plate.faces, round(plate.volume, 4)
    (('x_min', 'x_max', 'y_min', 'y_max', 'hole'), 1.8037)
    """

    pieces: tuple[Edge, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, edges: tuple[Edge, ...], coordinates: tuple[str, ...]) -> None:
        self.pieces, self.names = edges, coordinates

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The boundary's pieces, each with the name of its face."""
        return self.pieces

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return self.names


def _complex(points: Float[np.ndarray, "n d"]) -> Complex[np.ndarray, " n"]:
    return points[:, 0] + 1j * points[:, 1]


def _real(z: Complex[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
    return np.stack([np.real(z), np.imag(z)], axis=1)

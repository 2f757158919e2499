"""What a domain is: where an equation holds, and the faces on which conditions are given."""

import abc
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float

from sciad._derivatives import Point


class Surface(NamedTuple):
    """Points on a face, with the outward normals there."""

    points: Float[np.ndarray, "n d"]
    normals: Float[np.ndarray, "n d"]


class AbstractDomain(eqx.Module):
    """A bounded set of points with named coordinates.

    Arrays of points have a column for each of `coordinates`, in that order.
    """

    @property
    @abc.abstractmethod
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates."""

    @property
    @abc.abstractmethod
    def faces(self) -> tuple[str, ...]:
        """Names of the parts of the boundary."""

    @property
    @abc.abstractmethod
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Least and greatest value of each coordinate."""

    @property
    @abc.abstractmethod
    def volume(self) -> float:
        """The measure of the set: length, area, volume."""

    @abc.abstractmethod
    def interior(self, number: int, seed: int) -> Float[np.ndarray, "n d"]:
        """Return so many quasi-random points, evenly spread over the inside."""

    @abc.abstractmethod
    def surface(self, face: str, number: int, seed: int) -> Surface:
        """Return so many quasi-random points, evenly spread over a face."""

    @abc.abstractmethod
    def contains(self, points: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Return which points lie inside or on the boundary, to rounding."""

    @abc.abstractmethod
    def side(self, face: str) -> tuple[str, float] | None:
        """Return the coordinate, and its value, that is constant on a face; None where none is."""

    @abc.abstractmethod
    def distance(self, faces: tuple[str, ...], p: Point) -> Float[Array, ""] | None:
        """Return a smooth function of a point that is zero on some faces and positive elsewhere; None if there is none.

        Near a face it is proportional to the distance from it; at its greatest it is about one.
        """

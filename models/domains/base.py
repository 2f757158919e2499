"""What a domain is: where an equation holds, and the faces on which conditions are given."""

import abc
import operator
from typing import Any, NamedTuple, cast

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float

from sciad._derivatives import Point
from sciad._errors import InputError, did_you_mean
from sciad.models.domains.design import spread

ROUNDING = 1e-12  # of the size of a domain: how far outside a point may lie that was computed to be on its boundary


class Surface(NamedTuple):
    """Points on a face, with the outward normals there.

    Parameters
    ----------
    points
        A row for each point, a column for each coordinate of the domain.
    normals
        Of length one.
    """

    points: Float[np.ndarray, "n d"]
    normals: Float[np.ndarray, "n d"]


class AbstractDomain(eqx.Module):
    r"""A bounded set of points with named coordinates.

    Arrays of points have a column for each of `coordinates`, in that order. Points are quasi-random (scrambled Sobol
    sequences), so that a mean over n of them is nearer to the mean over the set than one over n random points is: the
    error falls nearly as :math:`1/n` for smooth functions. The same seed gives the same points.

    Notes
    -----
    ``a * b`` is the set of the pairs of a point of each (`Product`): ``Disk((0, 0), 1) * Box(t=(0, 1))`` is a disk
    during a second. In the plane ``a - b``, ``a | b`` and ``a & b`` are difference, union and intersection (`Region`).

    A domain of one's own needs the abstract members alone. Its points come from `place`, which maps a design on the
    unit cube: so products of any domains have points that are evenly spread in all coordinates together.
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
    def limits(self) -> str:
        """The bounds in words: ``x in 0 .. 1, t in 0 .. 5``."""
        named = zip(self.coordinates, self.bounds, strict=True)
        return ", ".join(f"{name} in {low:g} .. {high:g}" for name, (low, high) in named)

    @property
    @abc.abstractmethod
    def volume(self) -> float:
        """The measure of the set: length, area, volume."""

    @abc.abstractmethod
    def measure(self, face: str) -> float:
        r"""Return the measure of a face: one for a point, a length, an area.

        It turns means over `surface` into integrals: :math:`\int_F g\,dS` is nearly ``measure(face) * g.mean()``.
        """

    @abc.abstractmethod
    def numbers(self, face: str | None) -> int:
        """Return how many numbers in [0, 1) determine a point inside (None), or on a face."""

    @abc.abstractmethod
    def place(self, face: str | None, design: Float[np.ndarray, "n k"]) -> Surface:
        """Map each row of numbers in [0, 1) to a point inside (None), or on a face: equal volumes to equal ones.

        Rows of NaN stand where a row of the design has no point: where points of a box outside the domain are rejected.
        Normals inside are zero.
        """

    @abc.abstractmethod
    def contains(self, points: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Return which points lie inside or on the boundary, to rounding."""

    def encloses(self, points: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Return which points lie within the bounds, to rounding."""
        low, high = np.asarray(self.bounds).T
        slack = ROUNDING * (high - low)
        return np.all((points >= low - slack) & (points <= high + slack), axis=1)

    @abc.abstractmethod
    def side(self, face: str) -> tuple[str, float] | None:
        """Return the coordinate, and its value, that is constant on a face; None where none is.

        Only of a face that spans the domain, as that of a box does: any point of the domain is carried onto it by
        setting that coordinate to that value.
        """

    @abc.abstractmethod
    def distance(self, faces: tuple[str, ...], p: Point) -> Float[Array, ""] | None:
        """Return a smooth function of a point that is zero on some faces and positive elsewhere; None if there is none.

        Near a face it is proportional to the distance from it; at its greatest it is about one. It is differentiable
        and may be compiled.
        """

    def interior(self, number: int, seed: int) -> Float[np.ndarray, "n d"]:
        """Return so many quasi-random points, evenly spread over the inside.

        Raises
        ------
        InputError
            If the number is not positive, or the domain fills next to nothing of the box around it.
        """
        return self._spread(None, number, seed).points

    def surface(self, face: str, number: int, seed: int) -> Surface:
        """Return so many quasi-random points, evenly spread over a face, with the outward normals.

        Raises
        ------
        InputError
            If there is no such face, or the number is not positive.
        """
        check_face(self, face)
        return self._spread(face, number, seed)

    def _spread(self, face: str | None, number: int, seed: int) -> Surface:
        number, seed = _whole("number", number, 1), _whole("seed", seed, 0)
        rows = spread(lambda design: np.hstack(self.place(face, design)), self.numbers(face), number, seed)
        points, normals = np.split(rows, 2, axis=1)
        return Surface(points, normals)

    def __mul__(self, other: Any) -> "AbstractDomain":
        return self._joined("*", other)

    def __sub__(self, other: Any) -> "AbstractDomain":
        return self._joined("-", other)

    def __or__(self, other: Any) -> "AbstractDomain":
        return self._joined("|", other)

    def __and__(self, other: Any) -> "AbstractDomain":
        return self._joined("&", other)

    def _joined(self, sign: str, other: Any) -> Any:
        from sciad.models.domains.combine import combine
        from sciad.models.domains.product import Product

        this: Any = cast(Any, self)
        if not isinstance(other, AbstractDomain):
            return NotImplemented
        return Product(this, cast(Any, other)) if sign == "*" else combine(this, sign, cast(Any, other))


def check_face(domain: AbstractDomain, *faces: str) -> None:
    """Raise an `InputError` for the first of some names that is no face of a domain."""
    for face in faces:
        if face not in domain.faces:
            msg = f"The domain has no face {face!r}. {did_you_mean(str(face), domain.faces)}"
            raise InputError(msg)


def check_coordinates(what: str, names: tuple[str, ...], number: int) -> None:
    """Raise an `InputError` unless so many different identifiers are given as names of coordinates."""
    good = all(isinstance(name, str) and name.isidentifier() for name in names) and len(set(names)) == len(names)
    if not good or len(names) != number:
        msg = f"{what}: coordinates={names!r}. Expected {number} different names, such as {('x', 'y', 'z')[:number]!r}."
        raise InputError(msg)


def _whole(name: str, value: int, least: int) -> int:
    try:
        whole = operator.index(value)
    except TypeError:
        whole = least - 1
    if whole < least or isinstance(value, bool):
        msg = f"{name}={value!r} of points of a domain: expected a whole number of at least {least}."
        raise InputError(msg)
    return whole

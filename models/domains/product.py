"""Products of domains: a disk during some time, a cylinder, a polygon for a range of parameters."""

import math

import numpy as np
from jaxtyping import Array, Bool, Float

from sciad._derivatives import Point
from sciad._errors import InputError
from sciad.models.domains.base import AbstractDomain, Surface, check_face


class Product(AbstractDomain):
    r"""The pairs of a point of each of two or more domains, also written ``a * b``.

    Parameters
    ----------
    factors
        Domains that share no coordinate and no name of a face.

    Raises
    ------
    InputError
        If something is no domain, or names are shared.

    Notes
    -----
    A face is that of one factor at every point of the others; its normals have zeros for the others' coordinates.
    One design of as many columns as the factors need together places all coordinates, so they are evenly spread
    together too. `distance` is the product of the factors' distances.

    Examples
    --------
    >>> from sciad.models.domains import Box, Disk
    >>> slab = Disk((0, 0), 1) * Box(t=(0, 2))
    >>> slab.coordinates, slab.faces, round(slab.volume, 4)
    (('x', 'y', 't'), ('boundary', 't_min', 't_max'), 6.2832)
    >>> round(slab.measure("boundary"), 4), slab.side("t_min")
    (12.5664, ('t', 0.0))
    """

    factors: tuple[AbstractDomain, ...]

    def __init__(self, *factors: AbstractDomain) -> None:
        for factor in factors:
            if not isinstance(factor, AbstractDomain):
                msg = f"Product: a factor is of type {type(factor).__name__}; expected domains, such as Box(t=(0, 1))."
                raise InputError(msg)
        self.factors = tuple(
            part for each in factors for part in (each.factors if isinstance(each, Product) else [each])
        )
        _check_shared("the coordinate", self.coordinates, 'name them by `coordinates=("a", "b")`')
        _check_shared("the face", self.faces, 'name it by `face="..."`, or by `renamed` of a region')

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The factors' coordinates, one after the other."""
        return tuple(name for factor in self.factors for name in factor.coordinates)

    @property
    def faces(self) -> tuple[str, ...]:
        """The factors' faces, one after the other."""
        return tuple(name for factor in self.factors for name in factor.faces)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """The factors' bounds, one after the other."""
        return tuple(ends for factor in self.factors for ends in factor.bounds)

    @property
    def volume(self) -> float:
        """The product of the factors' volumes."""
        return math.prod(factor.volume for factor in self.factors)

    def measure(self, face: str) -> float:
        """Return the measure of the factor's face times the others' volumes."""
        mine = self._factor(face)
        return math.prod(f.measure(face) if f is mine else f.volume for f in self.factors)

    def numbers(self, face: str | None) -> int:
        """Return how many numbers the factors need together."""
        return sum(factor.numbers(part) for factor, part in self._parts(face))

    def place(self, face: str | None, design: Float[np.ndarray, "n k"]) -> Surface:
        """Give each factor its columns of the design."""
        ends = np.cumsum([factor.numbers(part) for factor, part in self._parts(face)])
        columns = np.split(design, ends[:-1], axis=1)
        placed = [f.place(part, mine) for (f, part), mine in zip(self._parts(face), columns, strict=True)]
        return Surface(*(np.hstack(blocks) for blocks in zip(*placed, strict=True)))

    def contains(self, points: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Return which points lie in every factor, to rounding."""
        ends = np.cumsum([len(factor.coordinates) for factor in self.factors])
        blocks = zip(self.factors, np.split(points, ends[:-1], axis=1), strict=True)
        return np.all([factor.contains(block) for factor, block in blocks], axis=0)

    def side(self, face: str) -> tuple[str, float] | None:
        """Return the coordinate, and its value, that is constant on a face; None where none is."""
        return self._factor(face).side(face)

    def distance(self, faces: tuple[str, ...], p: Point) -> Float[Array, ""] | None:
        """Return the product of the factors' distances; None if one of them has none."""
        check_face(self, *faces)
        found = None
        for factor in self.factors:
            mine = tuple(face for face in faces if face in factor.faces)
            if mine or (found is None and factor is self.factors[-1]):
                part = factor.distance(mine, p)
                if part is None:
                    return None
                found = part if found is None else found * part
        return found

    def _factor(self, face: str) -> AbstractDomain:
        check_face(self, face)
        return next(factor for factor in self.factors if face in factor.faces)

    def _parts(self, face: str | None) -> list[tuple[AbstractDomain, str | None]]:
        return [(factor, face if face in factor.faces else None) for factor in self.factors]


def _check_shared(what: str, names: tuple[str, ...], remedy: str) -> None:
    for name in names:
        if names.count(name) > 1:
            msg = f"Product: {what} {name!r} belongs to more than one factor; {remedy}."
            raise InputError(msg)

"""Boxes: intervals of any number of coordinates."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sciad._derivatives import Point
from sciad._errors import InputError
from sciad._typing import Real
from sciad.models.domains.base import AbstractDomain, Surface, check_coordinates, check_face


class Box(AbstractDomain):
    r"""An interval of each of some coordinates: :math:`[a_1, b_1] \times \dots \times [a_d, b_d]`.

    Parameters
    ----------
    intervals
        The least and the greatest value of each coordinate: ``Box(x=(-1, 1), t=(0, 1))``.

    Raises
    ------
    InputError
        If there is no interval, or one is reversed, empty or not finite.

    Notes
    -----
    The faces are ``"x_min"``, ``"x_max"`` and so on. `distance` is the product over the coordinates of
    :math:`4(x-a)(b-x)/(b-a)^2` where both faces are asked for, and of :math:`(x-a)/(b-a)` or :math:`(b-x)/(b-a)`
    where one is: each is one at its greatest.

    Examples
    --------
    >>> from sciad.models.domains import Box
    >>> box = Box(x=(-1, 1), t=(0, 1))
    >>> box.faces, box.volume
    (('x_min', 'x_max', 't_min', 't_max'), 2.0)
    >>> box.interior(100, seed=0).shape
    (100, 2)
    >>> box.measure("x_min"), box.side("t_min")
    (1.0, ('t', 0.0))
    """

    names: tuple[str, ...] = eqx.field(static=True)
    intervals: tuple[tuple[float, float], ...] = eqx.field(static=True)

    def __init__(self, **intervals: tuple[Real, Real]) -> None:
        if not intervals:
            msg = "Box() has no coordinate. Give an interval for each, such as Box(x=(-1, 1), t=(0, 1))."
            raise InputError(msg)
        check_coordinates("Box", tuple(intervals), len(intervals))
        self.names = tuple(intervals)
        self.intervals = tuple(_interval(name, ends) for name, ends in intervals.items())

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates, in the order given."""
        return self.names

    @property
    def faces(self) -> tuple[str, ...]:
        """``x_min`` and ``x_max`` for each coordinate."""
        return tuple(f"{name}_{end}" for name in self.names for end in ("min", "max"))

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """The intervals."""
        return self.intervals

    @property
    def volume(self) -> float:
        """The product of the lengths."""
        return float(np.prod(self._lengths))

    @property
    def _lengths(self) -> Float[np.ndarray, " d"]:
        return np.diff(self.intervals, axis=1)[:, 0]

    def measure(self, face: str) -> float:
        """Return the product of the other coordinates' lengths."""
        axis, _ = self._axis(face)
        return float(np.prod(np.delete(self._lengths, axis)))

    def numbers(self, face: str | None) -> int:
        """Return the number of coordinates that are free."""
        return len(self.intervals) - (face is not None)

    def place(self, face: str | None, design: Float[np.ndarray, "n k"]) -> Surface:
        """Stretch the numbers to the intervals; on a face its coordinate is constant."""
        axis, end = (0, 0) if face is None else self._axis(face)
        unit = design if face is None else np.insert(design, axis, end, axis=1)
        low, high = np.asarray(self.intervals).T
        normals = np.zeros_like(unit)
        normals[:, axis] = 0 if face is None else 2 * end - 1
        return Surface((1 - unit) * low + unit * high, normals)

    def contains(self, points: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Return which points lie inside or on the boundary, to rounding."""
        return self.encloses(points)

    def side(self, face: str) -> tuple[str, float]:
        """Return the coordinate, and its value, that is constant on a face."""
        axis, end = self._axis(face)
        return self.names[axis], self.intervals[axis][end]

    def distance(self, faces: tuple[str, ...], p: Point) -> Float[Array, ""]:
        """Return the product of linear factors described above."""
        check_face(self, *faces)
        found = jnp.ones_like(p[self.names[0]])
        for name, (low, high) in zip(self.names, self.intervals, strict=True):
            factors = [(p[name] - low) / (high - low)] * (f"{name}_min" in faces)
            factors += [(high - p[name]) / (high - low)] * (f"{name}_max" in faces)
            for factor in factors:
                found = found * factor * float(len(factors))
        return found

    def _axis(self, face: str) -> tuple[int, int]:
        check_face(self, face)
        return divmod(self.faces.index(face), 2)


def _interval(name: str, ends: Any) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (low < high and np.isfinite([low, high]).all()):
        msg = f"Box({name}={ends!r}): expected the least and the greatest value, two finite numbers in rising order."
        raise InputError(msg)
    return low, high

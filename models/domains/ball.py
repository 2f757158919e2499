"""Disks and balls."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.stats import norm

from sciad._derivatives import Point
from sciad._errors import InputError
from sciad._typing import Real
from sciad.models.domains.base import ROUNDING, AbstractDomain, Surface, check_coordinates, check_face

TINY = 1e-300


class Ball(AbstractDomain):
    r"""The points within a distance of a centre: :math:`|x - c| \le r`, in any number of dimensions.

    Parameters
    ----------
    centre
        A number for each coordinate.
    radius
        Positive.
    coordinates
        Names of the coordinates; by default the first of x, y and z.
    face
        The name of its one face.

    Raises
    ------
    InputError
        If the centre is not a list of finite numbers, the radius not positive and finite, or names do not fit.

    Notes
    -----
    `distance` is :math:`1 - |x-c|^2/r^2`. `Disk` is a ball in two dimensions.

    Examples
    --------
    >>> from sciad.models.domains import Ball
    >>> ball = Ball((0, 0, 0), 2)
    >>> ball.coordinates, ball.faces, round(ball.volume, 3)
    (('x', 'y', 'z'), ('boundary',), 33.51)
    >>> points, normals = ball.surface("boundary", 10, seed=0)
    >>> bool(abs(points - 2 * normals).max() < 1e-12)
    True
    """

    centre: tuple[float, ...] = eqx.field(static=True)
    radius: float = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    face: str = eqx.field(static=True)

    def __init__(
        self,
        centre: Sequence[Real],
        radius: Real,
        coordinates: Sequence[str] | None = None,
        *,
        face: str = "boundary",
    ) -> None:
        self.centre, self.radius = _centre(centre), _radius(radius)
        self.names = ("x", "y", "z")[: len(self.centre)] if coordinates is None else tuple(coordinates)
        check_coordinates("Ball", self.names, len(self.centre))
        self.face = face

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return self.names

    @property
    def faces(self) -> tuple[str, ...]:
        """The one face."""
        return (self.face,)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Centre less and plus radius."""
        return tuple((c - self.radius, c + self.radius) for c in self.centre)

    @property
    def volume(self) -> float:
        r""":math:`\pi^{d/2} r^d / \Gamma(d/2 + 1)`."""
        half = len(self.centre) / 2
        return math.exp(half * math.log(math.pi) - math.lgamma(half + 1)) * self.radius ** len(self.centre)

    def measure(self, face: str) -> float:
        r"""Return the surface's measure, :math:`d\,V/r`."""
        check_face(self, face)
        return len(self.centre) * self.volume / self.radius

    def numbers(self, face: str | None) -> int:
        """Return how many numbers give a direction, and one for the distance from the centre."""
        directions = 1 if len(self.centre) == 2 else len(self.centre)
        return directions + (face is None)

    def place(self, face: str | None, design: Float[np.ndarray, "n k"]) -> Surface:
        """Make numbers a direction; inside, a last one is the share of the volume that lies further in."""
        d = len(self.centre)
        outward = _directions(design if face is not None else design[:, :-1], d)
        far = 1.0 if face is not None else design[:, -1:] ** (1 / d)
        points = np.asarray(self.centre) + self.radius * far * outward
        return Surface(points, outward if face is not None else np.zeros_like(points))

    def contains(self, points: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Return which points lie inside or on the boundary, to rounding."""
        size = self.radius + np.abs(self.centre).max()
        return np.linalg.norm(points - np.asarray(self.centre), axis=1) <= self.radius + ROUNDING * size

    def side(self, face: str) -> None:
        """Return None: no coordinate is constant on the face."""
        check_face(self, face)

    def distance(self, faces: tuple[str, ...], p: Point) -> Float[Array, ""]:
        """Return :math:`1 - |x-c|^2/r^2`, or one where no face is asked for."""
        check_face(self, *faces)
        if not faces:
            return jnp.ones_like(p[self.names[0]])
        scaled = [(p[name] - c) / self.radius for name, c in zip(self.names, self.centre, strict=True)]
        return 1.0 - sum(s**2 for s in scaled[1:]) - scaled[0] ** 2


def Disk(
    centre: Sequence[Real], radius: Real, coordinates: Sequence[str] = ("x", "y"), *, face: str = "boundary"
) -> Ball:
    """Return a ball in two dimensions.

    Raises
    ------
    InputError
        As `Ball` does, and if the centre has not two numbers.

    Examples
    --------
    >>> from sciad.models.domains import Disk
    >>> round(Disk((0, 0), 1).measure("boundary"), 4)
    6.2832
    """
    if len(_centre(centre)) != 2:
        msg = f"Disk({centre!r}): expected a centre of two numbers, such as (0, 0). `Ball` takes any number."
        raise InputError(msg)
    return Ball(centre, radius, coordinates, face=face)


def _directions(design: Float[np.ndarray, "n k"], dimensions: int) -> Float[np.ndarray, "n d"]:
    if dimensions == 2:
        angle = 2 * np.pi * design[:, 0]
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    normal = norm.ppf(np.clip(design, TINY, None))  # independent normal numbers favour no direction
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _centre(centre: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(c) for c in centre)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or not np.isfinite(numbers).all():
        msg = f"The centre of a ball is {centre!r}: expected a finite number for each coordinate, such as (0, 0)."
        raise InputError(msg)
    return numbers


def _radius(radius: Any) -> float:
    try:
        number = float(radius)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        msg = f"The radius of a ball is {radius!r}: expected a positive number."
        raise InputError(msg)
    return number

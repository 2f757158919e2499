"""Images of domains under smooth maps: sectors, ellipses, bent channels."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sciad._derivatives import Point
from sciad._errors import InputError
from sciad.models.domains.base import AbstractDomain, Surface, check_coordinates, check_face

PROBES = 4096  # points from which measures and the greatest weights are found
SPARE = 1.02  # over the greatest weight that was found


class Image(NamedTuple):
    """Images of points, normals there, and how much larger volumes or areas become."""

    points: Float[np.ndarray, "n d"]
    normals: Float[np.ndarray, "n d"]
    weights: Float[np.ndarray, " n"]


class Mapped(AbstractDomain):
    r"""The image of a domain under a smooth map :math:`\phi` that has an inverse.

    Parameters
    ----------
    domain
        The domain that is mapped. Its faces give the image's faces their names.
    function
        Takes a `Point` of the domain, and returns the coordinates of its image, in order.
    inverse
        Takes a `Point` of the image, and returns the coordinates in the domain, in order.
    coordinates
        Names of the image's coordinates, as many as the domain has.

    Raises
    ------
    InputError
        If numbers of coordinates differ, or `inverse` does not undo `function` at points inside.

    Notes
    -----
    Points are kept in proportion to :math:`|\det J|` inside, and to :math:`|\det J|\,|J^{-T} n|` on faces, so they are
    evenly spread over the image; normals are along :math:`J^{-T} n`. Measures are means of these over 4096 quasi-random
    points, good to four digits or more; so are `bounds`. `distance` is that of the domain at the inverse: zero
    on the same faces, with a slope that varies along them as the map stretches.

    Examples
    --------
    >>> from sciad.models.domains import Box, Mapped
    >>> sector = Mapped(
    ...     Box(r=(1, 2), a=(0, 1)),
    ...     lambda p: (p.r * jnp.cos(p.a), p.r * jnp.sin(p.a)),
    ...     lambda p: (jnp.hypot(p.x, p.y), jnp.arctan2(p.y, p.x)),
    ... )
    >>> round(sector.volume, 2), round(sector.measure("r_max"), 2)
    (1.5, 2.0)
    """

    domain: AbstractDomain
    function: Callable[[Point], Sequence[Any]] = eqx.field(static=True)
    inverse: Callable[[Point], Sequence[Any]] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    measures: tuple[float, ...] = eqx.field(static=True)
    greatest: tuple[float, ...] = eqx.field(static=True)
    box: tuple[tuple[float, float], ...] = eqx.field(static=True)

    def __init__(
        self,
        domain: AbstractDomain,
        function: Callable[[Point], Sequence[Any]],
        inverse: Callable[[Point], Sequence[Any]],
        coordinates: Sequence[str] = ("x", "y"),
    ) -> None:
        self.domain, self.function, self.inverse, self.names = domain, function, inverse, tuple(coordinates)
        check_coordinates("Mapped", self.names, len(domain.coordinates))
        probes = [Surface(z := domain.interior(PROBES, 0), np.zeros_like(z))]
        probes += [domain.surface(face, PROBES, i + 1) for i, face in enumerate(domain.faces)]
        _check_inverse(self, probes[0].points)
        images = [self._image(*probe) for probe in probes]
        sizes = [domain.volume, *map(domain.measure, domain.faces)]
        self.measures = tuple(float(size * image.weights.mean()) for size, image in zip(sizes, images, strict=True))
        self.greatest = tuple(SPARE * float(image.weights.max()) for image in images)
        every = np.concatenate([image.points for image in images])
        self.box = tuple((float(a), float(b)) for a, b in zip(every.min(axis=0), every.max(axis=0), strict=True))

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return self.names

    @property
    def faces(self) -> tuple[str, ...]:
        """The domain's faces."""
        return self.domain.faces

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Least and greatest coordinates of images."""
        return self.box

    @property
    def volume(self) -> float:
        """The image's measure."""
        return self.measures[0]

    def measure(self, face: str) -> float:
        """Return the measure of a face's image."""
        return self.measures[self._index(face)]

    def numbers(self, face: str | None) -> int:
        """Return what the domain needs, and one number that decides whether a point is kept."""
        return self.domain.numbers(face) + 1

    def place(self, face: str | None, design: Float[np.ndarray, "n k"]) -> Surface:
        """Map the domain's points, and keep them in proportion to how much the map stretches."""
        image = self._image(*self.domain.place(face, design[:, :-1]))
        out = design[:, -1] * self.greatest[self._index(face)] >= image.weights
        return Surface(np.where(out[:, None], np.nan, image.points), image.normals)

    def contains(self, points: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Return which points have their inverse in the domain, to rounding."""
        return self.domain.contains(_mapped(self.inverse, self.names, points))

    def side(self, face: str) -> None:
        """Return None: a map bends."""
        check_face(self, face)

    def distance(self, faces: tuple[str, ...], p: Point) -> Float[Array, ""] | None:
        """Return the domain's distance at the inverse of a point."""
        return self.domain.distance(faces, Point(dict(zip(self.domain.coordinates, self.inverse(p), strict=True))))

    def _index(self, face: str | None) -> int:
        if face is not None:
            check_face(self, face)
        return 0 if face is None else 1 + self.faces.index(face)

    def _image(self, points: Float[np.ndarray, "n d"], normals: Float[np.ndarray, "n d"]) -> Image:
        def one(z: Array) -> Array:
            return _at(self.function, self.domain.coordinates, z)

        images, jacobians = jax.jit(jax.vmap(lambda z: (one(z), jax.jacfwd(one)(z))))(points)
        images, jacobians = np.asarray(images, float), np.asarray(jacobians, float)
        weights = np.abs(np.linalg.det(jacobians))
        if not normals.any():
            return Image(images, normals, weights)
        turned = np.linalg.solve(np.swapaxes(jacobians, 1, 2), normals[:, :, None])[:, :, 0]
        lengths = np.linalg.norm(turned, axis=1)
        return Image(images, turned / lengths[:, None], weights * lengths)


def _at(function: Callable[[Point], Sequence[Any]], names: tuple[str, ...], z: Array) -> Array:
    return jnp.stack([jnp.asarray(part) for part in function(Point(dict(zip(names, z, strict=True))))])


def _mapped(
    function: Callable[[Point], Sequence[Any]], names: tuple[str, ...], points: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, "n d"]:
    return np.asarray(jax.jit(jax.vmap(lambda z: _at(function, names, z)))(points), float)


def _check_inverse(image: Mapped, points: Float[np.ndarray, "n d"]) -> None:
    there = _mapped(image.function, image.domain.coordinates, points)
    if there.shape != points.shape:
        msg = f"Mapped: the function returns {there.shape[1]} numbers; expected one for each of {image.names}."
        raise InputError(msg)
    back = _mapped(image.inverse, image.names, there)
    scale = np.abs(points).max(axis=0)
    if back.shape != points.shape or not np.all(np.abs(back - points) <= 1e-3 * scale):
        msg = "Mapped: inverse(function(p)) is not p inside the domain. Give the inverse's coordinates in the domain's "
        msg += f"order, {image.domain.coordinates}, and a domain on which the function is one to one."
        raise InputError(msg)

"""Points with named coordinates, and derivatives of functions of them."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, PyTree

from sciad._errors import InputError, did_you_mean

Function: TypeAlias = Callable[["Point"], Any]


class Point(eqx.Module):
    """A point in space and time, whose coordinates are read by name: ``p.x``, or ``p["x"]``.

    Examples
    --------
    >>> p = Point({"x": jnp.array(0.5), "t": jnp.array(2.0)})
    >>> float(p.x * p["t"])
    1.0
    """

    coordinates: dict[str, Inexact[Array, "..."]]

    def __init__(self, coordinates: Mapping[str, Any]) -> None:
        self.coordinates = {name: jnp.asarray(value) for name, value in coordinates.items()}

    def __getitem__(self, name: str) -> Array:
        if name not in self.coordinates:
            msg = f"A point has no coordinate {name!r}. {did_you_mean(name, self.coordinates)}"
            raise InputError(msg)
        return self.coordinates[name]

    def __getattr__(self, name: str) -> Array:
        if name.startswith("__") or name == "coordinates":
            raise AttributeError(name)
        return self[name]

    def at(self, **coordinates: Any) -> "Point":
        """Return the point with some of its coordinates replaced."""
        for name in coordinates:
            self[name]
        return Point(self.coordinates | coordinates)


def d(u: Function, *names: str) -> Function:
    r"""Return the partial derivative of a function of a point: ``d(u, "x", "t")(p)`` is :math:`\partial_x\partial_t u`.

    Parameters
    ----------
    u
        A function from a `Point` to an array of any shape.
    names
        Coordinates, in which it is differentiated one after the other, in forward mode.

    Raises
    ------
    InputError
        If `u` is no function, or a point has no such coordinate.

    Examples
    --------
    >>> p = Point({"x": 3.0, "t": 2.0})
    >>> float(d(lambda p: p.x**3 * p.t, "x", "x")(p))
    36.0
    """
    if not callable(u):
        msg = f"d(u, {', '.join(map(repr, names))}): u is {_kind(u)}. Give the function, and call its derivative: "
        msg += f"d(u, {', '.join(map(repr, names))})(p)."
        raise InputError(msg)
    for name in names:
        if not isinstance(name, str):
            msg = f"d(u, ...): coordinates are given by name; got {_kind(name)}. Write d(u, 'x')(p)."
            raise InputError(msg)
        u = _partial(u, name)
    return u


def _partial(u: Function, name: str) -> Function:
    def derivative(p: Point) -> PyTree:
        s = p[name]
        return jax.jvp(lambda s: u(p.at(**{name: s})), (s,), (jnp.ones_like(s),))[1]

    return derivative


def gradient(u: Function, *names: str) -> Callable[[Point], Float[Array, "..."]]:
    r"""Return the derivatives along some coordinates as a vector, ``[∂u/∂x, ∂u/∂y, ...]``, along a last axis.

    Examples
    --------
    >>> gradient(lambda p: p.x * p.y, "x", "y")(Point({"x": 3.0, "y": 2.0})).tolist()
    [2.0, 3.0]
    """
    _named("gradient", names)
    return lambda p: jnp.stack([d(u, name)(p) for name in names], axis=-1)


def laplacian(u: Function, *names: str) -> Function:
    r"""Return the sum of the second derivatives along some coordinates.

    Examples
    --------
    >>> float(laplacian(lambda p: p.x**2 - 3 * p.y**2, "x", "y")(Point({"x": 3.0, "y": 2.0})))
    -4.0
    """
    _named("laplacian", names)
    return lambda p: sum(d(u, name, name)(p) for name in names)


def _named(what: str, names: tuple[str, ...]) -> None:
    if not names:
        msg = f"{what}(u) names no coordinate. Write {what}(u, 'x', 'y')."
        raise InputError(msg)


def _kind(value: Any) -> str:
    return "a number" if isinstance(value, int | float | jax.Array) else f"of type {type(value).__name__}"

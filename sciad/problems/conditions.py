"""What holds on the faces of a domain: initial, boundary and periodic conditions."""

import abc
from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sciad._derivatives import Function, Point, d, gradient
from sciad._errors import InputError, did_you_mean
from sciad.models.domains import AbstractDomain

Value: TypeAlias = Any  # a number, a `Param`, or a function of a point, which may be a module with parameters
Normal: TypeAlias = Float[Array, " d"]

FACE = 0.1  # points on a face, by those inside


class AbstractCondition(eqx.Module):
    """A condition on one field, on some faces of a domain.

    Attributes
    ----------
    field
        Which field; None: the only one.
    hard
        Whether the ansatz carries it exactly, so that it needs no points; None: where it can.
    """

    field: eqx.AbstractVar[str | None]
    hard: eqx.AbstractVar[bool | None]

    @abc.abstractmethod
    def faces(self, domain: AbstractDomain) -> tuple[str, ...]:
        """Return the faces it holds on."""

    @abc.abstractmethod
    def values(self) -> tuple[Value, ...]:
        """Return what is prescribed; its parameters belong to the program."""

    @abc.abstractmethod
    def misses(self, u: Any, values: tuple[Value, ...], p: Point, normal: Normal) -> tuple[Array, ...]:
        """Return by how much a field misses the condition at a point of a face."""

    def place(self, domain: AbstractDomain) -> str:
        """Return where it holds, in words."""
        return f"on {', '.join(self.faces(domain))}"

    def places(self, domain: AbstractDomain) -> tuple[str, ...]:
        """Return the places where it is met at points, each with a group of residuals: its faces."""
        return self.faces(domain)

    def rows(self, domain: AbstractDomain, place: str, number: int, seed: int) -> tuple[np.ndarray, PyTree]:
        """Return points at a place, for so many points inside, and what belongs to each: the outward normal."""
        return domain.surface(place, max(int(FACE * number), 1), seed)


def value_at(value: Value, p: Point) -> Array:
    """Return a prescribed value at a point."""
    return jnp.asarray(value(p) if callable(value) else value, jnp.result_type(float))


def slope_along(u: Function, p: Point, normal: Normal) -> Array:
    """Return the derivative along the normal."""
    return jnp.dot(gradient(u, *p.coordinates)(p), normal)


class Dirichlet(AbstractCondition):
    r"""Prescribed values, :math:`u = g` on some faces.

    Parameters
    ----------
    value
        A number, a `param` (unknown), or a function of a point.
    on
        Names of faces; or of a coordinate, which stands for its two faces. Default: all but those of time.
    field
        Which field; may be left out where there is only one.
    hard
        Whether the ansatz carries it exactly. Default: where it can, that is on faces of a box, and on one whole
        boundary with a smooth distance function.

    Examples
    --------
    >>> import sciad as sd
    >>> domain = sd.Box(x=(-1, 1), t=(0, 1))
    >>> Dirichlet(0.0).faces(domain), Dirichlet(0.0, on="x_min").faces(domain)
    (('x_min', 'x_max'), ('x_min',))
    """

    value: Value
    on: tuple[str, ...] | None = eqx.field(static=True)
    field: str | None = eqx.field(static=True)
    hard: bool | None = eqx.field(static=True)

    def __init__(self, value: Value, on: Any = None, *, field: str | None = None, hard: bool | None = None) -> None:
        self.value, self.on, self.field, self.hard = value, _names(on), field, hard

    def faces(self, domain: AbstractDomain) -> tuple[str, ...]:
        """Return the faces it holds on."""
        return faces_of(domain, self.on)

    def values(self) -> tuple[Value, ...]:
        """Return the prescribed value."""
        return (self.value,)

    def misses(self, u: Any, values: tuple[Value, ...], p: Point, normal: Normal) -> tuple[Array, ...]:
        """Return ``u - g``."""
        del normal
        return (u(p) - value_at(values[0], p),)


class Robin(AbstractCondition):
    r"""Values and slopes together, :math:`a u + b\, \partial_n u = g` with the outward normal n; see `Dirichlet`."""

    value: Value
    on: tuple[str, ...] | None = eqx.field(static=True)
    a: Value
    b: Value
    field: str | None = eqx.field(static=True)
    hard: bool | None = eqx.field(static=True)

    def __init__(self, value: Value, on: Any = None, *, a: Value, b: Value, field: str | None = None) -> None:
        self.value, self.on, self.a, self.b, self.field, self.hard = value, _names(on), a, b, field, False

    def faces(self, domain: AbstractDomain) -> tuple[str, ...]:
        """Return the faces it holds on."""
        return faces_of(domain, self.on)

    def values(self) -> tuple[Value, ...]:
        """Return g, a and b."""
        return self.value, self.a, self.b

    def misses(self, u: Any, values: tuple[Value, ...], p: Point, normal: Normal) -> tuple[Array, ...]:
        """Return ``a u + b ∂u/∂n - g``."""
        g, a, b = (value_at(value, p) for value in values)
        return (a * u(p) + b * slope_along(u, p, normal) - g,)


def Neumann(value: Value, on: Any = None, *, field: str | None = None) -> Robin:
    r"""Return prescribed slopes, :math:`\partial_n u = g` with the outward normal n; see `Dirichlet`."""
    return Robin(value, on, a=0.0, b=1.0, field=field)


class Initial(AbstractCondition):
    r"""Values at the first time, :math:`u = u_0`, and for equations of second order rates, :math:`\partial_t u = v_0`.

    Parameters
    ----------
    value, rate
        Numbers, `param`, or functions of a point.
    time
        Name of the coordinate of time.
    field, hard
        As for `Dirichlet`.
    """

    value: Value
    rate: Value
    time: str = eqx.field(static=True)
    field: str | None = eqx.field(static=True)
    hard: bool | None = eqx.field(static=True)

    def __init__(
        self, value: Value, rate: Value = None, *, time: str = "t", field: str | None = None, hard: bool | None = None
    ) -> None:
        self.value, self.rate, self.time, self.field, self.hard = value, rate, time, field, hard

    def faces(self, domain: AbstractDomain) -> tuple[str, ...]:
        """Return the face of the first time."""
        return faces_of(domain, (f"{self.time}_min",))

    def values(self) -> tuple[Value, ...]:
        """Return value and, if given, rate."""
        return (self.value,) if self.rate is None else (self.value, self.rate)

    def misses(self, u: Any, values: tuple[Value, ...], p: Point, normal: Normal) -> tuple[Array, ...]:
        """Return ``u - u0`` and ``∂u/∂t - v0``."""
        del normal
        missed = (u(p) - value_at(values[0], p),)
        return missed if len(values) == 1 else (*missed, d(u, self.time)(p) - value_at(values[1], p))


class Periodic(AbstractCondition):
    """The same on both faces of a coordinate, with all derivatives, for all fields; always carried by the ansatz.

    Parameters
    ----------
    along
        Name of the coordinate.
    """

    along: str = eqx.field(static=True)
    field: str | None = eqx.field(static=True)
    hard: bool | None = eqx.field(static=True)

    def __init__(self, along: str) -> None:
        self.along, self.field, self.hard = along, None, True

    def faces(self, domain: AbstractDomain) -> tuple[str, ...]:
        """Return both faces."""
        return faces_of(domain, (self.along,))

    def values(self) -> tuple[Value, ...]:
        """Return nothing: no value is prescribed."""
        return ()

    def misses(self, u: Any, values: tuple[Value, ...], p: Point, normal: Normal) -> tuple[Array, ...]:
        """Return nothing: the ansatz cannot miss it."""
        del u, values, p, normal
        return ()


class Operator(AbstractCondition):
    """Any condition: ``residual(u, p, normal)`` is to vanish on some faces.

    Parameters
    ----------
    residual
        A function of the field (of all fields, as the equation has them), a point, and the outward normal, an array
        with an entry for each coordinate. It may be a module with parameters.
    on
        As for `Dirichlet`.
    """

    residual: Callable[..., Any]
    on: tuple[str, ...] | None = eqx.field(static=True)
    field: str | None = eqx.field(static=True)
    hard: bool | None = eqx.field(static=True)

    def __init__(self, residual: Callable[..., Any], on: Any = None) -> None:
        self.residual, self.on, self.field, self.hard = residual, _names(on), "*", False

    def faces(self, domain: AbstractDomain) -> tuple[str, ...]:
        """Return the faces it holds on."""
        return faces_of(domain, self.on)

    def values(self) -> tuple[Value, ...]:
        """Return the function."""
        return (self.residual,)

    def misses(self, u: Any, values: tuple[Value, ...], p: Point, normal: Normal) -> tuple[Array, ...]:
        """Return what the function returns."""
        return (values[0](u, p, normal),)


def _names(on: Any) -> tuple[str, ...] | None:
    return (on,) if isinstance(on, str) else None if on is None else tuple(on)


def faces_of(domain: AbstractDomain, on: tuple[str, ...] | None, time: str = "t") -> tuple[str, ...]:
    """Return the faces that names stand for.

    Raises
    ------
    InputError
        If there is no such face, or none at all.
    """
    if on is None:
        chosen = tuple(face for face in domain.faces if face not in (f"{time}_min", f"{time}_max"))
        if not chosen:
            msg = f"A condition on the boundary has no face to hold on: the domain has {', '.join(domain.faces)}."
            raise InputError(msg)
        return chosen
    chosen = []
    for name in on:
        both = [face for face in (f"{name}_min", f"{name}_max") if face in domain.faces]
        if name not in domain.faces and len(both) < 2:
            hint = did_you_mean(name, (*domain.faces, *domain.coordinates))
            msg = f"A condition holds on {name!r}, and the domain has no such face. {hint}"
            raise InputError(msg)
        chosen += [name] if name in domain.faces else both
    if not chosen:
        msg = "A condition holds on no face: `on` is empty. Name one, or leave `on` out for the whole boundary."
        raise InputError(msg)
    return tuple(dict.fromkeys(chosen))

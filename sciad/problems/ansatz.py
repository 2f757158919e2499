r"""Conditions carried exactly: fields of the form :math:`u(p) = A(p) + s\, D(p)\, N(z(p))`.

A meets the prescribed values, the distance D is zero where they are prescribed, N is a network, s the field's size.
For each face in turn A takes in what it still misses there, faded out towards the face on the other side (transfinite
interpolation by a Boolean sum); so all are met, if they agree where they meet. A value on a bent face, or on more flat
ones than six, is taken for the whole domain first. Of periodic coordinates the network sees sine and cosine alone.

Source: W. J. Gordon and C. A. Hall, *Transfinite element methods* (1973); N. Sukumar and A. Srivastava, *Exact
imposition of boundary conditions with distance functions in physics-informed deep neural networks* (2022).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from sciad._derivatives import Function, Point, d
from sciad.models.domains import AbstractDomain
from sciad.problems.conditions import AbstractCondition, Dirichlet, Initial, Periodic, Value, value_at

Known: TypeAlias = Function | None  # None: zero everywhere, which costs nothing
FLAT = 6  # faces that a Boolean sum takes in, at a cost of two to that power


class Carried(NamedTuple):
    """What the ansatz of a field carries: numbers of conditions, faces where it is fixed, and periodic coordinates."""

    conditions: tuple[tuple[int, tuple[str, ...]], ...]
    fixed: tuple[str, ...]
    periodic: tuple[str, ...]


def carried_by(domain: AbstractDomain, conditions: Sequence[AbstractCondition], field: str) -> Carried:
    """Choose which conditions on a field its ansatz carries: those on faces of a box first, then initial values."""
    chosen: dict[int, tuple[str, ...]] = {}
    mine = [(i, each) for i, each in enumerate(conditions) if each.field in (None, field) and each.hard is not False]
    whole, summed = False, 0
    for i, each in mine:
        if not isinstance(each, Dirichlet):
            continue
        faces = each.faces(domain)
        flat = [domain.side(face) is not None for face in faces]
        if _whole(domain, faces):
            smooth = domain.distance(faces, _anywhere(domain)) is not None
            if whole or not (all(flat) or (smooth and not any(flat))):
                continue  # one value can be that of the whole domain, on faces with a distance function
            whole = True
        elif not _is_zero(each.value):
            summed += len(faces)
            if summed > FLAT and not each.hard:
                continue
        chosen[i] = faces
    initial = {i: each.faces(domain) for i, each in mine if isinstance(each, Initial)}
    fixed = [face for faces in chosen.values() for face in faces]
    for i, faces in initial.items():
        fixed += faces * len(conditions[i].values())
    periodic = [each.along for _, each in mine if isinstance(each, Periodic)]
    return Carried((*chosen.items(), *initial.items()), tuple(fixed), tuple(dict.fromkeys(periodic)))


def known_part(
    domain: AbstractDomain, carried: Carried, conditions: Sequence[AbstractCondition], values: Sequence[Any]
) -> Known:
    """Return A, from the values that the program holds for each condition; None where it is zero.

    What is taken for the whole domain comes first; then flat faces, then initial values.
    """

    def place(item: tuple[int, tuple[str, ...]]) -> tuple[bool, bool]:
        return isinstance(conditions[item[0]], Initial), not _whole(domain, item[1])

    known: Known = None
    for number, faces in sorted(carried.conditions, key=place):
        condition, value = conditions[number], values[number]
        if _whole(domain, faces):
            known = _with_boundary(value[0])
            continue
        for face in faces:
            side = domain.side(face)
            assert side is not None  # else taken for the whole domain
            if isinstance(condition, Initial):
                known = _with_initial(known, value, condition.time, side)
            else:
                known = _with_face(known, value[0], side, _fading(domain, carried, face))
    return known


def _whole(domain: AbstractDomain, faces: tuple[str, ...]) -> bool:
    """Whether a value on these faces is taken for the whole domain."""
    return len(faces) > FLAT or not all(domain.side(face) for face in faces)


def _with_face(known: Known, value: Value, side: tuple[str, float], fading: Function) -> Known:
    if known is None and _is_zero(value):
        return None
    name, place = side

    def new(p: Point) -> Array:
        on = p.at(**{name: jnp.asarray(place)})
        missed = value_at(value, on) - (0.0 if known is None else known(on))
        return (0.0 if known is None else known(p)) + fading(p) * missed

    return new


def _with_boundary(value: Value) -> Known:
    return None if _is_zero(value) else lambda p: value_at(value, p)


def _with_initial(known: Known, values: tuple[Value, ...], time: str, side: tuple[str, float]) -> Known:
    first = jnp.asarray(side[1])
    old = known

    def start(p: Point) -> Array:
        on = p.at(**{time: first})
        return value_at(values[0], on) - (0.0 if old is None else old(on))

    if not (old is None and _is_zero(values[0])):
        known = lambda p: (0.0 if old is None else old(p)) + start(p)  # noqa: E731
    if len(values) == 1 or (known is None and _is_zero(values[1])):
        return known
    before = known

    def with_rate(p: Point) -> Array:
        on = p.at(**{time: first})
        missed = value_at(values[1], on) - (0.0 if before is None else d(before, time)(on))
        return (0.0 if before is None else before(p)) + (p[time] - first) * missed

    return with_rate


def _fading(domain: AbstractDomain, carried: Carried, face: str) -> Function:
    """Return one, or where the other face of the coordinate is fixed too, what falls linearly to zero there."""
    name, place = domain.side(face) or ("", 0.0)
    other = next((f for f in domain.faces if f != face and (domain.side(f) or ("",))[0] == name), None)
    if other not in carried.fixed:
        return lambda p: jnp.ones_like(p[name])
    beyond = (domain.side(other) or ("", 0.0))[1]
    return lambda p: (p[name] - beyond) / (place - beyond)


def _is_zero(value: Value) -> bool:
    return isinstance(value, int | float) and value == 0


def distance(domain: AbstractDomain, carried: Carried, p: Point) -> Float[Array, ""]:
    """Return D, zero where values are prescribed, with a double zero where rates are too."""
    once = tuple(dict.fromkeys(carried.fixed))
    twice = tuple(face for face in once if carried.fixed.count(face) > 1)
    found = jnp.ones(())
    for faces in (once, twice):
        factor = domain.distance(faces, p) if faces else None
        found = found if factor is None else found * factor
    return found


def network_inputs(domain: AbstractDomain, periodic: tuple[str, ...]) -> Callable[[Point], Array]:
    """Return the function that gives the numbers that a network sees of a point, each in [-1, 1]."""
    spans = dict(zip(domain.coordinates, domain.bounds, strict=True))

    def seen(p: Point) -> Array:
        numbers = []
        for name, (low, high) in spans.items():
            part = (p[name] - low) / (high - low)
            turn = 2 * jnp.pi * part
            numbers += [jnp.cos(turn), jnp.sin(turn)] if name in periodic else [2 * part - 1]
        return jnp.stack(numbers)

    return seen


def _anywhere(domain: AbstractDomain) -> Point:
    middle = {n: (low + high) / 2 for n, (low, high) in zip(domain.coordinates, domain.bounds, strict=True)}
    return Point({name: jnp.asarray(value) for name, value in middle.items()})

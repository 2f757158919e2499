"""Conditions where two materials meet."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciad._derivatives import Point
from sciad._errors import InputError
from sciad.models.domains import AbstractDomain
from sciad.problems.conditions import AbstractCondition, Normal, Value, slope_along, value_at

SHARE = 0.1  # points on the interface, by those inside
STEPS = 30  # of Newton's method along the slope of the level
MET = 1e-5  # of the level's size inside: what is as close to zero lies on the interface
MORE, MOST = 4, 64  # points that are moved, by those wanted: at first, and at most
TIME, SIDES = "t", 2


class Interface(AbstractCondition):
    r"""Jumps of a field, :math:`[u] = g`, and of its flux, :math:`[a\, \partial_n u] = h`, where a level is zero.

    So two materials meet. A jump is the value where the level is positive less that where it is negative, and n points
    to where it is positive. The network sees on which side a point lies, so that field and slopes may jump there and
    nowhere else; the two conditions are met at points on the interface.

    Parameters
    ----------
    level
        A function of a point: positive on one side, negative on the other, with a slope along space where it is zero.
        Space is all but t; with t in it the interface moves.
    coefficient
        a where the level is positive, and where it is negative.
    jump, flux
        g and h.
    field
        Which field; may be left out where there is only one.

    Notes
    -----
    The equation says itself what holds on either side: ``jnp.where(level(p) > 0, 1.0, 10.0)``.

    Source: W.-F. Hu, T.-S. Lin and M.-C. Lai, *A discontinuity capturing shallow neural network for elliptic interface
    problems*, Journal of Computational Physics 469 (2022).

    Examples
    --------
    >>> import sciad as sd
    >>> rods = Interface(lambda p: p.x - 0.3, coefficient=(2.0, 1.0))
    >>> print(sd.PDEProblem(sd.Box(x=(0, 1)), conditions=[rods]))
    u on x in 0 .. 1: interface where its level is zero (by points)
    """

    level: Callable[[Point], Any] = eqx.field(static=True)
    coefficient: tuple[Value, Value]
    jump: Value
    flux: Value
    field: str | None = eqx.field(static=True)
    hard: bool | None = eqx.field(static=True)

    def __init__(
        self,
        level: Callable[[Point], Any],
        *,
        coefficient: tuple[Value, Value] = (1.0, 1.0),
        jump: Value = 0.0,
        flux: Value = 0.0,
        field: str | None = None,
    ) -> None:
        if not callable(level):
            msg = f"Interface(level={level!r}): expected a function of a point, zero on the interface, such as "
            msg += "lambda p: p.x**2 + p.y**2 - 0.25."
            raise InputError(msg)
        if any(map(eqx.is_array, jax.tree.leaves(level))):
            msg = (
                "Interface: the level holds arrays or parameters. It has to be known, and a function: unknown numbers "
            )
            msg += "in it cannot be found by slopes, since sides change abruptly."
            raise InputError(msg)
        if not isinstance(coefficient, tuple | list) or len(coefficient) != SIDES:
            msg = f"Interface(coefficient={coefficient!r}): expected two values, that where the level is positive and "
            msg += "that where it is negative."
            raise InputError(msg)
        self.level, self.coefficient, self.jump, self.flux = level, tuple(coefficient), jump, flux
        self.field, self.hard = field, False

    def faces(self, domain: AbstractDomain) -> tuple[str, ...]:
        """Return nothing: it holds inside."""
        del domain
        return ()

    def place(self, domain: AbstractDomain) -> str:
        """Return where it holds, in words."""
        del domain
        return "where its level is zero"

    def values(self) -> tuple[Value, ...]:
        """Return g, h, and both coefficients."""
        return self.jump, self.flux, *self.coefficient

    def places(self, domain: AbstractDomain) -> tuple[str, ...]:
        """Return one place, the interface."""
        del domain
        return ("level",)

    def side(self, p: Point) -> Array:
        """Return 1 where the level is positive, else -1."""
        return jnp.where(jnp.asarray(self.level(p)) > 0, 1.0, -1.0)

    def rows(self, domain: AbstractDomain, place: str, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return points on the interface, and the normals there.

        Points inside are moved along the level's slope in space, by Newton's method.

        Raises
        ------
        InputError
            If the level returns no number, or is nowhere zero inside.
        """
        del place
        wanted = max(int(SHARE * number), 1)
        found, normals = _on_level(self.level, domain, MORE * wanted, seed)
        if len(found) < wanted:
            found, normals = _on_level(self.level, domain, MOST * wanted, seed)
        if not len(found):
            msg = "Interface: the level is nowhere zero inside the domain, or has no slope there, so that nothing meets"
            msg += ". Give a function of a point that is positive on one side and negative on the other."
            raise InputError(msg)
        return found[:wanted], normals[:wanted]

    def misses(self, u: tuple[Any, Any], values: tuple[Value, ...], p: Point, normal: Normal) -> tuple[Array, ...]:
        """Return by how much both jumps are missed, from the fields as they are on either side."""
        jump, flux, above, below = (value_at(value, p) for value in values)
        slopes = [slope_along(each, p, normal) for each in u]
        return u[0](p) - u[1](p) - jump, above * slopes[0] - below * slopes[1] - flux


def _on_level(
    level: Callable[[Point], Any], domain: AbstractDomain, number: int, seed: int
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
    """Return those of so many points inside that arrive at the level's zero without leaving the domain, and normals."""
    points = domain.interior(number, seed)
    in_space = jnp.array([name != TIME for name in domain.coordinates])

    def at(x: Array) -> Array:
        return jnp.asarray(level(Point(dict(zip(domain.coordinates, x, strict=True)))), x.dtype)

    def sloped(x: Array) -> tuple[Array, Array]:
        value, slope = jax.value_and_grad(at)(x)
        return value, jnp.where(in_space, slope, 0.0)

    def moved(x: Array, _: None) -> tuple[Array, None]:
        value, slope = sloped(x)
        return x - value * slope / jnp.maximum(slope @ slope, jnp.finfo(x.dtype).tiny), None

    @jax.jit
    def all_moved(points: Array) -> tuple[Array, Array, Array, Array]:
        ends = jax.vmap(lambda x: jax.lax.scan(moved, x, None, length=STEPS)[0])(points)
        return jax.vmap(at)(points), ends, *jax.vmap(sloped)(ends)

    start = jnp.asarray(points)
    shape = jax.eval_shape(at, start[0]).shape
    if shape:
        msg = f"Interface: the level returned an array of shape {shape} at one point; expected one number."
        raise InputError(msg)
    before, ends, values, slopes = map(np.asarray, all_moved(start))
    lengths = np.linalg.norm(slopes, axis=1)
    with np.errstate(invalid="ignore"):
        met = (np.abs(values) <= MET * np.abs(before).max()) & (lengths > 0) & domain.contains(ends)
    return ends[met], slopes[met] / lengths[met, None]

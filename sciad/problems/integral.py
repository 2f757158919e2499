"""Conditions on integrals of a field."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciad._derivatives import Point
from sciad._errors import InputError, did_you_mean
from sciad.models.domains import AbstractDomain, Box
from sciad.problems.conditions import AbstractCondition, Value, value_at

NODES = {1: 64, 2: 24}  # of Gauss and Legendre's rule along each coordinate
SPREAD = 1024  # quasi-random points where there are more coordinates, or the domain is no box
PART = 0.02  # places along the other coordinates, by the points inside


class Quadrature(NamedTuple):
    """Nodes, by the coordinates that are integrated over, and their weights; for each of several points."""

    nodes: Mapping[str, Float[np.ndarray | Array, "points q"]]
    weights: Float[np.ndarray | Array, "points q"]


class Integral(AbstractCondition):
    r"""A prescribed integral, :math:`\int g(u, p)\, d(\text{over}) = c`, at all values of the other coordinates.

    A mass that is conserved, a mean that is fixed, a probability that adds up to one. It is met at some values of the
    other coordinates, by Gauss and Legendre's rule with 64 nodes over one coordinate and 24 by 24 over two of a box,
    else by 1024 quasi-random points.

    Parameters
    ----------
    value
        c: a number, a `param`, or a function of a point (of its other coordinates).
    of
        ``g(u, p)``, with u as the equation has it; default: the only field, ``u(p)``.
    over
        Coordinates that are integrated over. Default: all but t. Of a domain that is no box: all.

    Examples
    --------
    >>> import sciad as sd
    >>> mass = Integral(1.0)
    >>> print(sd.PDEProblem(sd.Box(x=(-1, 1), t=(0, 1)), conditions=[mass]))
    u on x in -1 .. 1, t in 0 .. 1: integral over x (by points)
    """

    value: Value
    of: Callable[..., Any] | None
    over: tuple[str, ...] | None = eqx.field(static=True)
    field: str | None = eqx.field(static=True)
    hard: bool | None = eqx.field(static=True)

    def __init__(self, value: Value, of: Callable[..., Any] | None = None, *, over: Any = None) -> None:
        self.value, self.of, self.field, self.hard = value, of, "*", False
        self.over = (over,) if isinstance(over, str) else None if over is None else tuple(over)

    def coordinates(self, domain: AbstractDomain) -> tuple[str, ...]:
        """Return the coordinates that are integrated over.

        Raises
        ------
        InputError
            If there is no such coordinate, or the domain is no box and some are left out.
        """
        names = domain.coordinates
        over = self.over if self.over is not None else tuple(name for name in names if name != "t")
        for name in over:
            if name not in names:
                msg = f"Integral(over={name!r}): the domain has no such coordinate. {did_you_mean(name, names)}"
                raise InputError(msg)
        if not over:
            msg = "Integral: there is nothing to integrate over. Name coordinates in `over`."
            raise InputError(msg)
        if not isinstance(domain, Box) and set(over) != set(names):
            msg = f"Integral over {', '.join(over)}: on a domain that is no sd.Box an integral is over all coordinates,"
            msg += f" {', '.join(names)}. Name them in `over`, or use a box."
            raise InputError(msg)
        return over

    def faces(self, domain: AbstractDomain) -> tuple[str, ...]:
        """Return nothing: it holds inside."""
        self.coordinates(domain)
        return ()

    def place(self, domain: AbstractDomain) -> str:
        """Return the coordinates that are integrated over, in words."""
        return f"over {', '.join(self.coordinates(domain))}"

    def values(self) -> tuple[Value, ...]:
        """Return the value, and g."""
        return self.value, self.of

    def places(self, domain: AbstractDomain) -> tuple[str, ...]:
        """Return one place, all there is to integrate over."""
        return (" and ".join(self.coordinates(domain)),)

    def rows(self, domain: AbstractDomain, place: str, number: int, seed: int) -> tuple[np.ndarray, Quadrature]:
        """Return points that stand for the values of the other coordinates, and for each the rule."""
        del place
        over = self.coordinates(domain)
        places = 1 if len(over) == len(domain.coordinates) else max(int(PART * number), 8)
        nodes, weights = _rule(domain, over, seed)
        many = {name: np.repeat(column[None], places, axis=0) for name, column in zip(over, nodes.T, strict=True)}
        return domain.interior(places, seed), Quadrature(many, np.repeat(weights[None], places, axis=0))

    def misses(self, u: Any, values: tuple[Value, ...], p: Point, normal: Any) -> tuple[Array, ...]:
        """Return the integral less the value; in the place of a normal there is a quadrature."""
        nodes, weights = normal
        value, of = values

        def at(node: dict[str, Array]) -> Array:
            there = p.at(**node)
            return jnp.asarray(u(there) if of is None else of(u, there))

        return (jnp.dot(weights, jax.vmap(at)(nodes)) - value_at(value, p),)


def _rule(domain: AbstractDomain, over: tuple[str, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes, with a column for each coordinate that is integrated over, and their weights."""
    columns = [domain.coordinates.index(name) for name in over]
    if not isinstance(domain, Box) or len(over) > max(NODES):
        sides = [domain.bounds[column][1] - domain.bounds[column][0] for column in columns]
        volume = domain.volume if len(over) == len(domain.coordinates) else float(np.prod(sides))
        points = domain.interior(SPREAD, seed)[:, columns]
        return points, np.full(SPREAD, volume / SPREAD)
    z, w = np.polynomial.legendre.leggauss(NODES[len(over)])
    spans = [domain.bounds[column] for column in columns]
    nodes = [low + (high - low) * (z + 1) / 2 for low, high in spans]
    weights = [w * (high - low) / 2 for low, high in spans]
    grid = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1).reshape(-1, len(over))
    return grid, functools.reduce(np.outer, weights).ravel()

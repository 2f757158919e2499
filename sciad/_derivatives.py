"""Points with named coordinates, and derivatives of functions of them."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.experimental.jet import jet
from jaxtyping import Array, Float, Inexact, PRNGKeyArray, PyTree

from sciad._errors import InputError, choose, did_you_mean

Function: TypeAlias = Callable[["Point"], Any]
Method: TypeAlias = Literal["auto", "taylor", "forward"]


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


def derivatives(u: Function, name: str, order: int, *, method: Method | str = "auto") -> Function:
    r"""Return a function and its derivatives along one coordinate, :math:`u, \partial_x u, \dots, \partial_x^n u`.

    All of them come from one pass in Taylor mode, where nested forward mode takes 2ⁿ; they lie along a first axis.

    Parameters
    ----------
    u
        A function from a `Point` to an array of any shape.
    name
        The coordinate.
    order
        The highest order.
    method
        ``"taylor"``, by JAX's `jet`, which has no rule for loops, conditions, linear solves, and functions with rules
        of their own such as `jax.nn.softplus`; ``"forward"``, nested forward mode, which has; or ``"auto"``: the
        first where it can be done, else the second.

    Raises
    ------
    InputError
        If `u` is no function, the order is no positive whole number, a point has no such coordinate, or Taylor mode was
        asked for and cannot be had.

    Notes
    -----
    Source: A. Griewank and A. Walther, *Evaluating Derivatives* (2008), chapter 13.

    Examples
    --------
    >>> [round(float(value), 3) for value in derivatives(lambda p: p.x**3, "x", 3)(Point({"x": 2.0}))]
    [8.0, 12.0, 12.0, 6.0]
    """
    d(u)  # says what is no function
    choose("method", method, get_args(Method))
    if not isinstance(order, int) or isinstance(order, bool) or order < 1:
        msg = f"derivatives(u, {name!r}, {order!r}): expected an order of 1 or more, a whole number."
        raise InputError(msg)

    def of(p: Point) -> Array:
        return _series(lambda s: jnp.asarray(u(p.at(**{name: s}))), p[name], order, method)

    return of


def _series(g: Callable[[Array], Array], s: Array, order: int, method: str) -> Array:
    """Return the derivatives of a function of one number, from the value on, along a first axis."""
    if method != "forward":
        try:
            return _by_taylor(g, s, order)
        except (KeyError, NotImplementedError, TypeError, jax.errors.UnexpectedTracerError) as error:
            if method == "taylor":
                msg = f"Taylor mode has no rule for a part of this function ({str(error).splitlines()[0]}). Take "
                msg += 'method="forward", or write that part with elementary functions.'
                raise InputError(msg) from error
    found = [g]
    for _ in range(order):
        found.append(lambda s, g=found[-1]: jax.jvp(g, (s,), (jnp.ones_like(s),))[1])
    return jnp.stack([each(s) for each in found])


def _by_taylor(g: Callable[[Array], Array], s: Array, order: int) -> Array:
    along = [jnp.ones_like(s), *[jnp.zeros_like(s)] * (order - 1)]
    value, terms = jet(g, (s,), (along,))
    return jnp.stack([value, *(jnp.broadcast_to(jnp.asarray(t, value.dtype), value.shape) for t in terms)])


def estimated_laplacian(u: Function, *names: str, probes: int = 1) -> Function:
    r"""Return an unbiased estimate of the Laplacian from a few directions: for many coordinates.

    .. math:: \frac1m \sum_{j=1}^m v_j^\top H v_j, \quad v_j \in \{-1, 1\}^d \text{ at random}

    Each direction costs one pass in Taylor mode, whatever the number d of coordinates. The variance is
    :math:`\tfrac2m \sum_{i \ne j} H_{ij}^2`: nothing where the Hessian H is diagonal. Directions follow from the
    numbers of the point, so that the same point has the same estimate, and others have independent ones.

    Parameters
    ----------
    u
        A function from a `Point` to an array of any shape.
    names
        Coordinates.
    probes
        Number m of directions.

    Raises
    ------
    InputError
        If no coordinate is named, or `probes` is no positive whole number.

    Notes
    -----
    The square of a residual that holds an estimate is too large by the variance, on average: a fit by it is drawn
    towards functions of small mixed derivatives. More probes, or `laplacian`, tell by how much.

    Source: M. F. Hutchinson, *A stochastic estimator of the trace of the influence matrix*, Communications in
    Statistics 19 (1990); Z. Hu et al., *Hutchinson trace estimation for high-dimensional and high-order PINNs* (2024).

    Examples
    --------
    >>> round(float(estimated_laplacian(lambda p: p.x**2 - 3 * p.y**2, "x", "y")(Point({"x": 3.0, "y": 2.0}))), 3)
    -4.0
    """
    d(u)
    _named("estimated_laplacian", names)
    if not isinstance(probes, int) or isinstance(probes, bool) or probes < 1:
        msg = f"estimated_laplacian(probes={probes!r}): expected 1 or more, a whole number."
        raise InputError(msg)

    def of(p: Point) -> Array:
        at = jnp.stack([jnp.asarray(p[name], jnp.result_type(float)) for name in names])
        signs = jax.random.rademacher(_key_of(at), (probes, len(names)), at.dtype)

        def along(v: Array) -> Array:
            moved = lambda s: jnp.asarray(u(p.at(**dict(zip(names, at + s * v, strict=True)))))  # noqa: E731
            return _series(moved, jnp.zeros((), at.dtype), 2, "auto")[2]

        return jnp.mean(jnp.stack([along(v) for v in signs]), axis=0)

    return of


def _key_of(numbers: Array) -> PRNGKeyArray:
    """Return a key that is a function of numbers, and that no derivative goes through."""
    words = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(numbers), jnp.uint32).ravel()
    key = jax.random.key(0)
    return jax.lax.fori_loop(0, words.size, lambda i, key: jax.random.fold_in(key, words[i]), key)


def _named(what: str, names: tuple[str, ...]) -> None:
    if not names:
        msg = f"{what}(u) names no coordinate. Write {what}(u, 'x', 'y')."
        raise InputError(msg)


def _kind(value: Any) -> str:
    return "a number" if isinstance(value, int | float | jax.Array) else f"of type {type(value).__name__}"

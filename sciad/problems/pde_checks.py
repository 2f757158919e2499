"""What must be known of a problem before the first iteration."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciad._derivatives import Point
from sciad._errors import InputError, did_you_mean
from sciad._roles import unwrap
from sciad.models.domains import AbstractDomain
from sciad.problems.ansatz import known_part
from sciad.problems.conditions import AbstractCondition, Initial, Periodic, value_at
from sciad.problems.interface import Interface

if TYPE_CHECKING:
    from sciad.problems.pde import PDEProblem, PDEProgram

PROBES = 64  # points of a face at which conditions are compared
LINES, ALONG = 4, 200  # lines through the inputs' cube, and points on each, where a network's bends are looked for
BENT, STRAIGHT = 1e-6, 1e-13  # second differences, by the size of what the network says, that are a bend, and none
AGREE = 1e-6  # difference by the size of the values, up to which conditions agree


def check_conditions(domain: Any, conditions: Sequence[Any], fields: Sequence[str]) -> None:
    """Check types and names.

    Raises
    ------
    InputError
        If something is no domain or condition, or names no face or field, or a field is named twice.
    """
    if not isinstance(domain, AbstractDomain):
        msg = f"`domain` is a {type(domain).__name__}; expected a domain, such as sd.Box(x=(-1, 1), t=(0, 1))."
        raise InputError(msg)
    if not fields or len(set(fields)) < len(fields):
        msg = f"fields={tuple(fields)}: expected one name or more, each once."
        raise InputError(msg)
    for condition in conditions:
        if not isinstance(condition, AbstractCondition):
            msg = f"`conditions` holds a {type(condition).__name__}; expected conditions, such as sd.Dirichlet(0.0)."
            raise InputError(msg)
        condition.faces(domain)
        if condition.field not in (None, "*", *fields):
            msg = f"A condition is on the field {condition.field!r}. {did_you_mean(condition.field or '', fields)}"
            raise InputError(msg)
        if condition.field is None and len(fields) > 1 and not isinstance(condition, Periodic):
            msg = f"{type(condition).__name__} does not say on which of the fields {', '.join(fields)} it is: give "
            msg += "`field`."
            raise InputError(msg)
    _check_times(conditions)


def _check_times(conditions: Sequence[AbstractCondition]) -> None:
    """Refuse what takes all but t for space where time is not called t: interfaces, and the whole boundary."""
    times = [each.time for each in conditions if isinstance(each, Initial) and each.time != "t"]
    if times and any(isinstance(each, Interface) for each in conditions):
        msg = f"Initial(time={times[0]!r}), and an Interface, of which space is all but t. Call the time t."
        raise InputError(msg)
    whole = [type(each).__name__ for each in conditions if getattr(each, "on", ()) is None]
    if times and whole:
        msg = f"Initial(time={times[0]!r}), and a {whole[0]} condition on the whole boundary, which would include the "
        msg += f"faces of {times[0]}. Name the faces it is meant for in `on`, or call the time t."
        raise InputError(msg)


def check_carried(problem: "PDEProblem", values: Sequence[tuple[Any, ...]]) -> dict[str, float]:
    """Check that conditions carried by each ansatz agree where they meet, by `values`; return the size of each field.

    Raises
    ------
    InputError
        If they do not, or a prescribed value is not finite, or was asked to be carried and cannot.
    """
    scales = {}
    for field in problem.fields:
        sizes = _sizes(problem, field, values)
        if problem.observations is not None:
            column = problem.fields.index(field)
            seen = problem.observations.values[problem.observations.observed[:, column], column]
            sizes += [float(np.std(seen))] if seen.size else []
        scales[field] = max(sizes, default=0.0) or 1.0
        _check_agreement(problem, field, values, scales[field])
    for number, condition in enumerate(problem.conditions):
        exact = any(number in dict(problem.carried[field].conditions) for field in problem.fields)
        if condition.hard and not exact and not isinstance(condition, Periodic):
            msg = f"{type(condition).__name__}(hard=True) on {', '.join(condition.faces(problem.domain))}: the ansatz "
            msg += "cannot carry it there. Leave `hard` out: it is then met at points."
            raise InputError(msg)
    return scales


def _sizes(problem: "PDEProblem", field: str, values: Sequence[Any]) -> list[float]:
    found = []
    for number, condition in enumerate(problem.conditions):
        if condition.field not in (None, field) or isinstance(condition, Periodic):
            continue
        for face in condition.faces(problem.domain):
            points, _ = problem.domain.surface(face, PROBES, 0)
            size = jax.vmap(lambda x, v=values[number][0]: value_at(v, problem.point(x)))
            found.append(float(jnp.max(jnp.abs(_checked(size, points, condition, face)))))
    return found


def _checked(function: Any, points: np.ndarray, condition: Any, face: str) -> jax.Array:
    name = type(condition).__name__
    try:
        got = function(jnp.asarray(points))
    except (TypeError, AttributeError, IndexError) as error:
        msg = f"The value of {name} on {face} cannot be evaluated: {error}. Give a number or a function of a point, "
        msg += "such as lambda p: jnp.sin(p.x)."
        raise InputError(msg) from error
    if got.ndim > 1:
        msg = f"The value of {name} on {face} has shape {got.shape[1:]}; expected one number at each point."
        raise InputError(msg)
    if not np.all(np.isfinite(got)):
        worst = points[int(np.argmin(np.isfinite(got)))]
        msg = f"The value of {name} on {face} is not finite at {np.round(worst, 6).tolist()}."
        raise InputError(msg)
    return got


def _check_agreement(problem: "PDEProblem", field: str, values: Sequence[Any], scale: float) -> None:
    """Hold the ansatz against each condition that it is to carry: it can meet all only where they agree."""
    carried, domain = problem.carried[field], problem.domain
    known = known_part(domain, carried, problem.conditions, values)

    def part(p: Point) -> jax.Array:
        return jnp.zeros(()) if known is None else known(p)

    inside = domain.interior(PROBES, 0)
    finite = np.isfinite(np.asarray(jax.vmap(lambda x: part(problem.point(x)))(jnp.asarray(inside))))
    if not finite.all():
        where = np.round(inside[int(np.argmin(finite))], 6).tolist()
        msg = f"Values on the boundary, carried into the domain for {field}, are not finite at {where}. Give functions "
        msg += "that go on inside, or Dirichlet(..., hard=False), which is met at points of the boundary alone."
        raise InputError(msg)
    for number, faces in carried.conditions:
        condition = problem.conditions[number]
        for face in faces:
            points, normals = domain.surface(face, PROBES, 0)
            missed = jax.vmap(
                lambda x, n, c=condition, v=values[number]: jnp.stack(c.misses(part, v, problem.point(x), n))
            )(jnp.asarray(points), jnp.asarray(normals))
            _check_misses(np.max(np.abs(np.asarray(missed)), axis=1), points, (condition, face), domain, scale)
    for along in carried.periodic:
        points, _ = domain.surface(f"{along}_min", PROBES, 0)
        high = dict(zip(domain.coordinates, domain.bounds, strict=True))[along][1]
        jump = jax.vmap(
            lambda x, a=along, h=high: part(problem.point(x).at(**{a: jnp.asarray(h)})) - part(problem.point(x))
        )
        missed = np.abs(np.asarray(jump(jnp.asarray(points))))
        _check_misses(missed, points, (Periodic(along), f"{along}_min"), domain, scale)


def _check_misses(
    missed: np.ndarray, points: np.ndarray, what: tuple[Any, str], domain: AbstractDomain, scale: float
) -> None:
    if missed.max() <= AGREE * scale:
        return
    where = ", ".join(f"{n}={v:.3g}" for n, v in zip(domain.coordinates, points[missed.argmax()], strict=True))
    msg = f"Conditions disagree where they meet: {type(what[0]).__name__} on {what[1]} is missed by {missed.max():.3g} "
    msg += f"near {where}. Correct the values there, or give one of the conditions hard=False."
    raise InputError(msg)


def check_equation(problem: "PDEProblem", program: "PDEProgram") -> None:
    """Evaluate the equation at one point, and say what is wrong with what it returns.

    Raises
    ------
    InputError
        If it cannot be called, or returns what is no number.
    """
    plain = unwrap(program)
    if not callable(plain.equation):
        msg = f"The equation is a {type(plain.equation).__name__}; expected a function (u, p), or a module that is "
        msg += "called so, which returns what is to vanish at a point p."
        raise InputError(msg)
    point = problem.point(jnp.asarray(problem.domain.interior(1, 0)[0]))
    try:
        out = eqx.filter_eval_shape(lambda: plain.equation(problem.field(plain), point))
    except TypeError as error:
        msg = f"The equation cannot be evaluated: {error}. It is called as equation(u, p) with "
        several = ", ".join(f"u.{field}" for field in problem.fields)
        msg += f"functions of a point, {several}" if len(problem.fields) > 1 else "a function u of a point"
        msg += ": write u(p) for the value, sd.d(u, 'x')(p) for a derivative."
        raise InputError(msg) from error
    parts = list(out.values()) if isinstance(out, dict) else list(out) if isinstance(out, tuple | list) else [out]
    for part in parts:
        shape = getattr(part, "shape", () if isinstance(part, int | float) else None)
        if shape != ():
            got = f"an array of shape {shape}" if shape is not None else f"a {type(part).__name__}"
            msg = f"The equation returned {got} at one point; expected one number, or a tuple of numbers, one for each "
            msg += "equation of a system."
            raise InputError(msg)
    if not parts:
        msg = "The equation returned nothing. Return what is to vanish."
        raise InputError(msg)


def check_smooth(problem: "PDEProblem", program: "PDEProgram") -> None:
    """Refuse a network of straight pieces, whose second derivatives vanish wherever they are taken.

    Raises
    ------
    InputError
        If values along lines through the inputs' cube have next to no second differences but at a few places.
    """
    inputs = len(problem.direction_of_input)
    ends = np.random.default_rng(0).uniform(-1.0, 1.0, (2, LINES, 1, inputs))
    points = ends[0] + (ends[1] - ends[0]) * np.linspace(0.0, 1.0, ALONG)[:, None]
    said = np.asarray(eqx.filter_jit(lambda network: jax.vmap(jax.vmap(network))(jnp.asarray(points)))(
        unwrap(program).network
    ))  # fmt: skip
    bends = np.abs(np.diff(said, 2, axis=1))
    size = float(np.abs(said).max())
    if bends.max() > BENT * size and np.median(bends) < STRAIGHT * size:
        msg = "The network is made of straight pieces (ReLU?): its first derivatives jump, its second are zero wherever"
        msg += " they are taken, so that an equation cannot be met. Take a smooth activation, such as tanh."
        raise InputError(msg)


def checked_axes(names: tuple[str, ...], given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the axes of a grid, one for each coordinate.

    Raises
    ------
    InputError
        If a coordinate is missing or unknown, or no number and no one-dimensional array.
    """
    for name in given:
        if name not in names:
            msg = f"The field has no coordinate {name!r}. {did_you_mean(name, names)}"
            raise InputError(msg)
    missing = [name for name in names if name not in given]
    if missing:
        msg = f"The field needs {', '.join(missing)} too: give a number or a one-dimensional array for each coordinate."
        raise InputError(msg)
    axes = {name: np.atleast_1d(np.asarray(given[name], float)) for name in names}
    for name, axis in axes.items():
        if axis.ndim != 1 or not axis.size:
            msg = f"{name} has shape {axis.shape}; expected a number or a one-dimensional array."
            raise InputError(msg)
    return axes

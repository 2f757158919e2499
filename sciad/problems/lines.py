"""A partial differential equation on a grid in space, as ordinary differential equations in time."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from sciad._derivatives import Point
from sciad._errors import InputError, OptionError
from sciad._roles import fill, unwrap
from sciad._target import Target
from sciad._vector import vectorize
from sciad.models.domains import Box
from sciad.problems.conditions import Initial, Periodic, value_at
from sciad.problems.grids import ORDERS, Grid, chebyshev, fourier, interpolation
from sciad.problems.integral import Integral
from sciad.problems.interface import Interface
from sciad.problems.pde import Fields, PDEProblem, PDEProgram, stacked
from sciad.solvers.ode import ODE

FEWEST = 5  # nodes
DEFAULT = ODE(dfx.Kvaerno5(), rtol=1e-8, atol=1e-10, max_steps=20_000, sensitivity="forward")
LINEAR = 1e-8  # relative departure from a rate that the equation is linear in


class End(NamedTuple):
    """An end of the interval whose values follow from a condition, and are no states."""

    field: int
    node: int


class Local(eqx.Module):
    """A field about a node, as an equation sees it: the polynomial that has its derivatives there."""

    slopes: Float[Array, " orders"]  # the value first
    rate: Float[Array, ""]
    bend: Float[Array, ""]  # second derivative in time
    mixed: Float[Array, ""]
    about: tuple[Array, Array]
    names: tuple[str, str] = eqx.field(static=True)

    def __call__(self, p: Point) -> Array:
        """Return the value at a point."""
        dx, dt = p[self.names[0]] - self.about[0], p[self.names[1]] - self.about[1]
        value = jnp.zeros_like(dx)
        for order in range(ORDERS, 0, -1):
            value = (value + self.slopes[order]) * dx / order
        return self.slopes[0] + value + dt * (self.rate + self.bend * dt / 2 + self.mixed * dx)


class MethodOfLines:
    r"""A `PDEProblem` in one dimension and time, on a grid in space: the classical way to solve it.

    .. math:: F(u, u_t, u_x, u_{xx}, \dots) = 0 \;\to\; \dot U = G(t, U), \quad U_i(t) = u(x_i, t)

    Derivatives in space are spectral: by Chebyshev's points, or Fourier's where the coordinate is periodic; the rate is
    what makes the equation, which is linear in it, vanish at each node; values at an end follow from its condition.
    `sciad.fit` and `sciad.sample` take it in the place of the problem itself, and unknown numbers then have a
    likelihood without a network: where initial and boundary values are known, an estimate by a network must be held
    against it.

    Parameters
    ----------
    problem
        On a `Box` of time and one other coordinate, with `Initial` values of every field.
    points
        Nodes. Once a smooth field is resolved, the error falls exponentially with their number; compare two grids.
    solver
        `sciad.ODE`: default Kvaerno's fifth-order method for stiff equations, to a relative tolerance of 1e-8, with
        forward sensitivities.

    Raises
    ------
    InputError
        If the problem is of another kind; each message says of which.

    Examples
    --------
    >>> import sciad as sd
    >>> jax.config.update("jax_enable_x64", True)
    >>> start = sd.Initial(lambda p: jnp.sin(jnp.pi * p.x))
    >>> rod = sd.PDEProblem(sd.Box(x=(0, 1), t=(0, 1)), conditions=[start, sd.Dirichlet(0.0)])
    >>> heat = lambda u, p: sd.d(u, "t")(p) - sd.d(u, "x", "x")(p)
    >>> cooled = MethodOfLines(rod, points=16).solve(heat, x=[0.5], t=[0.1])
    >>> bool(abs(cooled["u"][0, 0] - np.exp(-0.1 * np.pi**2)) < 1e-6)
    True
    """

    def __init__(self, problem: PDEProblem, *, points: int = 96, solver: ODE | None = None) -> None:
        if points < FEWEST:
            msg = f"MethodOfLines(points={points}): expected at least {FEWEST}."
            raise OptionError(msg)
        self.problem = problem
        self.along, self.time = _coordinates(problem)
        self.solver = DEFAULT if solver is None else solver
        spans = dict(zip(problem.domain.coordinates, problem.domain.bounds, strict=True))
        periodic = any(isinstance(each, Periodic) for each in problem.conditions)
        self.grid: Grid = (fourier if periodic else chebyshev)(*spans[self.along], points)
        self.begins = spans[self.time][0]
        self._initial = [_initial_of(problem, field) for field in problem.fields]
        rates = {len(problem.conditions[number].values()) for number in self._initial}
        if len(rates) > 1:
            msg = "Some fields have initial rates and some have not: MethodOfLines takes one order in time for all."
            raise InputError(msg)
        self.second_order = rates == {2}
        self._held = [] if periodic else _held(problem, self.along)
        self._ends = [end for _, end in self._held]
        free = np.ones((len(problem.fields), len(self.grid.nodes)), bool)
        for end in self._ends:
            free[end] = False
        self._free = free

    # --- the program ---

    def complete(self, program: PyTree) -> PDEProgram:
        """Return the whole program, without a network: the equation, the prescribed values and the noise."""
        if not isinstance(program, PDEProgram):
            values = tuple(condition.values() for condition in self.problem.conditions)
            program = PDEProgram(program, None, values, self.problem.noise)
        program = fill(PDEProgram(program.equation, None, program.values, program.noise))
        self._check(unwrap(program))
        return program

    def label(self, path: str) -> str:
        """Name a leaf of a complete program for people."""
        return path.removeprefix("equation.")

    def target(self, program: PyTree) -> Target:
        """Return the posterior density over the unconstrained inner parameters."""
        vectorized = vectorize(self.complete(program))
        jax.eval_shape(vectorized.log_prior, vectorized.vector)  # says which leaf lacks a prior, before any work

        def log_density(v: Array) -> Array:
            plain = unwrap(vectorized.program(v))
            mean, ok = self.predict(plain)
            said = self.problem.log_likelihood(plain, mean)
            return vectorized.log_prior(v) + jnp.where(ok & jnp.isfinite(said), said, -jnp.inf)

        return Target(
            log_density=log_density,
            draw_prior=vectorized.draw,
            values=lambda v: {self.label(path): value for path, value in vectorized.values(v).items()},
            start=vectorized.vector,
            names=tuple(self.label(name) for name in vectorized.names),
            in_step=False,
        )

    # --- solving ---

    def solve(self, program: PyTree, **coordinates: ArrayLike | Sequence[float]) -> xr.Dataset:
        """Return the fields on the grid of these coordinates, by their names; default: the nodes, and 101 times.

        Raises
        ------
        InputError
            If a coordinate is not of the problem, or outside the domain; if the equation cannot be solved.
        """
        asked = {name: np.unique(np.atleast_1d(np.asarray(v, float))) for name, v in coordinates.items()}
        spans = dict(zip(self.problem.domain.coordinates, self.problem.domain.bounds, strict=True))
        for name, values in asked.items():
            if name not in spans:
                msg = f"solve({name}=...): the problem has the coordinates {', '.join(spans)}."
                raise InputError(msg)
            if values.min() < spans[name][0] or values.max() > spans[name][1]:
                msg = f"solve({name}=...): expected numbers in {spans[name][0]:g} .. {spans[name][1]:g}."
                raise InputError(msg)
        at = asked.get(self.along, self.grid.nodes)
        times = asked.get(self.time, np.linspace(*spans[self.time], 101))
        plain = unwrap(self.complete(program))
        solved = eqx.filter_jit(lambda plain: self.states(plain, times))
        found, ok = solved(plain)
        if not bool(ok):
            msg = "The equation could not be solved on the grid: it blows up, or needs more steps (solver=sd.ODE(...))."
            raise InputError(msg)
        values = np.einsum("mn,tfn->ftm", interpolation(self.grid, at), np.asarray(found))
        names = (self.time, self.along)
        fields = {field: (names, values[i]) for i, field in enumerate(self.problem.fields)}
        return xr.Dataset(fields, coords={self.time: times, self.along: at})

    def predict(self, plain: PDEProgram) -> tuple[Float[Array, "n fields"], Bool[Array, ""]]:
        """Return the fields at the observed points, ones where the solve fails, and whether it succeeds.

        Raises
        ------
        InputError
            If there are no observations.
        """
        seen = self.problem.observations
        if seen is None:
            msg = "There are no observations: give `data` to the PDEProblem, or call `solve` for the field alone."
            raise InputError(msg)
        columns = [self.problem.domain.coordinates.index(name) for name in (self.along, self.time)]
        at, when = seen.points[:, columns].T
        times, place = np.unique(when, return_inverse=True)
        found, ok = self.states(plain, times)
        mean = jnp.einsum("kn,kfn->kf", jnp.asarray(interpolation(self.grid, at)), found[place])
        return jnp.where(ok, mean, 1.0), ok

    def states(
        self, plain: PDEProgram, times: Float[np.ndarray, " t"]
    ) -> tuple[Float[Array, "t fields n"], Bool[Array, ""]]:
        """Return the fields at the nodes, ends included, of a program without roles; and whether the solve succeeds."""
        solution = self.solver(
            lambda t, y, plain: self._slopes(plain, t, y),
            self._start(plain),
            args=plain,
            ts=times,
            t0=self.begins,
            t1=max(times[-1], np.nextafter(self.begins, np.inf)),
            throw=False,
        )
        ys = jnp.where(solution.ok, solution.ys, 0.0)
        ends = jax.vmap(lambda t, y: self._whole(plain, t, y)[0])(jnp.asarray(times), ys)
        return ends, solution.ok

    def _start(self, plain: PDEProgram) -> Float[Array, " states"]:
        found = []
        for part in range(2 if self.second_order else 1):
            of_fields = []
            for number in self._initial:
                value = plain.values[number][part]
                of_fields.append(jax.vmap(lambda x, v=value: value_at(v, self._point(x, self.begins)))(self._nodes))
            found.append(jnp.stack(of_fields)[self._free])
        return jnp.concatenate(found)

    @property
    def _nodes(self) -> Float[Array, " n"]:
        return jnp.asarray(self.grid.nodes)

    def _point(self, x: Any, t: Any) -> Point:
        return Point({self.along: jnp.asarray(x), self.time: jnp.asarray(t, jnp.result_type(float))})

    def _whole(self, plain: PDEProgram, t: Any, y: Array) -> tuple[Float[Array, "fields n"], Float[Array, "fields n"]]:
        """Return fields and, for equations of second order, rates at all nodes; ends by their conditions."""
        size = int(self._free.sum())
        at = jnp.zeros(self._free.shape, y.dtype)
        values = at.at[self._free].set(y[:size])
        rates = at.at[self._free].set(y[size:]) if self.second_order else at
        if not self._ends:
            return values, rates
        which = tuple(np.array(self._ends).T)
        nothing = jnp.zeros(len(self._ends), y.dtype)

        def missed(ends: Array) -> Array:
            return self._missed(plain, t, values.at[which].set(ends))

        by_ends = jax.jacfwd(missed)(nothing)
        return values.at[which].set(jnp.linalg.solve(by_ends, -missed(nothing))), rates

    def _missed(self, plain: PDEProgram, t: Any, values: Array) -> Array:
        found = []
        for number, (_, node) in self._held:
            normal = np.zeros(2)
            normal[self.problem.domain.coordinates.index(self.along)] = -1.0 if node == 0 else 1.0
            slopes = jnp.concatenate([values[:, node][None], self.grid.derivatives[:, node] @ values.T])
            u = self._fields(slopes.T, jnp.zeros(len(values)), jnp.zeros(len(values)), (self._nodes[node], t))
            condition = self.problem.conditions[number]
            if len(self.problem.fields) > 1 and condition.field != "*":
                u = u[condition.field or self.problem.fields[0]]
            found += condition.misses(u, plain.values[number], self._point(self._nodes[node], t), jnp.asarray(normal))
        return jnp.stack(found)

    def _fields(
        self,
        slopes: Float[Array, "fields orders"],
        rates: Float[Array, " fields"],
        bends: Float[Array, " fields"],
        about: tuple[Any, Any],
        mixed: float = 0.0,
    ) -> Any:
        where = jnp.asarray(about[0]), jnp.asarray(about[1], slopes.dtype)
        names, extra = (self.along, self.time), jnp.asarray(mixed, slopes.dtype)
        each = {
            field: Local(slopes[i], rates[i], bends[i], extra, where, names)
            for i, field in enumerate(self.problem.fields)
        }
        return each[self.problem.fields[0]] if len(each) == 1 else Fields(each)

    def _slopes(self, plain: PDEProgram, t: Any, y: Array) -> Array:
        values, rates = self._whole(plain, t, y)
        orders = jnp.concatenate([values[None], jnp.einsum("knm,fm->kfn", jnp.asarray(self.grid.derivatives), values)])
        found = jax.vmap(lambda x, slopes, rate: self._rate(plain, (x, t), slopes, rate), (0, 2, 1), 1)(
            self._nodes, orders, rates
        )
        own = found[self._free]
        return jnp.concatenate([rates[self._free], own]) if self.second_order else own

    def _rate(self, plain: PDEProgram, about: tuple[Any, Any], orders: Array, rates: Array) -> Float[Array, " fields"]:
        """Return the highest derivative in time at a node, with which the equation vanishes."""
        residual = self._residual(plain, about, orders, rates)
        nothing = jnp.zeros(len(self.problem.fields), orders.dtype)
        by_rate = jax.jacfwd(residual)(nothing)
        return jnp.linalg.solve(by_rate, -residual(nothing))

    def _residual(
        self, plain: PDEProgram, about: tuple[Any, Any], orders: Array, rates: Array, mixed: float = 0.0
    ) -> Callable[[Array], Array]:
        def at(highest: Array) -> Array:
            first, second = (rates, highest) if self.second_order else (highest, jnp.zeros_like(highest))
            u = self._fields(orders.T, first, second, about, mixed)
            return stacked(plain.equation(u, self._point(*about)))

        return at

    # --- checks ---

    def _check(self, plain: PDEProgram) -> None:
        """Check that the equation gives a rate of each field, is linear in it, and has no other derivative in time."""
        fields, rng = len(self.problem.fields), np.random.default_rng(0)
        sizes = ((ORDERS + 1, fields), fields, fields)
        orders, rates, trial = (jnp.asarray(rng.uniform(0.5, 1.5, size)) for size in sizes)  # roots and logarithms too
        about = jnp.asarray(np.mean(self.grid.nodes)), jnp.asarray(self.begins)
        residual = self._residual(plain, about, orders, rates)
        nothing = np.asarray(residual(jnp.zeros(fields)))
        if nothing.shape != (fields,):
            msg = f"The equation returns {nothing.size} numbers for {fields} fields: MethodOfLines needs as many."
            raise InputError(msg)
        by_rate = np.asarray(jax.jacfwd(residual)(jnp.zeros(fields)))
        order = "second" if self.second_order else "first"
        size = np.abs(nothing).max() + np.abs(by_rate).max()
        if not np.isfinite(size) or np.linalg.matrix_rank(by_rate) < fields:
            msg = f"The equation does not give a rate of each field, a derivative of {order} order in time: "
            msg += "MethodOfLines solves what evolves. Give rates to sd.Initial if it is of second order, or take "
            msg += "sd.Collocation."
            raise InputError(msg)
        if np.abs(np.asarray(residual(trial)) - nothing - by_rate @ np.asarray(trial)).max() > LINEAR * size:
            msg = f"The equation is not linear in its derivative of {order} order in time. Take sd.Collocation."
            raise InputError(msg)
        with_mixed = np.asarray(self._residual(plain, about, orders, rates, mixed=1.0)(jnp.zeros(fields)))
        if np.abs(with_mixed - nothing).max() > LINEAR * size:
            msg = "The equation has derivatives in space and time at once, which MethodOfLines cannot solve for. Take "
            msg += "sd.Collocation."
            raise InputError(msg)


def _coordinates(problem: Any) -> tuple[str, str]:
    if not isinstance(problem, PDEProblem):
        msg = f"MethodOfLines({type(problem).__name__}): expected an sd.PDEProblem."
        raise InputError(msg)
    names = problem.domain.coordinates
    if problem.time is None or not isinstance(problem.domain, Box) or len(names) != 2:
        msg = (
            "MethodOfLines solves problems on an sd.Box of time and one other coordinate, with sd.Initial values; this "
        )
        msg += f"one is on {problem.domain.limits}{'' if problem.time else ', without initial values'}."
        raise InputError(msg)
    inner = next((each for each in problem.conditions if isinstance(each, Integral | Interface)), None)
    if inner is not None:
        msg = f"MethodOfLines does not take sd.{type(inner).__name__}: it solves what evolves from "
        msg += "initial and boundary values."
        raise InputError(msg)
    along = next(name for name in names if name != problem.time)
    return along, problem.time


def _initial_of(problem: PDEProblem, field: str) -> int:
    first = problem.fields[0]
    of_field = (
        i for i, each in enumerate(problem.conditions) if isinstance(each, Initial) and (each.field or first) == field
    )
    number = next(of_field, None)
    if number is None:
        msg = f"{field} has no initial value, from which MethodOfLines could begin: give "
        msg += f"sd.Initial(..., field={field!r})."
        raise InputError(msg)
    return number


def _held(problem: PDEProblem, along: str) -> list[tuple[int, End]]:
    """Return for each condition on an end its number, and the value that follows from it."""
    found, taken = [], set()
    for number, condition in enumerate(problem.conditions):
        if isinstance(condition, Initial):
            continue
        for face in condition.faces(problem.domain):
            if not face.startswith(f"{along}_"):
                msg = f"A condition holds on {face}: MethodOfLines takes conditions at the ends of {along} alone."
                raise InputError(msg)
            node = 0 if face.endswith("_min") else -1
            whole = condition.field == "*"
            open_ = [i for i in range(len(problem.fields)) if End(i, node) not in taken]
            field = open_[0] if whole and open_ else problem.fields.index(condition.field or problem.fields[0])
            end = End(field, node)
            if end in taken or (whole and not open_):
                msg = f"There are more conditions on {face} than fields: MethodOfLines takes one for each."
                raise InputError(msg)
            taken.add(end)
            found.append((number, end))
    return found

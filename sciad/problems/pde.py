"""Partial differential equations joined to conditions and observations."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, PyTree

from sciad._derivatives import Point
from sciad._errors import InputError, did_you_mean
from sciad._key import as_key
from sciad._roles import fill, unwrap
from sciad.models.domains import AbstractDomain
from sciad.models.networks import MLP
from sciad.models.probability import AbstractNoise, Normal
from sciad.problems.ansatz import Carried, carried_by, distance, known_part, network_inputs
from sciad.problems.conditions import AbstractCondition, Initial
from sciad.problems.interface import Interface
from sciad.problems.pde_checks import check_carried, check_conditions, check_equation, checked_axes
from sciad.problems.scattered import Scattered, scattered
from sciad.problems.seams import Seam, layer, layered, seams_of

Network = Callable[..., Any]  # (inputs, outputs, *, key) -> module from a vector to a vector


class PDEProgram(eqx.Module):
    """A whole study of a field: its equation, its network, prescribed values and noise; the leaves carry the roles."""

    equation: PyTree
    network: PyTree
    values: tuple[tuple[Any, ...], ...]
    noise: dict[str, AbstractNoise]


class Rows(NamedTuple):
    """What the residuals of one group need: points, and beside each what belongs to it (a normal, observed values)."""

    points: Float[np.ndarray | Array, "n d"]
    beside: PyTree


class Fields:
    """The fields of an equation, each a function of a point, by name."""

    def __init__(self, functions: Mapping[str, Callable[[Point], Array]]) -> None:
        self._functions = dict(functions)

    def __getattr__(self, name: str) -> Callable[[Point], Array]:
        if name.startswith("__") or name == "_functions":
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Callable[[Point], Array]:
        if name not in self._functions:
            msg = f"There is no field {name!r}. {did_you_mean(name, self._functions)} Declare it in `fields`."
            raise InputError(msg)
        return self._functions[name]


class PDEProblem:
    r"""A partial differential equation on a domain, joined to conditions and observations.

    .. math:: F(u, p) = 0 \text{ inside}, \quad B(u, p) = 0 \text{ on faces}, \quad y_k \sim \text{noise}(u(p_k))

    Parameters
    ----------
    domain
        Where the equation holds: `sciad.Box(x=(-1, 1), t=(0, 1))`, for instance.
    conditions
        Initial, boundary and periodic conditions: `sciad.Initial`, `Dirichlet`, `Neumann`, `Robin`, `Periodic`,
        `Operator`, `Integral`, `Interface`.
    fields
        Names of the unknown functions. The equation is called as ``equation(u, p)``, with one function `u` of a
        `sciad.Point` where there is one field, else with all by name, ``u.pressure(p)``; it returns one number, or
        several in a tuple, that are to vanish.
    network
        A network builder ``(inputs, outputs, *, key) -> module``; default: `sciad.models.networks.MLP`, three hidden
        layers of twenty tanh units.
    data
        Observed fields: variables of a dataset that has every coordinate of the domain, on a grid or in rows. Fields
        and values that are missing are not observed.
    noise
        How observations scatter: a noise model for all fields, or one for each. Default: normal, of unknown scale.

    Raises
    ------
    InputError
        Data, names or conditions that do not fit together; each message names the remedy.

    Examples
    --------
    >>> import sciad as sd
    >>> problem = PDEProblem(sd.Box(x=(0, 1)), conditions=[sd.Dirichlet(0.0)])
    >>> print(problem)
    u on x in 0 .. 1: dirichlet on x_min, x_max (exact)
    """

    def __init__(
        self,
        domain: AbstractDomain,
        *,
        conditions: AbstractCondition | Sequence[AbstractCondition] = (),
        fields: Sequence[str] = ("u",),
        network: Network | None = None,
        data: xr.Dataset | None = None,
        noise: AbstractNoise | Mapping[str, AbstractNoise] | None = None,
    ) -> None:
        self.domain = domain
        self.conditions = (conditions,) if isinstance(conditions, AbstractCondition) else tuple(conditions)
        self.fields = (fields,) if isinstance(fields, str) else tuple(fields)
        self.network = MLP if network is None else network
        check_conditions(domain, self.conditions, self.fields)
        self.data = data
        self.observations: Scattered | None = None if data is None else scattered(data, domain, self.fields)
        self.noise = self._noises(noise)
        self.carried: dict[str, Carried] = {f: carried_by(domain, self.conditions, f) for f in self.fields}
        values = unwrap(fill(tuple(condition.values() for condition in self.conditions)))
        self.scales = check_carried(self, values)
        self.seams: tuple[Seam, ...] = seams_of(self, values, self.scales)

    def _noises(self, noise: AbstractNoise | Mapping[str, AbstractNoise] | None) -> dict[str, AbstractNoise]:
        if self.observations is None:
            return {}
        there = np.asarray(self.observations.observed.any(axis=0))
        seen = [field for field, any_ in zip(self.fields, there.tolist(), strict=True) if any_]
        given = noise if isinstance(noise, Mapping) else {field: Normal() if noise is None else noise for field in seen}
        missing = [field for field in seen if field not in given]
        if missing:
            msg = f"`noise` says nothing of {', '.join(missing)}, which is observed. Give each field a noise model."
            raise InputError(msg)
        for field in seen:
            column = self.fields.index(field)
            given[field].check(field, self.observations.values[self.observations.observed[:, column], column])
        return {field: given[field] for field in seen}

    # --- the program ---

    def complete(self, program: PyTree, key: PRNGKeyArray | int = 0, *, network: Network | None = None) -> PDEProgram:
        """Return the whole program: an equation gets a network, the prescribed values and the noise.

        A whole program stays as it is, unless another `network` is to be built in.

        Raises
        ------
        InputError
            If the equation cannot be evaluated, or does not return numbers.
        """
        if not isinstance(program, PDEProgram):
            values = tuple(condition.values() for condition in self.conditions)
            program = PDEProgram(program, None, values, self.noise)
        if program.network is None or network is not None:
            inputs, outputs = len(self.direction_of_input), len(self.fields) + len(self.seams)
            built = (network or self.network)(inputs, outputs, key=as_key(key))
            program = PDEProgram(program.equation, layered(built, self.seams), program.values, program.noise)
        program = fill(program)
        check_equation(self, program)
        return program

    @property
    def _periodic(self) -> tuple[str, ...]:
        found = {self.carried[field].periodic for field in self.fields}
        return max(found, key=len, default=())

    @property
    def _interfaces(self) -> dict[int, Interface]:
        return {i: each for i, each in enumerate(self.conditions) if isinstance(each, Interface)}

    @property
    def directions(self) -> int:
        """How many coordinates there are, and sides of interfaces."""
        return len(self.domain.coordinates) + len(self._interfaces)

    @property
    def direction_of_input(self) -> Int[np.ndarray, " inputs"]:
        """The number of the coordinate, or after these of the interface, behind each number that a network sees."""
        counts = [2 if name in self._periodic else 1 for name in self.domain.coordinates] + [1] * len(self._interfaces)
        return np.repeat(np.arange(len(counts)), counts)

    def field(self, plain: PDEProgram, sides: Mapping[int, float] = MappingProxyType({})) -> Any:
        """Return the fields of a program without roles, as an equation sees them.

        Of interfaces, given by the number of the condition, they may be taken as they are on one of the two `sides`.
        """
        of_place = network_inputs(self.domain, self._periodic)

        def inputs(p: Point) -> Array:
            there = [sides[i] if i in sides else each.side(p) for i, each in self._interfaces.items()]
            return jnp.concatenate([of_place(p), jnp.array(there)]) if there else of_place(p)

        functions = {}
        for number, field in enumerate(self.fields):
            carried = self.carried[field]
            known = known_part(self.domain, carried, self.conditions, plain.values)
            layers = [layer(self, i, plain.values, plain.network) for i, s in enumerate(self.seams) if s.field == field]
            functions[field] = self._function(plain.network, inputs, number, known, layers)
        return functions[self.fields[0]] if len(self.fields) == 1 else Fields(functions)

    def _function(
        self, network: Any, inputs: Callable[[Point], Array], number: int, known: Any, layers: Sequence[Any]
    ) -> Callable[[Point], Array]:
        field = self.fields[number]
        scale, carried = self.scales[field], self.carried[field]

        def u(p: Point) -> Array:
            said = network(inputs(p))
            learnt = scale * distance(self.domain, carried, p) * said[number]
            return sum(
                (added(p, said) for added in layers), start=jnp.asarray(learnt if known is None else known(p) + learnt)
            )

        return u

    # --- residuals ---

    @property
    def soft(self) -> dict[str, tuple[int, str]]:
        """Conditions that are not carried by the ansatz, one for each place: number of the condition, and place."""
        found = {}
        for number, condition in enumerate(self.conditions):
            exact = {i for field in self.fields for i, _ in self.carried[field].conditions}
            if number in exact or condition.hard:
                continue
            for place in condition.places(self.domain):
                found[f"{type(condition).__name__.lower()} {number} on {place}"] = (number, place)
        return found

    def design(self, number: int, seed: int) -> dict[str, Rows]:
        """Return so many quasi-random points inside, a tenth of it on each face with a soft condition, and the data."""
        inside = self.domain.interior(number, seed)
        rows = {"equation": Rows(inside, None)}
        for i, (name, (which, place)) in enumerate(self.soft.items()):
            rows[name] = Rows(*self.conditions[which].rows(self.domain, place, number, seed + i + 1))
        return rows | self.observed

    @property
    def observed(self) -> dict[str, Rows]:
        """The observed points, with values and whether each is there, under ``data``; nothing without observations."""
        seen = self.observations
        return {} if seen is None else {"data": Rows(seen.points, (seen.values, seen.observed))}

    @property
    def time(self) -> str | None:
        """The coordinate of time, where there are initial values."""
        return next((each.time for each in self.conditions if isinstance(each, Initial)), None)

    def until(self, share: float, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Return points moved into the first part of the time, where there are initial values and so a first time.

        Those on the face of the last time stay there.
        """
        if self.time is None or share == 1.0:
            return points
        column = self.domain.coordinates.index(self.time)
        first, last = self.domain.bounds[column]
        moved = points.copy()
        moved[:, column] = np.where(
            points[:, column] < last, first + share * (points[:, column] - first), points[:, column]
        )
        return moved

    def residual(self, group: str) -> Callable[[PDEProgram, Array, PyTree], Array]:
        """Return ``(plain program, point, what is beside it) -> residuals`` of a group, as a vector."""
        if group == "equation":
            return self._of_equation
        if group == "data":
            return self._of_data
        number, _ = self.soft[group]
        return lambda plain, point, normal: self._of_condition(plain, point, normal, number)

    def point(self, numbers: Float[Array, " d"]) -> Point:
        """Return a point from its coordinates, in the order of the domain."""
        return Point(dict(zip(self.domain.coordinates, numbers, strict=True)))

    def _of_equation(self, plain: PDEProgram, point: Array, beside: None) -> Array:
        del beside
        return stacked(plain.equation(self.field(plain), self.point(point)))

    def missed(self, plain: PDEProgram, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        """Return the size of the equation's residual at points; of several, the root of their squares' sum."""
        found = jax.vmap(self._of_equation, (None, 0, None))(plain, points, None)
        return jnp.sqrt(jnp.sum(found**2, axis=1))

    def _of_condition(self, plain: PDEProgram, point: Array, normal: Any, number: int) -> Array:
        condition = self.conditions[number]

        def seen(sides: Mapping[int, float]) -> Any:
            u = self.field(plain, sides)
            return u[condition.field or self.fields[0]] if len(self.fields) > 1 and condition.field != "*" else u

        u = (seen({number: 1.0}), seen({number: -1.0})) if isinstance(condition, Interface) else seen({})
        return jnp.stack(condition.misses(u, plain.values[number], self.point(point), normal))

    def _of_data(self, plain: PDEProgram, point: Array, beside: tuple[Array, Array]) -> Array:
        u, p = self.field(plain), self.point(point)
        return self._by_noise(
            plain, jnp.stack([(u if len(self.fields) == 1 else u[f])(p) for f in self.fields]), *beside
        )

    def _by_noise(self, plain: PDEProgram, mean: Array, values: Array, observed: Array) -> Array:
        """Return the residuals of one point's fields, of those that have noise; zero where not observed."""
        found = []
        for number, field in enumerate(self.fields):
            if field in plain.noise:
                y = jnp.where(observed[number], values[number], mean[number])
                found.append(jnp.where(observed[number], plain.noise[field].residual(mean[number], y), 0.0))
        return jnp.stack(found)

    def standardised(self, plain: PDEProgram, mean: Float[Array, "n fields"]) -> Float[Array, " m"]:
        """Return the residuals of all observations, given the fields at their points; zero where not observed."""
        seen = self.observations
        if seen is None:
            return jnp.zeros(0)
        beside = jnp.asarray(seen.values), jnp.asarray(seen.observed)
        return jnp.ravel(jax.vmap(lambda m, *b: self._by_noise(plain, m, *b))(mean, *beside))

    def log_likelihood(self, plain: PDEProgram, mean: Float[Array, "n fields"]) -> Float[Array, ""]:
        """Return the log-likelihood of the observations, given the fields at their points; no derivative by these."""
        seen, total = self.observations, jnp.zeros(())
        for number, field in enumerate(self.fields):
            if seen is not None and field in plain.noise:
                there = np.flatnonzero(seen.observed[:, number])
                noise = plain.noise[field].distribution(mean[there, number])
                total = total + jnp.sum(noise.log_prob(jnp.asarray(seen.values[there, number])))
        return total

    def precision(self, plain: PDEProgram, mean: Float[Array, "n fields"]) -> Float[Array, ""]:
        r"""Return how finely the data are known: the root mean square of :math:`s\sqrt{I}`, one by the relative noise.

        With s the size of the field, and I the expected information of an observation about its prediction.
        """
        seen, parts = self.observations, []
        for number, field in enumerate(self.fields):
            if seen is not None and field in plain.noise:
                there = np.flatnonzero(seen.observed[:, number])
                parts.append(self.scales[field] ** 2 * plain.noise[field].information(mean[there, number]))
        return jnp.sqrt(jnp.mean(jnp.concatenate(parts)))

    def evaluate(self, program: PDEProgram, points: Float[np.ndarray | Array, "n d"]) -> Float[Array, "n fields"]:
        """Return the fields at points, which have a column for each coordinate of the domain."""
        u, names = self.field(unwrap(program)), self.fields

        def one(point: Array) -> Array:
            p = self.point(point)
            return jnp.stack([(u if len(names) == 1 else u[name])(p) for name in names])

        return jax.vmap(one)(jnp.asarray(points))

    def on_grid(self, program: PDEProgram, **coordinates: ArrayLike | Sequence[float]) -> xr.Dataset:
        """Return the fields on the grid of these coordinates, a number or a one-dimensional array each.

        Raises
        ------
        InputError
            If a coordinate is missing, unknown, or no point lies in the domain; others outside are NaN.
        """
        return self.over_grid(lambda points: np.asarray(self.evaluate(program, points)), self.fields, coordinates)

    def over_grid(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        columns: Sequence[str],
        coordinates: Mapping[str, ArrayLike | Sequence[float]],
    ) -> xr.Dataset:
        """Return what a function of points, (n, d), gives, (n, columns), on the grid of these coordinates.

        Raises
        ------
        InputError
            As `on_grid` does.
        """
        names = self.domain.coordinates
        axes = checked_axes(names, coordinates)
        grid = np.stack(np.meshgrid(*axes.values(), indexing="ij"), axis=-1)
        points = grid.reshape(-1, len(names))
        inside = self.domain.contains(points)
        if not inside.any():
            msg = "None of the points lies in the domain, and beyond it a fitted field means nothing."
            raise InputError(msg)
        found = np.where(inside[:, None], function(points), np.nan)
        shaped = found.reshape(*grid.shape[:-1], -1)
        return xr.Dataset({column: (names, shaped[..., i]) for i, column in enumerate(columns)}, coords=axes)

    def __str__(self) -> str:
        lines = [f"{', '.join(self.fields)} on {self.domain.limits}"]
        soft = {number for number, _ in self.soft.values()}
        told = []
        bent = {seam.condition: seam.along for seam in self.seams}
        for number, condition in enumerate(self.conditions):
            how = "by points" if number in soft else "exact"
            how += f", bent where {bent[number]} closes" if number in bent else ""
            told.append(f"{type(condition).__name__.lower()} {condition.place(self.domain)} ({how})")
        seen = [] if self.observations is None else [f"{int(self.observations.observed.sum())} observations"]
        return ": ".join([*lines, "; ".join([*told, *seen])] if told or seen else lines)


def stacked(out: Any) -> Array:
    """Return what an equation returned as a vector."""
    parts = out.values() if isinstance(out, Mapping) else out if isinstance(out, tuple | list) else (out,)
    return jnp.stack([jnp.asarray(part) for part in parts])

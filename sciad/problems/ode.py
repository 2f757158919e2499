"""Ordinary differential equations joined to observations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from sciad._errors import InputError, OptionError, check_names
from sciad._roles import Param, fill, param, unwrap
from sciad._target import Target
from sciad._vector import vectorize
from sciad.models.probability import AbstractNoise, LogNormal
from sciad.problems.observations import observations
from sciad.solvers.ode import ODE

Observe = Callable[[Any, Array, Array], Mapping[str, Array]]


class ODEProgram(eqx.Module):
    """A whole study of an equation: its right-hand side, initial state and noise; the leaves carry the roles."""

    model: PyTree
    initial: dict[str, PyTree]
    noise: dict[str, AbstractNoise]


class Prediction(NamedTuple):
    """Predicted fields, ones where the solve failed; `ok` per experiment."""

    mean: Float[Array, "experiments times fields"]
    ok: Bool[Array, " experiments"]


class ODEProblem:
    r"""Observations :math:`y_{ek}` of experiment :math:`e` at time :math:`t_k` of a system of ordinary differential equations.

    .. math:: \dot x = f_\theta(t, x), \quad x(t_0) = x_0, \qquad y_{ek} \sim \text{noise}(h(x(t_k)))

    Parameters
    ----------
    data
        Observed fields as variables over time, or over experiment and time. NaN means not observed.
    fields
        Observed variables; default: all.
    states
        Names of the state's entries, in the order of the right-hand side; default: `fields`.
    noise
        A noise model for all fields, each with its own parameters, or a mapping from field to noise model.
    initial
        Initial value of each state: a number (known), a `param` (unknown), or an array with one value an experiment.
        Default for an observed state: unknown, guessed at its first observation, without prior.
    observe
        How fields follow from states: a mapping from field to state, or a function ``(model, t, y) -> {field: value}``.
        Default: fields are the states of the same name.
    inputs
        Variables of the data that enter the equation, called as ``model(t, y, inputs)``: over experiment alone, constants; over
        time too, interpolated linearly.
    time, experiment
        Names of these dimensions, where the data leave a doubt.
    t0
        Time of the initial state; default: the first time.
    solver
        `sciad.solvers.ODE`: method, tolerances and kind of sensitivity.

    Raises
    ------
    InputError
        Data, names or shapes that do not fit together; each message names the remedy.
    """

    def __init__(
        self,
        data: xr.Dataset,
        *,
        fields: Sequence[str] | None = None,
        states: Sequence[str] | None = None,
        noise: AbstractNoise | Mapping[str, AbstractNoise] | None = None,
        initial: Mapping[str, Any] | None = None,
        observe: Mapping[str, str] | Observe | None = None,
        inputs: Sequence[str] = (),
        time: str | None = None,
        experiment: str | None = None,
        t0: float | None = None,
        solver: ODE | None = None,
    ) -> None:
        if fields is None and isinstance(data, xr.Dataset):
            fields = [str(name) for name in data.data_vars if name not in inputs]
        self.fields: tuple[str, ...] = (fields,) if isinstance(fields, str) else tuple(fields or ())
        if not self.fields:
            msg = "No field is observed: name at least one variable of the data in `fields`."
            raise InputError(msg)
        self.states: tuple[str, ...] = self.fields if states is None else tuple(states)
        self.data = data
        self.observations = observations(data, self.fields, time, experiment, t0)
        self.t0 = float(self.observations.times[0] if t0 is None else t0)
        self.solver = ODE() if solver is None else solver
        self.inputs = tuple(inputs)
        self._inputs = _input_arrays(data, self.inputs, self.observations.time, self.observations.experiment)
        self._observe = _observation(observe, self.fields, self.states)
        self._noise = self._each_noise(LogNormal() if noise is None else noise)
        self._initial = self._each_initial(dict(initial or {}))

    # --- the program -----------------------------------------------------------------------------------------------

    def complete(self, model: PyTree) -> ODEProgram:
        """Return the model with the problem's initial state and noise; a complete program comes back as it is."""
        if isinstance(model, ODEProgram):
            return model
        program = fill(ODEProgram(model, dict(self._initial), dict(self._noise)))
        self._check(program)
        return program

    def label(self, path: str) -> str:
        """Name a leaf of a complete program for people: ``model.alpha`` is ``alpha``."""
        return path.removeprefix("model.")

    def target(self, program: PyTree) -> Target:
        """Return the posterior density over the unconstrained inner parameters."""
        vectorized = vectorize(self.complete(program))
        vectorized.log_prior(vectorized.vector)  # says which leaf lacks a prior, before any work

        return Target(
            log_density=lambda v: vectorized.log_prior(v) + self.log_likelihood(vectorized.program(v)),
            draw_prior=vectorized.draw,
            values=lambda v: {self.label(path): value for path, value in vectorized.values(v).items()},
            start=vectorized.vector,
            names=tuple(self.label(name) for name in vectorized.names),
            in_step=False,
        )

    # --- likelihood ------------------------------------------------------------------------------------------------

    def predict(self, program: PyTree, times: Float[np.ndarray, " times"] | None = None) -> Prediction:
        """Return the predicted fields at the observed, or at other, times; differentiable."""
        program = unwrap(self.complete(program))
        times = self.observations.times if times is None else np.asarray(times, float)
        start = jnp.stack([jnp.asarray(program.initial[s], jnp.result_type(float)) for s in self.states], axis=-1)

        def one(y0: Array, inputs: dict[str, Array]) -> tuple[Array, Array]:
            field = self._right_hand_side(program.model, inputs)
            solution = self.solver(field, y0, ts=times, t0=self.t0, t1=max(times[-1], self.t0), throw=False)
            ok = solution.ok
            ys = jnp.where(ok, solution.ys, 1.0)
            observed = jax.vmap(lambda t, y: self._observe(program.model, t, y))(jnp.asarray(times), ys)
            return jnp.stack([observed[f] for f in self.fields], axis=-1), ok

        experiments = self.observations.values.shape[0]
        if experiments == 1:
            inputs = jax.tree.map(lambda u: u[0], self._inputs)
            mean, ok = one(start.reshape(-1), inputs)
            return self._possible(program, mean[None], ok[None])
        mean, ok = jax.vmap(one)(jnp.broadcast_to(start, (experiments, len(self.states))), self._inputs)
        return self._possible(program, mean, ok)

    def log_likelihoods(self, program: PyTree, prediction: Prediction) -> Float[Array, "experiments times fields"]:
        """Return the log-likelihood of each observation, zero where there is none."""
        noise = unwrap(program.noise)
        seen, values = self.observations.observed, self._filled()
        each = [noise[f].distribution(prediction.mean[..., i]).log_prob(values[..., i]) for i, f in enumerate(self.fields)]
        return jnp.where(seen, jnp.stack(each, axis=-1), 0.0)

    def log_likelihood(self, program: PyTree) -> Float[Array, ""]:
        """Return the log-likelihood; -inf, with zero gradient, where a solve fails."""
        program = self.complete(program)
        prediction = self.predict(program)
        total = jnp.sum(self.log_likelihoods(program, prediction))
        ok = jnp.all(prediction.ok) & jnp.isfinite(total)
        return jnp.where(ok, jnp.where(ok, total, 0.0), -jnp.inf)

    def residuals(self, program: PyTree) -> tuple[Float[Array, "experiments times fields"], Prediction]:
        """Return standardised residuals, zero where nothing was observed, and the prediction they belong to."""
        program = self.complete(program)
        prediction, noise, values = self.predict(program), unwrap(program.noise), self._filled()
        each = [noise[f].residual(prediction.mean[..., i], values[..., i]) for i, f in enumerate(self.fields)]
        return jnp.where(self.observations.observed, jnp.stack(each, axis=-1), 0.0), prediction

    def replicator(self, program: PyTree) -> Callable[[Array, PRNGKeyArray], tuple[Array, Array]]:
        """Return a function from an unconstrained vector and a key to new observations and log-likelihoods of the old ones.

        Both have shape (experiment, time, field), and are NaN where the solve fails.
        """
        vectorized = vectorize(self.complete(program))

        def replicate(vector: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
            program = vectorized.program(vector)
            prediction, noise = self.predict(program), unwrap(program.noise)
            keys = jax.random.split(key, len(self.fields))
            drawn = [
                noise[f].distribution(prediction.mean[..., i]).sample(k).astype(prediction.mean.dtype)
                for i, (f, k) in enumerate(zip(self.fields, keys, strict=True))
            ]
            ok = prediction.ok[:, None, None]
            return tuple(jnp.where(ok, x, jnp.nan) for x in (jnp.stack(drawn, axis=-1), self.log_likelihoods(program, prediction)))

        return replicate

    def dataset(self, values: np.ndarray, times: np.ndarray | None = None, *, lead: Sequence[str] = ()) -> xr.Dataset:
        """Return arrays over (…, experiment, time, field) as a dataset with the names and units of the data."""
        seen = self.observations
        dims = [*lead, *([seen.experiment] if seen.experiment else []), seen.time]
        values = np.asarray(values) if seen.experiment else np.asarray(values)[..., 0, :, :]
        coords: dict[str, Any] = {seen.time: seen.times if times is None else times}
        if seen.experiment and seen.experiment in self.data.coords:
            coords[seen.experiment] = self.data[seen.experiment].to_numpy()
        return xr.Dataset(
            {f: (dims, values[..., i], self.data[f].attrs) for i, f in enumerate(self.fields)}, coords=coords
        )

    # --- parts -----------------------------------------------------------------------------------------------------

    def _possible(self, program: ODEProgram, mean: Array, ok: Array) -> Prediction:
        """Mark an impossible prediction (a negative median, say) as a failed solve; ones stand in for it."""
        possible = jnp.stack([program.noise[f].possible(mean[..., i]) for i, f in enumerate(self.fields)], axis=-1)
        ok = ok & jnp.all(possible, axis=(1, 2))
        return Prediction(jnp.where(ok[:, None, None], mean, 1.0), ok)

    def _filled(self) -> Array:
        """Observations with a harmless value where there is none."""
        return jnp.asarray(np.where(self.observations.observed, self.observations.values, 1.0))

    def _right_hand_side(self, model: Any, inputs: dict[str, Array]) -> Callable[..., Array]:
        if not inputs:
            return lambda t, y, _: model(t, y)
        knots = jnp.asarray(self.observations.times)

        def field(t: Array, y: Array, _: None) -> Array:
            now = {name: jnp.interp(t, knots, u) if jnp.ndim(u) else u for name, u in inputs.items()}
            return model(t, y, now)

        return field

    def _each_noise(self, noise: AbstractNoise | Mapping[str, AbstractNoise]) -> dict[str, AbstractNoise]:
        if isinstance(noise, AbstractNoise):
            noise = dict.fromkeys(self.fields, noise)
        check_names("noise", noise, self.fields)
        missing = [f for f in self.fields if f not in noise]
        if missing:
            msg = f"No noise model for {', '.join(missing)}: give one to each observed field."
            raise InputError(msg)
        for i, field in enumerate(self.fields):
            noise[field].check(field, self.observations.values[..., i][self.observations.observed[..., i]])
        return {field: noise[field] for field in self.fields}

    def _each_initial(self, given: dict[str, Any]) -> dict[str, PyTree]:
        check_names("initial", given, self.states)
        return {state: self._initial_value(state, given) for state in self.states}

    def _initial_value(self, state: str, given: dict[str, Any]) -> Param:
        if state in given:
            value = given[state]
            return value if isinstance(value, Param) else param(value, role="frozen")
        if state not in self.fields:
            msg = (
                f"State {state!r} is not observed and has no initial value: give `initial={{{state!r}: ...}}`, a number if it is "
                "known or `sciad.param(...)` if not."
            )
            raise InputError(
                msg
            )
        column = self.observations.values[..., self.fields.index(state)]
        first = [row[np.argmax(~np.isnan(row))] for row in column]
        return param(np.asarray(first[0] if len(first) == 1 else first), unit=self.data[state].attrs.get("units", ""))

    def _check(self, program: ODEProgram) -> None:
        """Evaluate the right-hand side once at the start: shape and value."""
        if not callable(program.model):
            msg = f"The model is a {type(program.model).__name__}; expected a callable model(t, y) -> slope."
            raise InputError(msg)
        plain = unwrap(program)
        initial = [jnp.asarray(plain.initial[s], jnp.result_type(float)) for s in self.states]
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(program)):
            return
        for state, value in zip(self.states, initial, strict=True):
            if value.ndim > 1 or (value.ndim == 1 and value.size != self.observations.values.shape[0]):
                msg = (
                    f"initial[{state!r}] has shape {value.shape}; expected one value, or one for each of the "
                    f"{self.observations.values.shape[0]} experiments."
                )
                raise InputError(
                    msg
                )
        y0 = jnp.stack([jnp.ravel(value)[0] for value in initial])
        field = self._right_hand_side(plain.model, jax.tree.map(lambda u: u[0], self._inputs))
        slope = jax.jit(field)(jnp.asarray(self.t0), y0, None)
        if jnp.shape(slope) != y0.shape:
            msg = (
                f"The right-hand side returned shape {jnp.shape(slope)} for the {y0.size} states {', '.join(self.states)}: return "
                "one slope for each, as a vector."
            )
            raise InputError(
                msg
            )
        if not bool(jnp.all(jnp.isfinite(slope))):
            msg = (
                f"The right-hand side is {np.asarray(slope)} at t={self.t0:g}, y={np.asarray(y0)}: not finite at the very start. "
                "Check its formula and the parameters' values."
            )
            raise InputError(
                msg
            )


def _observation(observe: Mapping[str, str] | Observe | None, fields: Sequence[str], states: Sequence[str]) -> Observe:
    if callable(observe):
        return observe
    mapping = {field: field for field in fields} if observe is None else dict(observe)
    check_names("observe", mapping, fields)
    lost = [field for field in fields if mapping.get(field) not in states]
    if lost:
        msg = (
            f"Nothing predicts {', '.join(lost)}: the states are {', '.join(states)}. Give `observe={{field: state}}`, or a function "
            "`observe(model, t, y) -> {field: value}`."
        )
        raise InputError(
            msg
        )
    index = {field: tuple(states).index(mapping[field]) for field in fields}
    return lambda model, t, y: {field: y[i] for field, i in index.items()}  # noqa: ARG005


def _input_arrays(data: xr.Dataset, inputs: Sequence[str], time: str, experiment: str | None) -> dict[str, Array]:
    """Inputs with a leading experiment axis, and a time axis if they change."""
    if inputs and experiment is None:
        data = data.expand_dims("experiment")
        experiment = "experiment"
    arrays = {}
    for name in inputs:
        if name not in data.data_vars and name not in data.coords:
            msg = f"The data have no input {name!r}."
            raise InputError(msg)
        extra = set(data[name].dims) - {time, experiment}
        if extra:
            msg = f"Input {name!r} has dimensions {data[name].dims}; expected experiment and time at most."
            raise OptionError(msg)
        full = data[name] if experiment in data[name].dims else data[name].expand_dims({experiment: data.sizes[experiment]})
        array = full.transpose(experiment, ...).to_numpy().astype(float)
        if not np.isfinite(array).all():
            msg = f"Input {name!r} has missing or infinite values: an input must be known everywhere."
            raise InputError(msg)
        arrays[name] = jnp.asarray(array)
    return arrays

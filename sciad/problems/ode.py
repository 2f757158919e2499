"""Ordinary differential equations joined to observations."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree
from numpyro.distributions import constraints

from sciad._errors import InputError, check_names, counted
from sciad._roles import Param, fill, mark, param, unwrap
from sciad._spec import Axis
from sciad._target import Target
from sciad._vector import vectorize
from sciad.models.probability import AbstractNoise, LogNormal
from sciad.problems.checks import asked_times, check_initial, check_noise, check_program
from sciad.problems.delays import declared
from sciad.problems.doses import Doses
from sciad.problems.experiments import axis_of, laid_out, over_times
from sciad.problems.likelihood import Likelihood, Prediction
from sciad.problems.observations import Way, check_dataset, input_arrays, observations, ways
from sciad.problems.resets import Reset, checked
from sciad.problems.schedule import check_solver, schedule, several
from sciad.problems.simulation import Setting, over_experiments, reset_times, simulate
from sciad.problems.steady import SteadyState
from sciad.solvers.ode import ODE, Sensitivity

ATOL = 1e-6  # absolute tolerance of the default solver, for data of size one and above
HALF = 0.5  # guessed initial value of a state whose first count is zero

Observe = Callable[[Any, Array, Array], Mapping[str, Array]]


class ODEProgram(eqx.Module):
    """A whole study of an equation: its right-hand side, initial state and noise; the leaves carry the roles."""

    model: PyTree
    initial: dict[str, PyTree]
    noise: dict[str, AbstractNoise]


class ODEProblem:
    r"""A system of ordinary differential equations joined to observations.

    .. math:: \dot x = f_\theta(t, x), \quad x(t_0) = x_0, \qquad y_{ek} \sim \text{noise}(h(x_e(t_k)))

    for experiment :math:`e` at time :math:`t_k`.

    Parameters
    ----------
    data
        Observed fields as variables over time, or over experiment and time. NaN means not observed.
    fields
        Observed variables; default: all.
    states
        Names of the state's entries, in the order of the right-hand side; default: `fields`.
    noise
        A noise model for all fields, each with its own parameters, or a mapping from field to noise model. Default:
        `LogNormal`.
    initial
        Initial value of each state: a number (known) or a `param` (unknown), either with one value or one for each
        experiment. Default for an observed state: unknown, guessed at its first observation, without prior. Or
        `sciad.SteadyState`: every experiment begins at rest.
    observe
        How fields follow from states: a mapping from field to state, or a function ``(model, t, y) -> {field: value}``.
        Default: fields are the states of the same name.
    inputs
        Variables of the data that enter the equation, then called as ``model(t, y, inputs)`` with a dictionary: over
        experiment alone, constants; over time too, interpolated linearly, and held beyond the first and last time. Or a
        mapping from each to ``"constant"``, ``"linear"`` or ``"step"``: held from each time to the next, where the
        solver steps onto every change.
    doses
        What is given to states at known times: `sciad.Doses`, or several.
    resets
        What the state brings about itself, at times not known beforehand: `sciad.Reset`, or several.
    time, experiment
        Names of these dimensions, where the data leave a doubt.
    delay
        Delay τ of an equation ``x' = f(t, x(t), x(t - τ))``: a number, or a function of the model, ``lambda model:
        model.tau``. The model is then called as ``model(t, y, delayed)``, or ``model(t, y, delayed, inputs)``, and
        derivatives are taken by forward sensitivities; see `sciad.solvers.DDE`.
    history
        State before `t0`, a function ``(model, t) -> state``. Default: the initial state, held constant. The state at
        `t0` is that of `initial`, whatever the history.
    t0
        Time of the initial state; default: the first time.
    solver
        `sciad.solvers.ODE`: method, tolerances and kind of sensitivity. Default: ``ODE()``, with an absolute tolerance
        of 1e-6 in units of the field of the smallest values, if these are below one.

    Raises
    ------
    InputError
        Data, names or shapes that do not fit together; each message names the remedy.

    Examples
    --------
    >>> data = xr.Dataset({"mass": ("hour", [8.0, 4.0, 2.0])}, coords={"hour": [0.0, 1.0, 2.0]})
    >>> problem = ODEProblem(data, initial={"mass": 8.0})
    >>> halving = lambda t, y: -jnp.log(2.0) * y
    >>> problem.predict(halving).mean[0, :, 0].round(3).tolist()
    [8.0, 4.0, 2.0]
    """

    def __init__(
        self,
        data: xr.Dataset,
        *,
        fields: Sequence[str] | None = None,
        states: Sequence[str] | None = None,
        noise: AbstractNoise | Mapping[str, Any] | None = None,
        initial: Mapping[str, Any] | SteadyState | None = None,
        observe: Mapping[str, str] | Observe | None = None,
        inputs: Sequence[str] | Mapping[str, Way] = (),
        doses: Doses | Sequence[Doses] | None = None,
        resets: Reset | Sequence[Reset] | None = None,
        time: str | None = None,
        experiment: str | None = None,
        delay: float | Callable[[Any], Any] | None = None,
        history: Callable[[Any, Any], Any] | None = None,
        t0: float | None = None,
        solver: ODE | None = None,
    ) -> None:
        how = inputs if isinstance(inputs, Mapping) else {}
        inputs = _several(inputs)
        check_dataset(data)
        if fields is None:
            fields = [str(name) for name in data.data_vars if name not in inputs]
        self.fields: tuple[str, ...] = _several(fields or ())
        if not self.fields:
            msg = "No field is observed: name at least one variable of the data in `fields`."
            raise InputError(msg)
        self.states: tuple[str, ...] = self.fields if states is None else _several(states)
        self.data = data
        self.observations = observations(data, self.fields, time, experiment, t0)
        self.t0 = float(self.observations.times[0] if t0 is None else t0)
        if not isinstance(solver, ODE | None):
            name = type(solver).__name__
            msg = f"`solver` is a {name}; expected sd.ODE(...), such as sd.ODE({name}()) for a solver of Diffrax."
            raise InputError(msg)
        self.solver = ODE(atol=ATOL * self.observations.smallest) if solver is None else solver
        self.delay = declared(delay, history, self.solver)
        self.inputs, self.input_times = input_arrays(data, inputs, self.observations), self.observations.times
        self.stepwise = ways(how, self.inputs)
        self.doses = several(doses)
        steps = {name: self.inputs[name] for name in self.stepwise}
        self.schedule = schedule(self.doses, steps, data, self.observations, self.states, self.t0)
        if self.schedule is not None:
            check_solver(self.solver)
        self.resets = checked(resets, self.solver, alone=self.schedule is None and self.delay is None)
        self._observe, sources = _observation(observe, self.fields, self.states)
        self.columns = {state: self.fields.index(field) for state, field in sources.items()}
        self._kept: dict[str, ODEProblem] = {}
        self._noise = self._each_noise(LogNormal() if noise is None else noise)
        self.steady = initial if isinstance(initial, SteadyState) else None
        if self.steady is not None:
            self.steady.check(self.states, tuple(self.inputs))
            for name in self.steady.inputs:
                self.steady.before(name, len(self.observations.values))
        if self.delay is not None and (self.schedule is not None or self.steady is not None):
            msg = "A delay cannot be combined with doses, stepwise inputs or a start at rest: leave one of them out."
            raise InputError(msg)
        if not isinstance(initial, SteadyState | Mapping | None):
            states = ", ".join(f"{state!r}: ..." for state in self.states)
            msg = f"`initial` is {initial!r}; expected the initial value of each state by name: initial={{{states}}}."
            raise InputError(msg)
        given = initial.guess if isinstance(initial, SteadyState) else dict(initial or {})
        self._initial = self._each_initial(given, sources)

    @property
    def experiments(self) -> Axis:
        """The dimension of the experiments and their labels."""
        seen = self.observations
        return axis_of(self.data, seen.experiment, len(seen.values))

    def __repr__(self) -> str:
        seen = self.observations
        where = f"at {counted(seen.times.size, 'time')} ({seen.time})"
        where += f" of {counted(len(seen.values), 'experiment')}" if seen.experiment else ""
        noise = ", ".join(dict.fromkeys(type(noise).__name__ for noise in self._noise.values()))
        number = counted(int(seen.observed.sum()), "observation")
        return f"<ODEProblem: {number} of {', '.join(self.fields)} {where}; {noise} noise>"

    @property
    def smooth(self) -> bool:
        """Whether states change by slopes of the present alone: without jumps, and without delay."""
        return self.schedule is None and not self.resets and self.delay is None

    @property
    def likelihood(self) -> Likelihood:
        """What the observations say of predictions."""
        return Likelihood(self.fields, self.observations)

    # --- the program -----------------------------------------------------------------------------------------------

    def complete(self, model: PyTree) -> ODEProgram:
        """Return the model with the problem's initial state and noise; a complete program comes back as it is.

        Raises
        ------
        InputError
            If model and problem do not fit together: names, shapes, or a right-hand side that is not finite.
        """
        if isinstance(model, ODEProgram):
            for what, have, wanted in (("initial", model.initial, self.states), ("noise", model.noise, self.fields)):
                if set(have) != set(wanted):
                    msg = f"The program's {what} names {', '.join(have)}, and the problem's {', '.join(wanted)}: "
                    msg += "it belongs to another problem. Give the model alone (`program.model`)."
                    raise InputError(msg)
            check_noise(model.noise, self._noise)
            model = laid_out(model, self.experiments)
            check_initial(self, unwrap(model))
            return model
        program = fill(ODEProgram(model, dict(self._initial), dict(self._noise)))
        program = laid_out(program, self.experiments)
        check_program(self, program)
        return program

    def with_solver(self, solver: ODE) -> "ODEProblem":
        """Return the problem with another solver."""
        if self.schedule is not None:
            check_solver(solver)
        checked(self.resets, solver, alone=True)
        return self.changed(solver=solver)

    def changed(self, **attributes: Any) -> "ODEProblem":
        """Return a copy with other attributes."""
        new = copy.copy(self)
        new.__dict__ |= {"_kept": {}} | attributes
        return new

    def variant(self, name: str, make: Callable[[], "ODEProblem"]) -> "ODEProblem":
        """Return the changed problem of that name, made once: what is compiled for it is then found again."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def with_forward_sensitivities(self) -> "ODEProblem":
        """Return the problem with forward sensitivities, which give a whole Jacobian in one solve.

        A kind of sensitivity that the user chose stays.
        """
        return self.with_sensitivity("forward")

    def with_sensitivity(self, kind: Sensitivity) -> "ODEProblem":
        """Return the problem with that kind of sensitivity, if the user left the choice, and the equation leaves one.

        With a delay, derivatives in reverse too come from forward sensitivities.
        """
        if self.solver.sensitivity != "auto" or (self.delay is not None and kind != "forward"):
            return self
        solver = dataclasses.replace(self.solver, sensitivity=kind)
        return self.variant(kind, lambda: self.with_solver(solver))

    def label(self, path: str) -> str:
        """Name a leaf of a complete program for people: ``model.alpha`` is ``alpha``."""
        return path.removeprefix("model.")

    def target(self, program: PyTree) -> Target:
        """Return the posterior density over the unconstrained inner parameters."""
        vectorized = vectorize(self.complete(program))
        jax.eval_shape(vectorized.log_prior, vectorized.vector)  # says which leaf lacks a prior, before any work

        return Target(
            log_density=lambda v: vectorized.log_prior(v) + self.log_likelihood(vectorized.program(v)),
            draw_prior=vectorized.draw,
            values=lambda v: {self.label(path): value for path, value in vectorized.values(v).items()},
            axes={self.label(path): site.axis for path, site in vectorized.sites.items() if site.axis},
            start=vectorized.vector,
            names=tuple(self.label(name) for name in vectorized.names),
            in_step=False,
        )

    # --- likelihood ------------------------------------------------------------------------------------------------

    def predict(self, program: PyTree, times: ArrayLike | Sequence[float] | None = None) -> Prediction:
        """Return the predicted fields at the observed, or at other, times; differentiable.

        Raises
        ------
        InputError
            If times are empty, unsorted, or before ``t0``.
        """
        program = self.complete(program)
        times = self.observations.times if times is None else asked_times(times, self.t0)

        def one(model: PyTree, setting: Setting) -> tuple[Array, Array]:
            states, ok = simulate(self, model, setting, times)
            observed = jax.vmap(lambda t, y: self.observed(model, t, y))(jnp.asarray(times), states)
            return jnp.where(ok, observed, 1.0), ok

        return Prediction(*over_experiments(self, one, program))

    def reset_times(self, program: PyTree) -> Float[Array, "experiments most"]:
        """Return when resets happen in each experiment, up to its last time; infinite for those that do not."""
        if not self.resets:
            return jnp.zeros((len(self.experiments.labels), 0))
        return over_experiments(self, lambda model, setting: reset_times(self, model, setting), self.complete(program))

    def states_at(
        self, program: PyTree, times: ArrayLike | Sequence[float] | None = None
    ) -> Float[Array, "experiments times states"]:
        """Return the states at the observed, or at other, times, those not observed too; NaN where a solve fails."""
        program = self.complete(program)
        times = self.observations.times if times is None else asked_times(times, self.t0)
        states, ok = over_experiments(self, lambda model, setting: simulate(self, model, setting, times), program)
        return jnp.where(ok[:, None, None], states, jnp.nan)

    def starts(self, program: ODEProgram) -> Float[Array, "experiments states"]:
        """Return the initial state of each experiment, or the guess of one at rest, of a program without roles."""
        experiments = (len(self.observations.values),)
        values = [jnp.asarray(program.initial[s], jnp.result_type(float)) for s in self.states]
        return jnp.stack([jnp.broadcast_to(value, experiments) for value in values], axis=-1)

    def observed(self, model: PyTree, t: Array, y: Array) -> Array:
        """Return the fields that follow from a state, as a vector."""
        found = self._observe(model, t, y)
        if not isinstance(found, Mapping):
            msg = f"`observe` returned a {type(found).__name__}; expected a dictionary {{field: value}} with "
            msg += f"{', '.join(self.fields)}."
            raise InputError(msg)
        return jnp.stack([jnp.asarray(found[f], y.dtype) for f in self.fields])

    def log_likelihoods(self, program: ODEProgram, prediction: Prediction) -> Float[Array, "experiments times fields"]:
        """Return the log-likelihood of each observation, zero where there is none."""
        return self.likelihood.log_likelihoods(over_times(program.noise), prediction)

    def log_likelihood(self, program: PyTree) -> Float[Array, ""]:
        """Return the log-likelihood; -inf, with zero gradient, where a solve fails or a prediction is impossible."""
        program = self.complete(program)
        prediction = self.predict(program)
        total = jnp.sum(self.log_likelihoods(program, prediction))
        ok = jnp.all(self.likelihood.possible(over_times(program.noise), prediction).ok) & jnp.isfinite(total)
        return jnp.where(ok, jnp.where(ok, total, 0.0), -jnp.inf)

    def residuals(self, program: PyTree) -> tuple[Float[Array, "experiments times fields"], Prediction]:
        """Return standardised residuals, zero where nothing was observed, and the prediction they belong to.

        The prediction is not `ok` where it is impossible for the noise: a negative median, say.
        """
        program = self.complete(program)
        return self.compared(program, self.predict(program))

    def compared(
        self, program: ODEProgram, prediction: Prediction
    ) -> tuple[Float[Array, "experiments times fields"], Prediction]:
        """Return standardised residuals of a prediction; see `residuals`."""
        return self.likelihood.residuals(over_times(program.noise), prediction)

    def impossible(self, program: PyTree) -> str:
        """Name the first observation whose prediction is impossible for its noise, and the prediction; else nothing."""
        program = self.complete(program)
        prediction = eqx.filter_jit(self.predict)(program)
        noise, seen = over_times(program.noise), self.observations
        for i, field in enumerate(self.fields):
            mean = prediction.mean[..., i]
            bad = np.asarray(~noise[field].possible(mean) & prediction.ok[:, None]) & seen.observed[..., i]
            if bad.any():
                e, k = np.argwhere(bad)[0].tolist()
                return f"{field} at {seen.time}={seen.times[k]:g} is predicted as {float(mean[e, k]):.3g}"
        return ""

    def weights(self, program: ODEProgram, prediction: Prediction) -> Float[Array, "experiments times fields"]:
        """Return what turns rows of the residuals' Jacobian into information; see `Likelihood.weights`."""
        return self.likelihood.weights(over_times(program.noise), prediction)

    def scores(self, program: PyTree, prediction: Prediction) -> Float[Array, "experiments times fields"]:
        """Return quantile residuals, zero where nothing was observed; see `AbstractNoise.scores`."""
        return self.likelihood.scores(over_times(self.complete(program).noise), prediction)

    def replicator(self, program: PyTree) -> Callable[[Array, PRNGKeyArray], tuple[Array, Array]]:
        """Return a function from a vector and a key to new observations and log-likelihoods of the old ones.

        The vector is unconstrained. Both answers have shape (experiment, time, field), and are NaN where the solve
        fails or a prediction is impossible for the noise.
        """
        vectorized = vectorize(self.complete(program))

        def replicate(vector: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
            program = vectorized.program(vector)
            prediction = self.predict(program)
            noise = over_times(program.noise)
            mean, ok = self.likelihood.possible(noise, prediction)
            keys = jax.random.split(key, len(self.fields))
            drawn = [
                noise[f].distribution(mean[..., i]).sample(k).astype(mean.dtype)
                for i, (f, k) in enumerate(zip(self.fields, keys, strict=True))
            ]
            likelihoods, seen = self.log_likelihoods(program, Prediction(mean, ok)), ok[:, None, None]
            there = seen & (mean == prediction.mean)  # elsewhere a one stands for what is impossible
            return jnp.where(there, jnp.stack(drawn, axis=-1), jnp.nan), jnp.where(seen, likelihoods, jnp.nan)

        return replicate

    def dataset(
        self, values: ArrayLike, times: ArrayLike | Sequence[float] | None = None, *, lead: Sequence[str] = ()
    ) -> xr.Dataset:
        """Return arrays over (…, experiment, time, field) as a dataset with the names and units of the data."""
        seen = self.observations
        dims = [*lead, *([seen.experiment] if seen.experiment else []), seen.time]
        values = np.asarray(values) if seen.experiment else np.asarray(values)[..., 0, :, :]
        coords: dict[str, Any] = {seen.time: seen.times if times is None else np.asarray(times, float)}
        if seen.experiment and seen.experiment in self.data.coords:
            coords[seen.experiment] = self.data[seen.experiment].to_numpy()
        made = {f: (dims, values[..., i], self.data[f].attrs) for i, f in enumerate(self.fields)}
        return xr.Dataset(made, coords=coords)

    # --- parts -----------------------------------------------------------------------------------------------------

    def _each_noise(self, noise: AbstractNoise | Mapping[str, Any]) -> dict[str, AbstractNoise]:
        if not isinstance(noise, Mapping):
            noise = dict.fromkeys(self.fields, noise)
        check_names("noise", noise, self.fields, "no observed field")
        seen = self.observations
        for i, field in enumerate(self.fields):
            if not isinstance(noise.get(field), AbstractNoise):
                got = repr(noise[field]) if field in noise else "nothing"
                msg = f"The noise of {field!r} is {got}; expected a noise model, such as sd.LogNormal()."
                raise InputError(msg)
            noise[field].check(field, seen.values[..., i][seen.observed[..., i]])
        return {field: noise[field] for field in self.fields}

    def _each_initial(self, given: dict[str, Any], sources: Mapping[str, str]) -> dict[str, PyTree]:
        check_names("initial", given, self.states, "no state")
        return {state: self._initial_value(state, given, sources.get(state)) for state in self.states}

    def _initial_value(self, state: str, given: dict[str, Any], field: str | None) -> Param:
        if state in given:
            return self._one_or_each(_known(state, given[state]))
        if field is None:
            msg = f"State {state!r} is not observed and has no initial value. Give `initial={{{state!r}: ...}}`: "
            msg += "a number if it is known, `sciad.param(...)` if not."
            raise InputError(msg)
        column = self.observations.values[..., self.fields.index(field)]
        first = [next(iter(row[~np.isnan(row)]), np.nan) for row in column]
        if np.isnan(first).any():
            never = [str(self.experiments.labels[i]) for i in np.flatnonzero(np.isnan(first))]
            which = f" ({', '.join(never)})" if len(first) > 1 else ""
            msg = f"{field!r} is never observed in {len(never)} of {len(first)} experiments{which}, so no initial "
            msg += f"value can be guessed. Give `initial={{{state!r}: ...}}`."
            raise InputError(msg)
        unit = self.data[field].attrs.get("units", "")
        if self._noise[field].positive:
            above = np.where(np.asarray(first) > 0, first, HALF)
            return self._one_or_each(param(_squeezed(above), constraint=constraints.positive, unit=unit))
        return self._one_or_each(param(_squeezed(np.asarray(first)), unit=unit))

    def _one_or_each(self, value: Param) -> Param:
        """Return an initial value, known as one of each experiment where it is a vector of so many numbers."""
        experiments = len(self.observations.values)
        each = experiments > 1 and value.shape == (experiments,)
        return mark(value, lambda p: p, each=True) if each else value


def _known(state: str, value: Any) -> Param:
    try:
        return value if isinstance(value, Param) else param(value, role="frozen")
    except InputError as error:
        msg = f"initial[{state!r}]: {error}"
        raise InputError(msg) from error


def _several(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _squeezed(values: np.ndarray) -> np.ndarray:
    return values.reshape(()) if values.size == 1 else values


def _observation(
    observe: Mapping[str, str] | Observe | None, fields: Sequence[str], states: Sequence[str]
) -> tuple[Observe, dict[str, str]]:
    """Return how fields follow from the state, and the field that shows each state, where one does."""
    if callable(observe):
        return observe, {}
    mapping = {field: field for field in fields} if observe is None else dict(observe)
    check_names("observe", mapping, fields, "no observed field")
    if observe is not None:
        check_names("observe", mapping.values(), states, "no state")
    lost = [field for field in fields if mapping.get(field) not in states]
    if lost:
        msg = f"Nothing predicts {', '.join(lost)}: the states are {', '.join(states)}. Give "
        msg += "`observe={field: state}`, or a function `observe(model, t, y) -> {field: value}`."
        raise InputError(msg)
    index = {field: list(states).index(mapping[field]) for field in fields}

    def entries(model: PyTree, t: Array, y: Array) -> dict[str, Array]:
        del model, t
        return {field: y[i] for field, i in index.items()}

    return entries, {mapping[field]: field for field in reversed(fields)}

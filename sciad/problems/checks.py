"""Checks that a model, a problem and what is asked of them fit together."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from sciad._errors import InputError
from sciad._roles import Param, unwrap
from sciad._text import is_concrete
from sciad.problems.delays import check_delay, with_delayed
from sciad.problems.experiments import model_of
from sciad.problems.resets import check_functions
from sciad.problems.signatures import check_order, shape_of
from sciad.problems.simulation import right_hand_side

if TYPE_CHECKING:
    from sciad.problems.ode import ODEProblem, ODEProgram


def asked_times(times: ArrayLike | Sequence[float], t0: float) -> Float[np.ndarray, " times"]:
    """Return times at which a prediction is asked for, once they are known to ascend from `t0`."""
    asked = np.asarray(times, float)
    if asked.ndim != 1 or asked.size == 0 or not np.all(np.diff(asked) > 0) or not asked[0] >= t0:
        msg = f"`times` has shape {asked.shape}; expected a vector of ascending times from t0={t0:g}."
        if asked.ndim == 1 and asked.size:
            msg = f"`times` goes from {asked[0]:g} to {asked[-1]:g}; expected ascending times from t0={t0:g}."
        raise InputError(msg)
    return asked


def check_noise(have: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that a program's noise models are those of its problem, whatever their parameters."""
    for field, noise in have.items():
        if type(noise) is not type(wanted[field]):
            names = type(noise).__name__, type(wanted[field]).__name__
            msg = f"The program's noise of {field!r} is {names[0]}, and the problem's {names[1]}: it belongs to "
            msg += "another problem. Give the model alone (`program.model`)."
            raise InputError(msg)


def check_program(problem: "ODEProblem", program: "ODEProgram") -> None:
    """Check the shapes of initial values, right-hand side and observation, and that the first slopes are finite.

    Values are looked at only where they are not traced.
    """
    if isinstance(program.model, type):
        name = program.model.__name__
        msg = f"The model is the class {name} itself; expected an instance: write {name}()."
        raise InputError(msg)
    if not callable(program.model):
        msg = f"The model is a {type(program.model).__name__}; expected a callable model(t, y) -> slope."
        raise InputError(msg)
    _check_declared(program.model)
    check_order("The model", program.model)
    model = model_of(program.model, 0)
    y0 = check_initial(problem, unwrap(program))
    t0, inputs = jnp.asarray(problem.t0), jax.tree.map(lambda u: u[0], problem.inputs)

    if problem.delay is not None:
        span = problem.observations.times[-1] - problem.t0
        for number in range(len(problem.observations.values)):
            check_delay(problem.delay, model_of(program.model, number), float(span), problem.solver.max_steps)

    def slope(t: Array, y: Array) -> Array:
        called = model
        if problem.delay is not None:
            called = with_delayed(model, problem.delay.first(model, t, y))
        return right_hand_side(problem, called, inputs)(t, y)

    for doses in problem.doses:
        jax.eval_shape(lambda d=doses: (d.fractions(model, problem.states), d.lags(model, problem.states)))
    check_functions(problem.resets, model, t0, y0)
    shape = shape_of("The right-hand side", slope, t0, y0).shape
    if shape != y0.shape:
        msg = f"The right-hand side returned shape {shape} for the {y0.size} states {', '.join(problem.states)}: "
        msg += "return one slope for each, as a vector."
        raise InputError(msg)
    jax.eval_shape(lambda t, y: _check_fields(problem, model, t, y), t0, y0)
    if all(is_concrete(leaf) for leaf in jax.tree.leaves(program)):
        _check_finite(jax.jit(slope)(t0, y0), t0, y0)


def _check_declared(model: Any) -> None:
    """Check that a field declared as a parameter holds one: a plain number there would be fitted by nobody."""
    if not dataclasses.is_dataclass(model):
        return
    for field in dataclasses.fields(model):
        declared = field.type is Param or (isinstance(field.type, str) and field.type.split(".")[-1] == "Param")
        value = getattr(model, field.name, None)
        if declared and not isinstance(value, Param):
            msg = f"{field.name!r} is declared as a parameter and holds {value!r}. Write sd.param({value!r}), or "
            msg += f"sd.frozen({value!r}) if it is known."
            raise InputError(msg)


def check_initial(problem: "ODEProblem", plain: "ODEProgram") -> Float[Array, " states"]:
    """Return the initial state of the first experiment, once each value is known to be one, or one an experiment."""
    experiments = len(problem.observations.values)
    return jnp.stack([_first(state, plain.initial[state], experiments) for state in problem.states])


def _first(state: str, value: Any, experiments: int) -> Array:
    value = jnp.asarray(value, jnp.result_type(float))
    if value.ndim > 1 or (value.ndim == 1 and value.size not in (1, experiments)):
        msg = f"initial[{state!r}] has shape {value.shape}; expected one value, or one for each of the {experiments} "
        msg += "experiments."
        raise InputError(msg)
    return jnp.ravel(value)[0]


def _check_fields(problem: "ODEProblem", model: PyTree, t: Array, y: Array) -> Array:
    try:
        fields = problem.observed(model, t, y)
    except KeyError as error:
        msg = f"`observe` gives no {error}: return a dictionary with {', '.join(problem.fields)}."
        raise InputError(msg) from error
    if fields.shape != (len(problem.fields),):
        msg = f"`observe` returned arrays of shape {fields.shape[1:]}; expected one number for each field."
        raise InputError(msg)
    return fields


def _check_finite(slope: Array, t0: Array, y0: Array) -> None:
    if not np.all(np.isfinite(slope)):
        msg = f"The right-hand side is {np.asarray(slope)} at t={float(t0):g}, y={np.asarray(y0)}: not finite at the "
        msg += "very start. Check its formula and the parameters' values."
        raise InputError(msg)

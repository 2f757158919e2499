"""States of an equation over time, experiment by experiment."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sciad._roles import unwrap
from sciad._typing import Real
from sciad.problems.experiments import parted

if TYPE_CHECKING:
    from sciad.problems.ode import ODEProblem, ODEProgram

T = TypeVar("T")
Field = Callable[..., Array]


class Setting(NamedTuple):
    """What experiments differ in, of one experiment or with a leading axis over all."""

    start: Float[Array, "*experiments states"]
    inputs: dict[str, Array]


def over_experiments(
    problem: "ODEProblem", function: Callable[..., T], program: "ODEProgram", *rest: Array | np.ndarray
) -> T:
    """Return ``function(model, setting, *rest)`` of each experiment, with a leading axis, for a complete program.

    The function gets the model without roles, with the values of the experiment at hand. `rest` are arrays with a
    leading experiment axis.
    """
    own, shared = parted(program.model)
    settings = Setting(problem.starts(unwrap(program)), problem.inputs)
    arrays = (own, settings, *map(jnp.asarray, rest))

    def one(own: Any, *rest: Any) -> T:
        return function(eqx.combine(own, shared), *rest)

    if len(settings.start) == 1:  # one solve, not a batch of one
        found = one(*jax.tree.map(lambda x: x[0], arrays))
        return jax.tree.map(lambda x: x[None], found)
    return jax.vmap(lambda arrays: one(*arrays))(arrays)


def right_hand_side(problem: "ODEProblem", model: Callable[..., Any], inputs: dict[str, Array]) -> Field:
    """Return ``f(t, y, args)`` with the inputs of one experiment put in; lists of slopes become arrays."""
    knots = jnp.asarray(problem.input_times)

    def field(t: Real, y: Array, _: Any = None) -> Array:
        now = {name: jnp.interp(t, knots, u) if jnp.ndim(u) else u for name, u in inputs.items()}
        return jnp.asarray(model(t, y, now) if inputs else model(t, y))

    return field


def simulate(
    problem: "ODEProblem",
    model: Callable[..., Any],
    setting: Setting,
    times: Float[np.ndarray, " times"],
    until: Real | None = None,
) -> tuple[Float[Array, "times states"], Bool[Array, ""]]:
    """Return the states of one experiment, ones where the solve fails, and whether it succeeds.

    From the time `until` on the state rests.
    """
    field = right_hand_side(problem, model, setting.inputs)
    field = field if until is None else _resting(field, until)
    solution = problem.solver(field, setting.start, ts=times, t0=problem.t0, t1=times[-1], throw=False)
    return jnp.where(solution.ok, solution.ys, 1.0), solution.ok


def _resting(field: Field, until: Real) -> Field:
    return lambda t, y, _: jnp.where(t <= until, field(t, y), 0.0)

"""Experiments that begin at rest."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from sciad._errors import InputError, check_names
from sciad.problems.simulation import Setting, right_hand_side
from sciad.solvers.steady import steady_state

if TYPE_CHECKING:
    from sciad.problems.ode import ODEProblem


class SteadyState:
    r"""A start at rest: to `sciad.ODEProblem`, as ``initial=``.

    .. math:: f_\theta(t_0, x_0, u_0) = 0, \qquad w^\top x_0 = w^\top x_\text{guess}

    for every total :math:`w^\top x` that the equation conserves. The state found is stable: small disturbances die out.
    Predictions are differentiable through it, in both modes, in the model and in conserved totals. Where no such state
    is found the solve fails, and fits and samplers reject the point.

    Parameters
    ----------
    guess
        A value for each state, as for ``initial=``: where the search begins, and what gives the conserved totals. A
        total to be estimated is the guess of one of its states, as `sciad.param`.
    inputs
        Values of inputs before the experiment, each one number or one for each experiment; others have their values at
        ``t0``. Doses do not enter.
    held
        States that stay at their guess, whatever the slope.
    positive
        Whether a state below zero is refused, as it should be for amounts.

    Raises
    ------
    InputError
        By the problem: a state without guess, or a name that it does not know.

    Notes
    -----
    The state is found by pseudo-transient continuation and then Newton's method, `sciad.solvers.steady_state`. With
    several stable states it is one near the way from the guess, and not for certain that which the equation goes to.

    Examples
    --------
    >>> import sciad as sd, xarray as xr
    >>> jax.config.update("jax_enable_x64", True)
    >>> data = xr.Dataset({"level": ("hour", [2.0, 3.0]), "flow": ("hour", [6.0, 6.0])}, coords={"hour": [0.0, 50.0]})
    >>> rest = SteadyState({"level": 1.0}, inputs={"flow": 4.0})
    >>> problem = sd.ODEProblem(data, fields="level", inputs="flow", initial=rest, noise=sd.Normal())
    >>> tank = lambda t, y, inputs: inputs["flow"] - 2.0 * y
    >>> problem.predict(tank).mean[0, :, 0].round(4).tolist()
    [2.0, 3.0]
    """

    def __init__(
        self,
        guess: Mapping[str, Any],
        *,
        inputs: Mapping[str, ArrayLike | Sequence[float]] | None = None,
        held: str | Sequence[str] = (),
        positive: bool = True,
    ) -> None:
        self.guess = dict(guess)
        self.inputs = dict(inputs or {})
        self.held = (held,) if isinstance(held, str) else tuple(held)
        self.positive = positive

    def check(self, states: Sequence[str], inputs: Sequence[str]) -> None:
        """Check that the names are those of a problem.

        Raises
        ------
        InputError
            If one is not, or a state has no guess, or all are held.
        """
        check_names("SteadyState(guess=...)", self.guess, states, "no state")
        check_names("SteadyState(held=...)", self.held, states, "no state")
        check_names("SteadyState(inputs=...)", self.inputs, inputs, "no input")
        lost = [state for state in states if state not in self.guess]
        if lost:
            msg = f"SteadyState(guess=...) has no value for {', '.join(lost)}: the search needs one for every state."
            raise InputError(msg)
        if set(self.held) == set(states):
            msg = "SteadyState(held=...) holds every state, so that nothing is left to find: give `initial=` numbers."
            raise InputError(msg)

    def before(self, name: str, experiments: int) -> Float[Array, " experiments"]:
        """Return the value of an input before each experiment.

        Raises
        ------
        InputError
            If it is not finite, or has another shape.
        """
        values = np.asarray(self.inputs[name], float)
        if values.shape not in ((), (1,), (experiments,)) or not np.isfinite(values).all():
            missing, many = np.sum(~np.isfinite(values)), f"one for each of the {experiments} experiments"
            msg = f"SteadyState(inputs={{{name!r}: ...}}) has {missing} missing or infinite values and shape "
            msg += f"{values.shape}; expected one number, or {many}."
            raise InputError(msg)
        return jnp.broadcast_to(jnp.asarray(values), (experiments,))

    def rest(
        self, problem: "ODEProblem", model: Any, guess: Float[Array, " states"], inputs: dict[str, Array]
    ) -> tuple[Float[Array, " states"], Bool[Array, ""]]:
        """Return the state at rest of one experiment, and whether there is one."""
        field = right_hand_side(problem, model, inputs)
        free = np.flatnonzero([state not in self.held for state in problem.states])

        def slope(x: Array) -> Array:
            return field(jnp.asarray(problem.t0), guess.at[free].set(x))[free]

        found, ok = steady_state(slope, guess[free], positive=self.positive)
        return guess.at[free].set(found), ok

    def at_rest(self, problem: "ODEProblem", own: Any, shared: Any, setting: Setting) -> Setting:
        """Return the setting of all experiments with each start at rest.

        The model comes as each experiment's own part, with a leading axis, and what they share.
        """
        inputs = setting.inputs | {name: self.before(name, len(setting.start)) for name in self.inputs}

        def one(own: Any, guess: Array, inputs: dict[str, Array]) -> tuple[Array, Array]:
            return self.rest(problem, eqx.combine(own, shared), guess, inputs)

        start, ready = jax.vmap(one)(own, setting.start, inputs)
        return setting._replace(start=start, ready=ready)

"""Ordinary differential equations: one Equinox module around Diffrax that chooses how solutions are differentiated."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from sciad._errors import InputError, OptionError, choose
from sciad._typing import Real
from sciad.solvers.sensitivity import (
    KnownTimes,
    System,
    Times,
    Trajectory,
    integrate,
    integrate_reverse,
    with_norm,
)

Sensitivity = Literal["auto", "forward", "reverse", "backsolve"]

# States times parameters up to which forward sensitivities cost less than reverse. Measured by
# `python -m benchmarks ode_overhead --case crossover`: equal near 700 to 1000 for 2, 10, 32 and 100 states.
CROSSOVER = 1000


class ODESolution(eqx.Module):
    """Solution of an initial value problem.

    Attributes
    ----------
    ts
        Times at which the solution was saved.
    ys
        State at these times: the structure of ``y0`` with a leading time axis. Infinite where the solve did not get to.
    t1, y1
        Time and state at which the solve ended: the end of the interval, or the event.
    event
        Which condition ended the solve: the structure of the event's conditions, or None without an event.
    result
        A member of `diffrax.RESULTS`; `ok` is true where it is a success or an event.
    stats
        Steps taken, accepted and rejected.
    """

    ts: Float[Array | np.ndarray, " times"]
    ys: PyTree[Array]
    t1: Float[Array, ""]
    y1: PyTree[Array]
    event: PyTree[Bool[Array, ""]]
    result: dfx.RESULTS
    stats: dict[str, Any]

    @property
    def ok(self) -> Bool[Array, ""]:
        """Whether the solve reached its end or an event, with finite values."""
        finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(self.y1)]
        return dfx.is_okay(self.result) & jnp.all(jnp.stack(finite))


class ODE(eqx.Module):
    r"""Solver of :math:`dy/dt = f(t, y, a),\ y(t_0) = y_0`, differentiable in :math:`y_0, a` and all in :math:`f`.

    A step is accepted when :math:`\lVert e / (\mathrm{atol} + \mathrm{rtol}\,|y|) \rVert_{\mathrm{rms}} < 1` for the
    solver's local error estimate :math:`e`.

    Parameters
    ----------
    solver
        Any Diffrax solver. The default `diffrax.Tsit5` suits non-stiff problems; for stiff ones give an implicit one,
        ``ODE(diffrax.Kvaerno5())``.
    rtol, atol
        Relative tolerance, and absolute tolerance in the units of the state.
    sensitivity
        How derivatives are taken.

        ``"forward"`` integrates the sensitivity equations beside the state (any order of derivative, forward or
        reverse); cost grows with the number of parameters that enter the equation.
        ``"reverse"`` differentiates the solver's steps with checkpoints (`diffrax.RecursiveCheckpointAdjoint`; first
        derivatives in reverse mode only); cost hardly grows with parameters.
        ``"backsolve"`` integrates the adjoint equation backwards (little memory, approximate).
        ``"auto"`` takes forward while states times parameters (traced numbers in ``y0`` and the equation) are at most
        `CROSSOVER`, else reverse.
    max_steps
        Steps, accepted and rejected, after which a solve gives up.
    event
        A `diffrax.Event` that ends the solve early. With a root finder its time and state are differentiable, also in
        what its conditions hold; without one the solve ends with the step in which the condition became true.
    dt0
        First step; chosen from the tolerances if None.
    controller
        A Diffrax step size controller in place of the default `diffrax.PIDController`; ``rtol`` and ``atol`` then
        belong to it.
    control_sensitivities
        Whether the sensitivities, scaled to the units of the state, take part in the error control. Without it a
        gradient costs fewer steps, but can be wrong where the state is at rest and its sensitivities are not.

    Raises
    ------
    OptionError
        A setting that does not exist, or that cannot be combined with another.

    Notes
    -----
    Call it inside `jax.jit` or `equinox.filter_jit`: outside, every call compiles anew.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> jax.config.update("jax_enable_x64", True)
    >>> decay = ODE(rtol=1e-9, atol=1e-9)
    >>> end = lambda k: decay(lambda t, y, k: -k * y, jnp.array(1.0), args=k, t0=0.0, t1=2.0).y1
    >>> bool(abs(jax.grad(end)(0.5) + 2.0 * jnp.exp(-1.0)) < 1e-8)
    True
    """

    solver: dfx.AbstractSolver
    controller: dfx.AbstractStepSizeController
    dt0: Real | None
    event: dfx.Event | None
    sensitivity: Sensitivity = eqx.field(static=True)
    max_steps: int | None = eqx.field(static=True)
    control_sensitivities: bool = eqx.field(static=True)

    def __init__(
        self,
        solver: dfx.AbstractSolver | None = None,
        *,
        rtol: float = 1e-6,
        atol: float = 1e-6,
        sensitivity: Sensitivity | str = "auto",
        max_steps: int | None = 4096,
        event: dfx.Event | None = None,
        dt0: Real | None = None,
        controller: dfx.AbstractStepSizeController | None = None,
        control_sensitivities: bool = True,
    ) -> None:
        if not (rtol >= 0 and atol >= 0 and rtol + atol > 0):
            msg = f"ODE(rtol={rtol}, atol={atol}): both tolerances must be at least zero, and one of them positive."
            raise OptionError(msg)
        if max_steps is not None and max_steps < 1:
            msg = f"ODE(max_steps={max_steps}): expected at least 1, or None for no limit."
            raise OptionError(msg)
        if sensitivity == "backsolve" and event is not None:
            msg = "ODE(sensitivity='backsolve') cannot differentiate an event: use 'forward' or 'reverse'."
            raise OptionError(msg)
        self.solver = dfx.Tsit5() if solver is None else solver
        self.controller = dfx.PIDController(rtol=rtol, atol=atol) if controller is None else controller
        self.dt0 = dt0
        self.event = event
        self.sensitivity = choose("sensitivity", sensitivity, get_args(Sensitivity))
        self.max_steps = max_steps
        self.control_sensitivities = control_sensitivities

    def __call__(
        self,
        field: Callable[..., PyTree],
        y0: PyTree,
        *,
        args: PyTree = None,
        ts: Float[Array | np.ndarray, " times"] | None = None,
        t0: Real | None = None,
        t1: Real | None = None,
        throw: bool = True,
        in_order: bool = False,
    ) -> ODESolution:
        """Solve ``dy/dt = field(t, y, args)`` from ``y(t0) = y0``.

        Parameters
        ----------
        field
            Right-hand side; returns the structure and shapes of ``y0``. May close over arrays, traced ones included.
        y0
            Initial state, a PyTree of float arrays.
        args
            Passed to `field`; only those arrays that the equation uses are pushed through it.
        ts
            Times at which to save, in order from `t0` to `t1`; default: the end alone.
        t0, t1
            The interval; default: first and last of `ts`.
        in_order
            Traced times are known to be in order and within the interval: no check is made at run time, and a small
            solve is compiled as one function, as it is with times that are not traced.
        throw
            Raise if the solve fails; otherwise see `ODESolution.ok`. Derivatives of a failed solve are zero.

        Raises
        ------
        InputError
            Wrong shapes or structure; times missing, out of order or outside the interval.
        OptionError
            A derivative with respect to `t0`, a tolerance or a setting was asked for under forward sensitivities.
        TypeError
            From JAX, where a forward or second derivative was asked for under ``"reverse"`` or ``"backsolve"``, or
            under ``"auto"`` beyond its crossover: choose ``sensitivity="forward"``.
        equinox.EquinoxRuntimeError
            The solve failed and `throw` is true.
        """
        flat, unravel = flatten_state(y0)
        times = _interval(t0, t1, ts, self.dt0, flat.dtype, in_order)
        plain = times.times if isinstance(times, KnownTimes) else times

        def flat_field(t: Real, y: Array) -> Array:
            return flatten_slope(field(t, unravel(y), args), y0, y.dtype)

        # Closure conversion finds the arrays that enter the equation: these and no others are pushed through it.
        converted = _convert(flat_field, plain.t0, flat)
        theta, fixed = eqx.partition(converted, eqx.is_inexact_array)
        system = System(
            start=_first,
            field=_Field(fixed),
            solver=self.solver,
            controller=with_norm(self.controller, lambda norm: _structured(norm, unravel)),
            dt0=self.dt0,
            event=self._flat_event(field, args, plain.t0, flat, unravel),
            max_steps=self.max_steps,
            control_sensitivities=self.control_sensitivities,
        )
        trajectory = self._solve((flat, theta), times, system)
        if throw:
            trajectory = _raise_on_failure(trajectory)
        ys = jax.vmap(unravel)(trajectory.ys)
        return ODESolution(
            plain.ts, ys, trajectory.t1, unravel(trajectory.y1), trajectory.event, trajectory.result, trajectory.stats
        )

    def _solve(self, params: PyTree, times: Times | KnownTimes, system: System) -> Trajectory:
        # An array that is not traced is a constant: no derivative with respect to it can be asked for.
        traced = [leaf.size for leaf in jax.tree.leaves(params) if isinstance(leaf, Tracer)]
        flat, _ = params
        match self.mode(flat.size, sum(traced)):
            case "forward":
                return integrate(params, times, system)
            case "reverse":
                return integrate_reverse((params, times, system), dfx.RecursiveCheckpointAdjoint())
            case _:
                return integrate_reverse((params, times, system), dfx.BacksolveAdjoint())

    def mode(self, states: int, parameters: int) -> Sensitivity:
        """Return the sensitivity mode taken for that many states and differentiable numbers, initial state included."""
        if self.sensitivity != "auto":
            return self.sensitivity
        return "forward" if states * parameters <= CROSSOVER else "reverse"

    def _flat_event(
        self, field: Callable, args: PyTree, t0: Real, flat: Array, unravel: Callable[[Array], PyTree]
    ) -> dfx.Event | None:
        """Return the event on the flat state, each of its conditions a module that holds the arrays it uses."""
        if self.event is None:
            return None
        context = {
            "terms": dfx.ODETerm(field),
            "solver": self.solver,
            "stepsize_controller": self.controller,
            "max_steps": self.max_steps,
        }

        def convert(condition: Callable) -> _Condition:
            return _Condition(_convert(lambda t, y: condition(t, unravel(y), args, **context), t0, flat))

        conditions = jax.tree.map(convert, self.event.cond_fn, is_leaf=callable)
        return dfx.Event(conditions, self.event.root_finder, self.event.direction)


class _Field(eqx.Module):
    """``f(t, y, (y0, theta))`` of a closure-converted right-hand side whose float constants are ``theta``."""

    fixed: Callable[..., Array]

    def __call__(self, t: Real, y: Array, params: PyTree) -> Array:
        _, theta = params
        return eqx.combine(theta, self.fixed)(t, y)


class _Condition(eqx.Module):
    """An event's condition ``c(t, y)``, called as Diffrax calls it."""

    converted: Callable[..., Array]

    def __call__(self, t: Real, y: Array, args: Any, **_: Any) -> Array:
        del args
        return self.converted(t, y)


def _structured(norm: Callable, unravel: Callable[[Array], PyTree]) -> Callable:
    """Return the norm for a flat state; the default one needs no structure."""
    return norm if norm is optx.rms_norm else lambda y: norm(unravel(y))


def _first(params: PyTree) -> Array:
    return params[0]


class _Converted(eqx.Module):
    """A traced function of time and state whose constants are leaves.

    Equinox's closure conversion insists on the very avals that it was traced with, which differ inside `jax.shard_map`.
    """

    jaxpr: Jaxpr
    consts: list[Array]

    def __call__(self, t: Real, y: Array) -> Array:
        (out,) = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, self.consts))(jnp.asarray(t, y.dtype), y)
        return out


def _convert(function: Callable, t: Real, y: Array) -> _Converted:
    """Make the arrays that `function` closes over, NumPy's too, leaves of a PyTree."""
    closed = jax.make_jaxpr(function)(jnp.asarray(t, y.dtype), y)
    return _Converted(closed.jaxpr, [jnp.asarray(x) for x in closed.consts])


def _interval(
    t0: Real | None, t1: Real | None, ts: Any, dt0: Real | None, dtype: Any, in_order: bool
) -> Times | KnownTimes:
    """Return times in the state's precision; known ones are checked, and stay NumPy arrays."""
    if ts is None and (t0 is None or t1 is None):
        msg = "ODE needs times: give `ts=` (when to save), or `t0=` and `t1=`."
        raise InputError(msg)
    times = _known(t1, dtype)[None] if ts is None else _known(ts, dtype)
    if times.ndim != 1 or times.size == 0:
        msg = f"`ts` must be a non-empty vector of times; its shape is {times.shape}."
        raise InputError(msg)
    start, end = _known(times[0] if t0 is None else t0, dtype), _known(times[-1] if t1 is None else t1, dtype)
    if any(isinstance(t, Tracer) for t in (start, end, times, dt0)):
        return Times(start, end, times, in_order)
    _check_times(start, end, times, dt0)
    return KnownTimes(Times(start, end, times))


def _known(t: Any, dtype: Any) -> Any:
    convert = jnp.asarray if isinstance(t, Tracer) else np.asarray
    return convert(t, dtype=dtype)


def _check_times(t0: np.ndarray, t1: np.ndarray, ts: np.ndarray, dt0: Real | None) -> None:
    low, high = min(t0, t1), max(t0, t1)
    if dt0 is not None and (t1 - t0) * dt0 < 0:
        msg = f"dt0={dt0:g} leads from t0={t0:g} away from t1={t1:g}: give it the other sign."
        raise InputError(msg)
    if np.isnan([t0, t1, *ts]).any():
        msg = f"A time is NaN: t0={t0:g}, t1={t1:g}, and {np.isnan(ts).sum()} of {ts.size} save times."
        raise InputError(msg)
    if not np.all(np.diff(ts) * (1.0 if t1 >= t0 else -1.0) >= 0):
        msg = f"`ts` must be in order from t0={t0:g} to t1={t1:g}: sort them."
        raise InputError(msg)
    outside = ts[~((ts >= low) & (ts <= high))]
    if outside.size:
        msg = (
            f"{outside.size} of {ts.size} save times lie outside the solve interval [{low:g}, {high:g}], the first at "
            f"{outside[0]:g}: widen the interval (`t0=`, `t1=`) or drop those times."
        )
        raise InputError(msg)


def flatten_state(y0: PyTree) -> tuple[Array, Callable[[Array], PyTree]]:
    """Return the state as a vector, once it is known to hold real numbers, and the way back."""
    leaves = jax.tree.leaves(y0)
    if not leaves:
        msg = "`y0` is empty: an ODE needs at least one state."
        raise InputError(msg)
    dtypes = [np.result_type(leaf) if isinstance(leaf, float) else getattr(leaf, "dtype", None) for leaf in leaves]
    if not all(dtype is not None and jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
        kinds = ", ".join(sorted({str(getattr(leaf, "dtype", type(leaf).__name__)) for leaf in leaves}))
        msg = f"`y0` must hold real floating-point arrays; got {kinds}. Write 1.0 rather than 1."
        raise InputError(msg)
    dtype = np.result_type(*dtypes)
    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), y0))
    return flat, lambda y: jax.tree.map(lambda part, leaf: part.astype(jnp.result_type(leaf)), unravel(y), y0)


def flatten_slope(slope: PyTree, y0: PyTree, dtype: Any) -> Array:
    """Return the right-hand side's value as a vector, once it is known to match the state."""
    got, expected = (jax.tree.map(jnp.shape, tree) for tree in (slope, y0))
    if jax.tree.structure(slope) != jax.tree.structure(y0) or got != expected:
        msg = (
            f"The right-hand side returned shape {got} for a state of shape {expected}: return one slope for each "
            "state, in the same structure."
        )
        raise InputError(msg)
    return jnp.concatenate([jnp.ravel(leaf).astype(dtype) for leaf in jax.tree.leaves(slope)])


_STEPS = (
    "The ODE solve failed: the maximum number of steps was reached. If the problem is stiff, use an implicit solver, "
    "`ODE(diffrax.Kvaerno5())`; if the right-hand side returns NaN or blows up, check parameters and initial state; "
    "otherwise raise `max_steps`."
)
_OTHER = (
    "The ODE solve failed before its end. See `.result` (with `throw=False`) for Diffrax's reason; smaller tolerances "
    "or another solver may help."
)


def _raise_on_failure(trajectory: Trajectory) -> Trajectory:
    steps = trajectory.result == dfx.RESULTS.max_steps_reached
    y1 = eqx.error_if(trajectory.y1, steps, _STEPS)
    y1 = eqx.error_if(y1, ~(steps | trajectory.ok), _OTHER)
    return eqx.tree_at(lambda out: out.y1, trajectory, y1)

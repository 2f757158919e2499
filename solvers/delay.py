r"""Delay differential equations with one constant delay, by the method of steps.

With time in units of the delay, :math:`t = t_0 + u\tau`, the equation reads

    dy/du = F(u, y(u), y(u - 1), p),   y(0) = g(p),   y(u) = H(u, p) for u < 0,   F = τ f,

and the delay is one among the parameters p of F. Stage k, u from k to k + 1, is an ordinary equation in which the
delayed state is known: the solver's own dense output of stage k - 1. Slopes jump at u = 0, and the jump goes on, one
derivative higher each time, to u = 1, 2, …: to the ends of stages, where the solver starts afresh, so no step goes
across one.

The sensitivities ``S_j = ∂y/∂p_j``, u held, obey a delay equation of the same form,

    dS_j/du = F_y S_j + F_d S_j(u - 1) + F_pj,   S_j(0) = ∂g/∂p_j,   S_j(u) = ∂H/∂p_j for u < 0,

integrated beside the state, as in `sciad.solvers.sensitivity`. A save time t is at ``u = (t - t0)/τ``, which moves with
the delay: that adds ``F du``.

Source: A. Bellen and M. Zennaro, *Numerical Methods for Delay Differential Equations* (2003), chapters 3 and 5.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from sciad._errors import InputError, OptionError
from sciad._text import is_concrete
from sciad._typing import Real
from sciad.solvers.ode import ODE, ODESolution, flatten_slope, flatten_state
from sciad.solvers.sensitivity import FORWARD, System, Times, batch_first, pushed, rowwise, scales
from sciad.solvers.simultaneous import factorise_once

SHARE, FEWEST = 8, 64  # one delay may take an eighth of all steps: dense output of so many is kept, and always of 64
FAILED = (
    "The delay equation was not solved: the steps in one delay, or in all, ran out. If the problem is stiff, use an "
    "implicit solver, `ODE(diffrax.Kvaerno5())` (for values alone); if the delay is a tiny part of the interval, or if "
    "it is zero or negative, bound it from below; otherwise raise `max_steps`, of which one delay may take an eighth."
)


class DDE(eqx.Module):
    r"""Solver of :math:`\dot y = f(t, y(t), y(t - \tau))` with one constant delay.

    Differentiable in :math:`\tau`, in :math:`y(t_0)` and in all that :math:`f` and the history hold, by forward
    sensitivities: any order of derivative, forward or reverse. Cost grows in proportion to the number of delays in the
    interval, and to the number of parameters.

    Parameters
    ----------
    ode
        Method, tolerances and steps. `ODE.max_steps` holds for the whole solve; one delay may take an eighth.

    Raises
    ------
    OptionError
        For an `ODE` with an event, without `max_steps`, or with a sensitivity other than "forward" or "auto".

    Examples
    --------
    For :math:`\dot y = -y(t - 1)`, y = 1 before, the solution is :math:`1 - t` up to 1, then
    :math:`1 - t + (t - 1)^2/2`:

    >>> import jax, jax.numpy as jnp
    >>> jax.config.update("jax_enable_x64", True)
    >>> solve = DDE(ODE(rtol=1e-9, atol=1e-9))
    >>> solution = solve(lambda t, y, delayed, args: -delayed, jnp.array(1.0), delay=1.0, ts=jnp.array([0.0, 1.0, 2.0]))
    >>> abs(solution.ys).round(6).tolist()
    [1.0, 0.0, 0.5]
    """

    ode: ODE

    def __init__(self, ode: ODE | None = None) -> None:
        self.ode = ODE() if ode is None else ode
        if self.ode.event is not None:
            msg = "A delay equation is solved to its end: leave `event` out of the ODE."
            raise OptionError(msg)
        if self.ode.sensitivity not in ("auto", "forward"):
            msg = f"ODE(sensitivity={self.ode.sensitivity!r}): a delay equation has forward sensitivities alone, for "
            msg += "forward and reverse derivatives alike. Leave `sensitivity` out."
            raise OptionError(msg)
        if self.ode.max_steps is None:
            msg = "ODE(max_steps=None): a delay equation keeps its steps. Give their number, such as max_steps=4096."
            raise OptionError(msg)

    def __call__(
        self,
        field: Callable[..., PyTree],
        y0: PyTree,
        *,
        delay: Real,
        history: Callable[..., PyTree] | None = None,
        args: PyTree = None,
        ts: Float[ArrayLike, " times"],
        t0: Real | None = None,
        throw: bool = True,
    ) -> ODESolution:
        """Solve ``dy/dt = field(t, y, delayed, args)`` from ``y(t0) = y0``, ``delayed`` being ``y(t - delay)``.

        Parameters
        ----------
        field
            Right-hand side; returns the structure and shapes of ``y0``. May close over arrays, traced ones included.
        y0
            State at `t0`, a PyTree of float arrays.
        delay
            τ > 0. Where it is not, traced, the solve is not ok.
        history
            ``history(t, args)``, the state before `t0`; default: ``y0``, held constant.
        args
            Passed to `field` and `history`.
        ts
            Times at which to save, at or after `t0`, in any order.
        t0
            Where the history ends; default: the first of `ts`.
        throw
            Raise if the solve fails; otherwise see `ODESolution.ok`. Derivatives of a failed solve are zero.

        Raises
        ------
        InputError
            Wrong shapes or structure, a delay that is not positive, or times before `t0`.
        OptionError
            A derivative with respect to a setting, or by an implicit method, was asked for.
        equinox.EquinoxRuntimeError
            The solve failed and `throw` is true.
        """
        flat, unravel = flatten_state(y0)
        _check(delay, ts, t0)
        ts = jnp.asarray(ts, flat.dtype)
        t0 = jnp.asarray(ts[0] if t0 is None else t0, flat.dtype)
        tau = jnp.asarray(delay, flat.dtype)
        positive = tau > 0
        tau = jnp.where(positive, tau, 1.0)

        def scaled(u: Array, y: Array, delayed: Array) -> Array:
            slope = field(t0 + u * tau, unravel(y), unravel(delayed), args)
            return tau * flatten_slope(slope, y0, y.dtype)

        def before(u: Array, history: Callable) -> Array:
            return flatten_slope(history(t0 + u * tau, args), y0, flat.dtype)

        past = None if history is None else partial(before, history=history)
        params, system = self._system(scaled, past, flat)
        course = integrate(params, jnp.where(positive, (ts - t0) / tau, jnp.nan), system)
        ys = course.ys
        if throw:
            ys = eqx.error_if(ys, ~course.ok, FAILED)
        states = jax.vmap(unravel)(ys)
        y1 = jax.tree.map(lambda y: y[-1], states)
        return ODESolution(ts, states, ts[-1], y1, None, course.result, course.stats)

    def _system(self, scaled: Callable, before: Callable | None, flat: Array) -> tuple[PyTree, "DelaySystem"]:
        """Find the arrays that the equation uses: these and no others are pushed through it."""
        time = jnp.zeros((), flat.dtype)
        field = jax.make_jaxpr(scaled)(time, flat, flat)
        past = jax.make_jaxpr(before or (lambda u: u))(time)
        # What both hold, the delay for one, is one parameter and not two.
        consts = list({id(x): x for x in (*field.consts, *past.consts)}.values())
        places = [[i for c in closed.consts for i, x in enumerate(consts) if x is c] for closed in (field, past)]
        theta, fixed = eqx.partition([jnp.asarray(x) for x in consts], eqx.is_inexact_array)
        ode, dt0 = self.ode, self.ode.dt0
        assert ode.max_steps is not None
        return (flat, theta), DelaySystem(
            start=_first,
            history=_held if before is None else _Converted(past.jaxpr, tuple(places[1]), fixed),
            field=_Converted(field.jaxpr, tuple(places[0]), fixed),
            solver=ode.solver,
            controller=ode.controller,
            dt0=None if dt0 is None else jax.lax.stop_gradient(jnp.asarray(dt0, flat.dtype)),
            max_steps=ode.max_steps,
            control_sensitivities=ode.control_sensitivities,
        )


def _check(delay: Any, ts: Any, t0: Any) -> None:
    """Check shapes, and values where they are not traced."""
    if np.ndim(delay):
        msg = f"The delay has shape {np.shape(delay)}; expected one number."
        raise InputError(msg)
    if is_concrete(delay) and not np.asarray(delay) > 0:
        msg = f"The delay is {float(delay):g}; expected a positive number, in units of time."
        raise InputError(msg)
    if np.ndim(ts) != 1 or np.size(ts) == 0:
        msg = f"`ts` must be a non-empty vector of times; its shape is {np.shape(ts)}."
        raise InputError(msg)
    begin = ts[0] if t0 is None else t0
    if is_concrete(ts) and is_concrete(begin) and not np.all(np.asarray(ts) >= np.asarray(begin)):
        msg = f"`ts` begins at {np.min(ts):g}, before t0={float(begin):g}: what was then is the history."
        raise InputError(msg)


class DelaySystem(eqx.Module):
    """``start(p)``, ``history(u, p)``, ``field(u, y, delayed, p)`` on a flat state, and how to integrate them."""

    start: Callable[[PyTree], Array]
    history: Callable[..., Array]
    field: Callable[..., Array]
    solver: dfx.AbstractSolver
    controller: dfx.AbstractStepSizeController
    dt0: Real | None
    max_steps: int = eqx.field(static=True)
    control_sensitivities: bool = eqx.field(static=True)


class Course(eqx.Module):
    """``ys`` at the points asked for: infinite where the solve did not get to."""

    ys: Float[Array, "points n"]
    result: dfx.RESULTS
    stats: dict[str, Any]

    @property
    def ok(self) -> Bool[Array, ""]:
        """Whether the solve reached all points, with finite values."""
        return dfx.is_okay(self.result) & jnp.all(jnp.isfinite(self.ys))


class _Converted(eqx.Module):
    """A traced function of u and states, whose float constants are among the parameters ``(y0, theta)``."""

    jaxpr: Jaxpr
    places: tuple[int, ...] = eqx.field(static=True)
    fixed: list[Array | None]

    def __call__(self, *arguments_and_params: Any) -> Array:
        *arguments, (_, theta) = arguments_and_params
        consts = eqx.combine(theta, self.fixed)
        closed = ClosedJaxpr(self.jaxpr, [consts[i] for i in self.places])
        (out,) = jaxpr_as_fun(closed)(*arguments)
        return out


def _first(params: PyTree) -> Array:
    return params[0]


def _held(u: Real, params: PyTree) -> Array:
    del u
    return params[0]


# --- the method of steps ---------------------------------------------------------------------------------------------


@eqx.filter_custom_jvp
def integrate(params: PyTree, us: Float[Array, " points"], system: DelaySystem) -> Course:
    """Solve the system up to the last of the points `us`, in units of the delay; differentiable in `params` and `us`.

    The number of stages is found on the way: the loop over them is not differentiated.
    """
    start, end = system.start(params), jnp.max(us)
    stage = _Stage(params, end, system)
    unknown = eqx.filter_eval_shape(stage, jnp.zeros_like(end), start, lambda s: system.history(s - 1, params))
    like, fixed = eqx.partition(unknown[0], lambda x: isinstance(x, jax.ShapeDtypeStruct))
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)

    def going(state: tuple) -> Bool[Array, ""]:
        k, *_, result, steps = state
        return (k < end) & dfx.is_okay(result) & (steps < system.max_steps)

    def advance(state: tuple) -> tuple:
        k, y, past, ys, _, steps = state
        past = eqx.combine(past, fixed)

        def delayed(s: Real) -> Array:
            return jnp.where(k == 0, system.history(s - 1, params), _evaluated(past, s))

        dense, y, result, taken = stage(k, y, delayed)
        here = (us > k) & (us <= k + 1) & dfx.is_okay(result)
        places = jnp.clip(us - k, 0.0, jnp.minimum(end - k, 1.0))
        ys = jnp.where(here[:, None], jax.vmap(lambda s: _evaluated(dense, s))(places), ys)
        return k + 1, y, eqx.filter(dense, eqx.is_array), ys, result, steps + taken

    ys = jnp.where((us <= 0)[:, None], start, jnp.inf)
    begin = (jnp.zeros_like(end), start, blank, ys, dfx.RESULTS.successful, jnp.array(0))
    k, _, _, ys, result, steps = jax.lax.while_loop(going, advance, begin)
    short = dfx.is_okay(result) & ~(k >= end)
    result = dfx.RESULTS.where(short, dfx.RESULTS.max_steps_reached, result)
    return batch_first(Course(ys, result, {"num_steps": steps, "num_delays": k}))


def _evaluated(dense: dfx.DenseInterpolation, s: Real) -> Array:
    """Return the dense output at s, and beyond its end the last step's polynomial.

    Kvaerno's methods look at ``t + 1.23 h`` within a step. In the last of a stage that is beyond the kink, where their
    order asks for the smooth continuation, and not for what the solution does there.
    """
    last = jnp.asarray(dense.ts_size) - 2
    i = jnp.clip(jnp.searchsorted(dense.ts, s).astype(last.dtype) - 1, 0, last)
    step = jax.tree.map(lambda x: x[i], dense.infos)
    states: Any = dense.interpolation_cls(t0=dense.ts[i], t1=dense.ts[i + 1], **step).evaluate(s)
    return states


class _Stage(eqx.Module):
    """The solve of one stage, from a state at s = 0 with the delayed state as a function of s."""

    params: PyTree
    end: Array
    system: DelaySystem

    def __call__(self, k: Array, y: Array, delayed: Callable[[Real], Array]) -> tuple[Any, Array, dfx.RESULTS, Array]:
        system, stop = self.system, jnp.clip(self.end - k, 0.0, 1.0)
        solution = dfx.diffeqsolve(
            dfx.ODETerm(lambda s, y, params: system.field(k + s, y, delayed(s), params)),
            system.solver,
            jnp.zeros_like(stop),
            stop,
            system.dt0,
            y,
            args=self.params,
            saveat=dfx.SaveAt(t1=True, dense=True),
            stepsize_controller=system.controller,
            adjoint=FORWARD,
            max_steps=min(max(system.max_steps // SHARE, FEWEST), system.max_steps),
            throw=False,
        )
        states: Any = solution.ys
        return solution.interpolation, states[-1], solution.result, solution.stats["num_steps"]


# --- its derivative --------------------------------------------------------------------------------------------------


@integrate.def_jvp
def _integrate_jvp(primals: tuple, tangents: tuple) -> tuple[Course, Course]:
    params, us, system = primals
    dparams, dus, dsystem = tangents
    if jax.tree.leaves(dsystem):
        msg = "A derivative with respect to a setting of the solver was asked for, and delay equations have none. Hold "
        msg += "it constant (`jax.lax.stop_gradient`)."
        raise OptionError(msg)
    if isinstance(system.solver, dfx.AbstractImplicitSolver):
        # The slopes at save times multiply the state's error by the stiffness, and kinks spoil the dense output.
        msg = "Derivatives of delay equations are not to be trusted with implicit methods such as "
        msg += f"{type(system.solver).__name__}. Take an explicit one, `ODE(diffrax.Tsit5())`, with smaller steps."
        raise OptionError(msg)
    mask = jax.tree.map(lambda d: d is not None, dparams, is_leaf=lambda x: x is None)
    # Slopes at the points need the states one delay before; asked for as points, these have derivatives themselves.
    points = us if dus is None else jnp.concatenate([us, jnp.maximum(us - 1, 0.0)])
    course, sensitivities, scale = _augmented(params, mask, points, system)
    direction = pushed(dparams, mask, scale.dtype)[0] / scale
    ys, n = course.ys[: us.size], us.size
    dys = jnp.einsum("tpn,p->tn", sensitivities[:n], direction)
    if dus is not None:
        before = jax.vmap(lambda u: system.history(u, params))(jnp.minimum(us - 1, 0.0))
        delayed = jnp.where((us < 1)[:, None], before, course.ys[n:])
        good = course.ok
        states = jnp.where(good, ys, system.start(params))
        delayed = jnp.where(good, delayed, system.start(params))
        slopes = jax.vmap(system.field, in_axes=(0, 0, 0, None))(us, states, delayed, params)
        dys = dys + jnp.where(good, slopes * dus[:, None], 0.0)
    course = Course(ys, course.result, course.stats)
    no_tangent = jax.tree.map(lambda _: None, course)
    return batch_first((course, eqx.tree_at(lambda c: c.ys, no_tangent, dys, is_leaf=lambda x: x is None)))


def _augmented(
    params: PyTree, mask: PyTree, points: Array, system: DelaySystem
) -> tuple[Course, Float[Array, "points p n"], Float[Array, " p"]]:
    """Solve for ``y`` and all ``s_j S_j``, with their scales ``s``; these are zero, never NaN, in a failed solve."""
    n = jax.eval_shape(system.start, params).size
    scale = jax.lax.stop_gradient(_sizes(params, mask, points, system))
    augmented = DelaySystem(
        start=_Augmented(system.start, mask, scale, n),
        history=_Augmented(system.history, mask, scale, n),
        field=_Augmented(system.field, mask, scale, n),
        solver=factorise_once(system.solver, n),
        controller=rowwise(system.controller, n, every_row=system.control_sensitivities),
        dt0=system.dt0,
        max_steps=system.max_steps,
        control_sensitivities=system.control_sensitivities,
    )
    course = integrate(params, points, augmented)
    rows = course.ys.reshape(len(points), -1, n)
    return Course(rows[:, 0], course.result, course.stats), jnp.where(course.ok, rows[:, 1:], 0.0), scale


class _Augmented(eqx.Module):
    """A function of states and parameters, and in rows below its value the derivatives by each scaled parameter.

    States come as rows too, and are differentiated through: ``F_y S_j + F_d S_j(u - 1) + s_j F_pj``.
    """

    function: Callable[..., Array]
    mask: PyTree = eqx.field(static=True)
    scale: Array
    n: int = eqx.field(static=True)

    def __call__(self, *arguments_and_params: Any) -> Array:
        *arguments, params = arguments_and_params
        time, states = arguments[:1], [z.reshape(-1, self.n) for z in arguments[1:]]
        flat, whole = pushed(params, self.mask, self.scale.dtype)
        value, pushforward = jax.linearize(
            lambda p, *states: self.function(*time, *states, whole(p)), flat, *(rows[0] for rows in states)
        )
        slopes = jax.vmap(pushforward)(jnp.diag(self.scale), *(rows[1:] for rows in states))
        return jnp.concatenate([value[None], slopes]).reshape(-1)


def _sizes(params: PyTree, mask: PyTree, points: Array, system: DelaySystem) -> Array:
    """Return sizes of the parameters, judged by start and slope at u = 0; see `scales`."""
    zero = jnp.zeros_like(points[0])
    first = System(
        start=system.start,
        field=lambda u, y, p: system.field(u, y, system.history(u - 1, p), p),
        solver=system.solver,
        controller=system.controller,
        dt0=None,
        event=None,
        max_steps=None,
        control_sensitivities=True,
    )
    end = jnp.max(points)
    return scales(params, mask, Times(zero, jnp.where(jnp.isfinite(end), end, 1.0), points), first)

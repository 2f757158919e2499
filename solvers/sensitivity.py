"""Derivatives of an ODE's solution by the sensitivity equations.

Differentiating a solver's loop costs many times the solve. But the derivative of the solution is itself the solution
of an ODE: for ``dy/dt = f(t, y, p)``, ``y(t0) = g(p)`` the sensitivities ``S_j = ∂y/∂p_j`` obey

    dS_j/dt = (∂f/∂y) S_j + ∂f/∂p_j,        S_j(t0) = ∂g/∂p_j,

so state and sensitivities are integrated side by side, by the same solver under the same error control. The rule below
is a JVP rule whose output is linear in the tangents, ``dy = Σ_j S_j dp_j``. It therefore transposes (reverse mode),
batches, and, since the sensitivity system is again solved by `integrate`, differentiates to any order.

Source: A. C. Hindmarsh et al., *SUNDIALS*, ACM TOMS 31 (2005), section 2.5 (simultaneous corrector, scaled tolerances).
"""

from collections.abc import Callable
from typing import Any, cast

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from sciad._errors import OptionError
from sciad._typing import Real
from sciad.solvers.callbacks import without_runtime_errors
from sciad.solvers.elimination import by_elimination
from sciad.solvers.one_kernel import in_one_kernel
from sciad.solvers.simultaneous import factorise_once

FORWARD = dfx.ForwardMode()  # a plain while loop: right for every solve that is not itself differentiated


class Times(eqx.Module):
    """Interval and save times, in the units of the problem; `t1` and `ts` may carry tangents.

    Times `in_order` need no check at run time: they come from what was checked before.
    """

    t0: Real
    t1: Real
    ts: Float[Array | np.ndarray, " times"]
    in_order: bool = eqx.field(static=True, default=False)


class KnownTimes:
    """Times known while tracing, kept from becoming traced arrays: Diffrax then needs no check of them at run time."""

    def __init__(self, times: Times) -> None:
        self.times = times


class System(eqx.Module):
    """An initial value problem on a flat state: ``start(p)``, ``field(t, y, p)``, and how to integrate it."""

    start: Callable[[PyTree], Array]
    field: Callable[[Real, Array, PyTree], Array]
    solver: dfx.AbstractSolver
    controller: dfx.AbstractStepSizeController
    dt0: Real | None
    event: dfx.Event | None  # its conditions are modules that hold all they need, called as ``(t, y, None)``
    max_steps: int | None = eqx.field(static=True)
    control_sensitivities: bool = eqx.field(static=True)


class Trajectory(eqx.Module):
    """``ys`` at the save times; ``y1`` where the solve ended, at ``t1`` (earlier than asked if an event struck)."""

    ys: Float[Array, "times n"]
    y1: Float[Array, " n"]
    t1: Float[Array, ""]
    event: PyTree[Bool[Array, ""]]
    result: dfx.RESULTS
    stats: dict[str, Any]

    @property
    def ok(self) -> Bool[Array, ""]:
        """Whether the solve reached its end or an event, with finite values."""
        return dfx.is_okay(self.result) & jnp.all(jnp.isfinite(self.y1))


def diffeqsolve(params: PyTree, times: Times | KnownTimes, system: System, adjoint: dfx.AbstractAdjoint) -> Trajectory:
    """Solve the system by one call of Diffrax, differentiated as `adjoint` says."""
    if not (isinstance(times, KnownTimes) or times.in_order):
        return _diffeqsolve(params, times, system, adjoint)
    if adjoint is FORWARD:
        system = eqx.tree_at(lambda s: s.solver, system, by_elimination(system.solver))
    known = times.times if isinstance(times, KnownTimes) else None  # NumPy's arrays, which become constants
    dynamic, static = eqx.partition((params, times if known is None else None, system), eqx.is_array)

    def solve(dynamic: PyTree) -> Trajectory:
        params, moving, system = eqx.combine(dynamic, static)
        return _diffeqsolve(params, moving if known is None else known, system, adjoint)

    return in_one_kernel(solve, dynamic) if adjoint is FORWARD else without_runtime_errors(solve, dynamic)


def _diffeqsolve(params: PyTree, times: Times, system: System, adjoint: dfx.AbstractAdjoint) -> Trajectory:
    if system.event is None:
        save = dfx.SaveAt(ts=_append(times.ts, times.t1))
    else:
        save = dfx.SaveAt(subs=[dfx.SubSaveAt(ts=cast(Array, times.ts)), dfx.SubSaveAt(t1=True)])
    solution = dfx.diffeqsolve(
        dfx.ODETerm(system.field),
        system.solver,
        times.t0,
        times.t1,
        system.dt0,
        system.start(params),
        args=params,
        saveat=save,
        stepsize_controller=system.controller,
        adjoint=adjoint,
        event=system.event,
        max_steps=system.max_steps,
        throw=False,
    )
    saved: Any = (solution.ts, solution.ys)
    if system.event is None:
        ys, y1, t1 = saved[1][:-1], saved[1][-1], jnp.asarray(times.t1)
    else:
        (_, (t1,)), (ys, (y1,)) = saved
    return Trajectory(ys, y1, t1, solution.event_mask, solution.result, solution.stats)


# --- forward: the sensitivity equations ------------------------------------------------------------------------------


@eqx.filter_custom_jvp
def integrate(params: PyTree, times: Times | KnownTimes, system: System) -> Trajectory:
    """Solve the system; differentiable in `params`, ``times.t1``, ``times.ts`` and what the event's conditions hold."""
    return batch_first(diffeqsolve(params, times, system, FORWARD))


@integrate.def_jvp
def _integrate_jvp(primals: tuple, tangents: tuple) -> tuple[Trajectory, Trajectory]:
    params, given, system = primals
    dparams, dgiven, dsystem = tangents
    times = _plain(given)
    dt0, dt1, dts = (None, None, None) if times is not given else (dgiven.t0, dgiven.t1, dgiven.ts)
    dsettings = eqx.tree_at(lambda s: s.event, dsystem, None, is_leaf=_is_none)
    if jax.tree.leaves((dt0, dsettings)):
        msg = (
            "A derivative with respect to t0, a tolerance or a setting of the ODE solver was asked for, and forward "
            "sensitivities have none. Hold it constant (`jax.lax.stop_gradient`), or choose `sensitivity='reverse'`."
        )
        raise OptionError(msg)
    mask = jax.tree.map(lambda d: d is not None, dparams, is_leaf=_is_none)
    trajectory, ys_s, y1_s, scale = _augmented(params, mask, given, system)
    direction = pushed(dparams, mask, scale.dtype)[0] / scale
    dys = jnp.einsum("tpn,p->tn", ys_s, direction)
    dt1, dy1 = _end(trajectory, jnp.einsum("pn,p->n", y1_s, direction), dt1, params, system, dsystem)
    if dts is not None:
        there = jnp.isfinite(trajectory.ys)
        states = jnp.where(there, trajectory.ys, system.start(params))
        slopes = jax.vmap(system.field, in_axes=(0, 0, None))(times.ts, states, params)
        dys = dys + jnp.where(there, slopes, 0.0) * dts[:, None].astype(dys.dtype)
    no_tangent = jax.tree.map(lambda _: None, trajectory)
    tangent = eqx.tree_at(lambda out: (out.ys, out.y1, out.t1), no_tangent, (dys, dy1, dt1), is_leaf=_is_none)
    return batch_first((trajectory, tangent))


def _augmented(
    params: PyTree, mask: PyTree, times: Times | KnownTimes, system: System
) -> tuple[Trajectory, Array, Array, Array]:
    """Solve for ``y`` and all ``s_j S_j``, with their scales ``s``; these are zero, never NaN, in a failed solve."""
    state = jax.eval_shape(system.start, params)
    n = state.size
    scale = jax.lax.stop_gradient(scales(params, mask, _plain(times), system))
    augmented = System(
        start=_AugmentedStart(system.start, mask, scale),
        field=_AugmentedField(system.field, mask, scale, n),
        solver=factorise_once(system.solver, n),
        controller=rowwise(system.controller, n, every_row=system.control_sensitivities),
        dt0=system.dt0,
        event=_on_state(system.event, n),
        max_steps=system.max_steps,
        control_sensitivities=system.control_sensitivities,
    )
    out = integrate(params, times, augmented)
    ys, y1 = out.ys.reshape(len(_plain(times).ts), -1, n), out.y1.reshape(-1, n)
    trajectory = Trajectory(ys[:, 0], y1[0], out.t1, out.event, out.result, out.stats)
    there = jnp.isfinite(ys[:, :1]) & trajectory.ok  # not so where an event came before a save time
    ys_s, y1_s = jnp.where(there, ys[:, 1:], 0.0), jnp.where(trajectory.ok, y1[1:], 0.0)
    return trajectory, ys_s, y1_s, scale


def scales(params: PyTree, mask: PyTree, times: Times, system: System) -> Array:
    """Return sizes s_j of the parameters, such that one absolute tolerance suits the state and all ``s_j S_j``.

    That is |p_j|, unless it is small beside a change that would move the state by its own size, judged by start and
    slope at t0: a parameter may be near zero by chance, and its sensitivity is then no smaller.
    """
    state = jax.eval_shape(system.start, params)
    flat, whole = pushed(params, mask, state.dtype)
    t0 = jnp.asarray(times.t0, state.dtype)
    start, push_start = jax.linearize(lambda p: system.start(whole(p)), flat)
    _, push_slope = jax.linearize(lambda p: system.field(t0, start, whole(p)), flat)
    each = jnp.eye(flat.size, dtype=flat.dtype)
    moved = jnp.abs(jax.vmap(push_start)(each)) + jnp.abs((times.t1 - t0) * jax.vmap(push_slope)(each))
    effect, size = jnp.max(moved, axis=1, initial=0.0), jnp.max(jnp.abs(start), initial=0.0)
    wanted = jnp.where(size > 0, size, 1.0) / jnp.where(effect > 0, effect, jnp.inf)
    scale = jnp.maximum(jnp.abs(flat), jnp.minimum(wanted, 1.0))
    return jnp.where(jnp.isfinite(scale) & (scale > 0), scale, 1.0)


class _AugmentedStart(eqx.Module):
    """Rows ``g(p)`` and ``|p_j| ∂g/∂p_j``."""

    start: Callable[[PyTree], Array]
    mask: PyTree = eqx.field(static=True)
    scale: Array

    def __call__(self, params: PyTree) -> Array:
        flat, whole = pushed(params, self.mask, self.scale.dtype)
        start, pushforward = jax.linearize(lambda p: self.start(whole(p)), flat)
        return jnp.concatenate([start[None], jax.vmap(pushforward)(jnp.diag(self.scale))]).reshape(-1)


class _AugmentedField(eqx.Module):
    """Rows ``f`` and ``(∂f/∂y) S_j + |p_j| ∂f/∂p_j``."""

    field: Callable[[Real, Array, PyTree], Array]
    mask: PyTree = eqx.field(static=True)
    scale: Array
    n: int = eqx.field(static=True)

    def __call__(self, t: Real, z: Array, params: PyTree) -> Array:
        rows = z.reshape(-1, self.n)
        y, sensitivities = rows[0], rows[1:]
        flat, whole = pushed(params, self.mask, z.dtype)

        def field(p: Array, y: Array) -> Array:
            return self.field(t, y, whole(p))

        # Two ways to the same slopes: P pushforwards give the products, n pullbacks both Jacobians whole. A pullback
        # costs about as much as a few pushforwards, and the products then are matrix products.
        if self.scale.size <= 4 * self.n:
            slope, pushforward = jax.linearize(field, flat, y)
            slopes = jax.vmap(pushforward)(jnp.diag(self.scale), sensitivities)
        else:
            slope, pullback = jax.vjp(field, flat, y)
            jacobian_p, jacobian_y = jax.vmap(pullback)(jnp.eye(self.n, dtype=z.dtype))
            slopes = sensitivities @ jacobian_y.T + self.scale[:, None] * jacobian_p.T
        return jnp.concatenate([slope[None], slopes]).reshape(-1)


def _end(
    trajectory: Trajectory, dy1: Array, dt1: Array | None, params: PyTree, system: System, dsystem: PyTree
) -> tuple[Array | None, Array]:
    """Tangents of the end's time and state: the state moves by ``dy + f dt``."""
    if dt1 is None and system.event is None:
        return None, dy1
    t1, ok = trajectory.t1, trajectory.ok
    y1 = jnp.where(ok, trajectory.y1, system.start(params))
    slope = system.field(t1, y1, params)
    dt1 = jnp.zeros_like(t1) if dt1 is None else dt1
    if system.event is not None:
        struck = jnp.any(jnp.stack(jax.tree.leaves(trajectory.event)))
        dt1 = jnp.where(struck, _shift(trajectory, (t1, y1), (slope, dy1), system.event, dsystem.event), dt1)
    dt1 = jnp.where(ok, dt1, 0.0)
    return dt1, dy1 + slope * dt1.astype(slope.dtype)


def _shift(trajectory: Trajectory, at: tuple, slopes: tuple, event: dfx.Event, devent: PyTree) -> Array:
    """Return how an event's time moves, by the implicit function theorem applied to ``c(t, y(t), p) = 0``.

    dt = -(∂c/∂y dy + ∂c/∂p dp) / (∂c/∂y f + ∂c/∂t)
    """
    (t1, y1), (slope, dy1) = at, slopes
    dt1 = jnp.zeros_like(t1)
    if event.root_finder is None:
        return dt1  # the event ends with a step, wherever that is
    conditions, dconditions = (jax.tree.leaves(e.cond_fn, is_leaf=callable) for e in (event, devent))
    for c, dc, hit in zip(conditions, dconditions, jax.tree.leaves(trajectory.event), strict=True):
        if jax.eval_shape(c, t1, y1, None).dtype == jnp.bool_:
            continue
        _, change = eqx.filter_jvp(lambda c, y: c(t1, y, None), (c, y1), (dc, dy1))
        _, rate = jax.jvp(lambda t, y, c=c: c(t, y, None), (t1, y1), (jnp.ones_like(t1), slope))
        dt1 = dt1 - jnp.where(hit, change / jnp.where(hit, rate, 1.0), 0.0).astype(dt1.dtype)
    return dt1


def pushed(params: PyTree, mask: PyTree, dtype: Any) -> tuple[Array, Callable[[Array], PyTree]]:
    """Return the pushed parameters as one vector in the state's dtype, and the way from such a vector to all."""
    moving, held = eqx.partition(params, mask)
    flat, unravel = ravel_pytree(jax.tree.map(lambda x: jnp.asarray(x, dtype), moving))

    def whole(vector: Array) -> PyTree:
        return eqx.combine(jax.tree.map(lambda v, x: v.astype(jnp.result_type(x)), unravel(vector), moving), held)

    return flat.astype(dtype), whole


def rowwise(controller: dfx.AbstractStepSizeController, n: int, *, every_row: bool) -> dfx.AbstractStepSizeController:
    """Take the controller's norm of each row and keep the largest: no row hides behind the others' number."""

    def rowwise(norm: Callable) -> Callable:
        def largest(error: Array) -> Array:
            rows = error.reshape(-1, n)
            return jnp.max(jax.vmap(norm)(rows)) if every_row else norm(rows[0])

        return largest

    return with_norm(controller, rowwise)


def with_norm(
    controller: dfx.AbstractStepSizeController, change: Callable[[Callable], Callable]
) -> dfx.AbstractStepSizeController:
    """Return the controller with its norm, or that of the one it wraps, changed."""

    def is_pid(node: Any) -> bool:
        return isinstance(node, dfx.PIDController)

    def replace(node: Any) -> Any:
        return eqx.tree_at(lambda c: c.norm, node, change(node.norm)) if is_pid(node) else node

    return jax.tree.map(replace, controller, is_leaf=is_pid)


class _OnState(eqx.Module):
    """A condition that watches the state alone of an augmented solve."""

    condition: Callable
    n: int = eqx.field(static=True)

    def __call__(self, t: Real, y: Array, args: Any, **_: Any) -> Array:
        return self.condition(t, y[: self.n], args)


def _on_state(event: dfx.Event | None, n: int) -> dfx.Event | None:
    if event is None:
        return None
    conditions = jax.tree.map(lambda c: _OnState(c, n), event.cond_fn, is_leaf=callable)
    return dfx.Event(conditions, event.root_finder, event.direction)


# --- reverse: the solver's own steps, or the adjoint equation --------------------------------------------------------


@eqx.filter_custom_vjp
def integrate_reverse(problem: tuple[PyTree, Times | KnownTimes, System], adjoint: dfx.AbstractAdjoint) -> Trajectory:
    """Solve the system, differentiated by a reverse adjoint of Diffrax; a failed solve has zero gradient, never NaN."""
    del adjoint  # a solve that is not differentiated takes the fast way
    return batch_first(diffeqsolve(*problem, FORWARD))


@integrate_reverse.def_fwd
def _reverse_fwd(perturbed: PyTree, problem: tuple, adjoint: dfx.AbstractAdjoint) -> tuple[Trajectory, tuple]:
    del perturbed
    trajectory, pullback = eqx.filter_vjp(lambda p, times, system: diffeqsolve(p, times, system, adjoint), *problem)
    return batch_first(trajectory), (trajectory, pullback)


@integrate_reverse.def_bwd
def _reverse_bwd(residuals: tuple, cotangent: PyTree, *_: Any) -> PyTree:
    trajectory, pullback = residuals

    def of_success(x: Array) -> Array:
        return jnp.where(trajectory.ok, x, 0.0)

    outputs = eqx.filter(trajectory, eqx.is_inexact_array)
    cotangent = jax.tree.map(lambda x, c: jnp.zeros_like(x) if c is None else of_success(c), outputs, cotangent)
    return jax.tree.map(of_success, pullback(cotangent))


def batch_first(outputs: PyTree) -> PyTree:
    """Return the same, with the first axis as that of a batch wherever `jax.vmap` put it.

    JAX takes it for granted that a function and its derivative rule put it in the same place. Where they do not, a
    derivative of a computation traced before, in which two batches are nested, is wrong. Reshaping puts it first.
    """

    def first(x: Array) -> Array:
        return jax.lax.reshape(jax.lax.reshape(x, (1, *x.shape)), x.shape)

    return jax.tree.map(lambda x: first(x) if eqx.is_array(x) else x, outputs)


def _plain(times: Times | KnownTimes) -> Times:
    return times.times if isinstance(times, KnownTimes) else times


def _append(ts: Any, t1: Any) -> Any:
    traced = any(isinstance(t, Tracer) for t in (ts, t1))
    return (jnp if traced else np).append(ts, t1)


def _is_none(x: Any) -> bool:
    return x is None

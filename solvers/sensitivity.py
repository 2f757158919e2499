"""Derivatives of an ODE's solution by the sensitivity equations.

Differentiating a solver's loop costs many times the solve. Instead the derivative of the solution is itself the solution
of an ODE: for ``dy/dt = f(t, y, p)``, ``y(t0) = g(p)`` the sensitivities ``S_j = ∂y/∂p_j`` obey

    dS_j/dt = (∂f/∂y) S_j + ∂f/∂p_j,        S_j(t0) = ∂g/∂p_j,

so state and sensitivities are integrated side by side, by the same solver under the same error control. The rule below is
a JVP rule whose output is linear in the tangents, ``dy = Σ_j S_j dp_j``. It therefore transposes (reverse mode), batches,
and, since the sensitivity system is again solved by `integrate`, differentiates to any order.

Source: A. C. Hindmarsh et al., *SUNDIALS*, ACM TOMS 31 (2005), section 2.5 (simultaneous corrector, scaled tolerances).
"""

import functools
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from sciad._typing import Real
from sciad.solvers.callbacks import without_runtime_errors

FORWARD = dfx.ForwardMode()  # a plain while loop: right for every solve that is not itself differentiated


class Times(eqx.Module):
    """Interval and save times, in the units of the problem; `t1` and `ts` may carry tangents."""

    t0: Real
    t1: Real
    ts: Float[Array | np.ndarray, " times"]


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
    event: dfx.Event | None
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


def diffeqsolve(params: PyTree, times: Times | KnownTimes, system: System, adjoint: dfx.AbstractAdjoint) -> Trajectory:
    """Solve the system by one call of Diffrax, differentiated as `adjoint` says."""
    times = _plain(times)
    if system.event is None:
        save = dfx.SaveAt(ts=_append(times.ts, times.t1))
    else:
        save = dfx.SaveAt(subs=[dfx.SubSaveAt(ts=times.ts), dfx.SubSaveAt(t1=True)])
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
    if system.event is None:
        ys, y1, t1 = solution.ys[:-1], solution.ys[-1], jnp.asarray(times.t1)
    else:
        ys, y1, t1 = solution.ys[0], solution.ys[1][0], solution.ts[1][0]
    return Trajectory(ys, y1, t1, solution.event_mask, solution.result, solution.stats)


@eqx.filter_custom_jvp
def integrate(params: PyTree, times: Times | KnownTimes, system: System) -> Trajectory:
    """Solve the system; differentiable in `params`, ``times.t1`` and ``times.ts`` by the sensitivity equations."""
    if not isinstance(times, KnownTimes) or system.dt0 is not None:
        return diffeqsolve(params, times, system, FORWARD)
    dynamic, static = eqx.partition((params, times, system), eqx.is_array)
    return without_runtime_errors(lambda dynamic: diffeqsolve(*eqx.combine(dynamic, static), FORWARD), dynamic)


@integrate.def_jvp
def _integrate_jvp(primals: tuple, tangents: tuple) -> tuple[Trajectory, Trajectory]:
    params, times, system = primals
    dparams, dtimes, dsystem = tangents
    given = times
    times, dtimes = _plain(times), Times(None, None, None) if isinstance(times, KnownTimes) else dtimes
    if jax.tree.leaves((dsystem, dtimes.t0)):
        raise ValueError(
            "A derivative with respect to t0, a tolerance or a setting of the ODE solver was asked for, and forward "
            "sensitivities have none. Hold it constant (`jax.lax.stop_gradient`), or choose `sensitivity='reverse'`."
        )
    mask = jax.tree.map(lambda d: d is not None, dparams, is_leaf=_is_none)
    trajectory, ys_s, y1_s = _augmented(params, mask, given, system)
    direction, _ = ravel_pytree(dparams)
    dys = jnp.einsum("tpn,p->tn", ys_s, direction)
    dt1, dy1 = _end(jnp.einsum("pn,p->n", y1_s, direction), trajectory, params, system, dparams, dtimes.t1)
    if dtimes.ts is not None:
        slopes = jax.vmap(system.field, in_axes=(0, 0, None))(times.ts, trajectory.ys, params)
        dys = dys + jnp.where(jnp.isfinite(slopes), slopes, 0.0) * dtimes.ts[:, None]
    no_tangent = jax.tree.map(lambda _: None, trajectory)
    return trajectory, eqx.tree_at(lambda out: (out.ys, out.y1, out.t1), no_tangent, (dys, dy1, dt1), is_leaf=_is_none)


def _augmented(
    params: PyTree, mask: PyTree, times: Times | KnownTimes, system: System
) -> tuple[Trajectory, Array, Array]:
    """Solve for ``(y, S_1, …, S_P)``; sensitivities of a failed solve are zero, so that no NaN reaches a gradient."""
    pushed, _ = eqx.partition(params, mask)
    flat, _ = ravel_pytree(pushed)
    # Each S_j is integrated in units of y, as |p_j| S_j: one absolute tolerance then suits all rows.
    scale = jax.lax.stop_gradient(jnp.where(flat == 0, 1.0, jnp.abs(flat)))
    n = jax.eval_shape(system.start, params).size
    augmented = System(
        start=_AugmentedStart(system.start, mask, scale),
        field=_AugmentedField(system.field, mask, scale, n),
        solver=system.solver,
        controller=_rowwise(system.controller, n, every_row=system.control_sensitivities),
        dt0=system.dt0,
        event=_on_state(system, n),
        max_steps=system.max_steps,
        control_sensitivities=system.control_sensitivities,
    )
    out = integrate(params, times, augmented)
    ys, y1 = out.ys.reshape(len(_plain(times).ts), -1, n), out.y1.reshape(-1, n)
    ok = dfx.is_okay(out.result)
    ys_s, y1_s = (jnp.where(jnp.isfinite(s) & ok, s, 0.0) / scale[:, None] for s in (ys[:, 1:], y1[1:]))
    return Trajectory(ys[:, 0], y1[0], out.t1, out.event, out.result, out.stats), ys_s, y1_s


class _AugmentedStart(eqx.Module):
    """Rows ``g(p)`` and ``|p_j| ∂g/∂p_j``."""

    start: Callable[[PyTree], Array]
    mask: PyTree = eqx.field(static=True)
    scale: Array

    def __call__(self, params: PyTree) -> Array:
        flat, start = _as_vector_function(self.start, params, self.mask)
        rows = jax.vmap(lambda direction: jax.jvp(start, (flat,), (direction,))[1])(jnp.diag(self.scale))
        return jnp.concatenate([start(flat)[None], rows]).reshape(-1)


class _AugmentedField(eqx.Module):
    """Rows ``f`` and ``(∂f/∂y) S_j + |p_j| ∂f/∂p_j``."""

    field: Callable[[Real, Array, PyTree], Array]
    mask: PyTree = eqx.field(static=True)
    scale: Array
    n: int = eqx.field(static=True)

    def __call__(self, t: Real, z: Array, params: PyTree) -> Array:
        rows = z.reshape(-1, self.n)
        y, sensitivities = rows[0], rows[1:]
        flat, field = _as_vector_function(lambda p, y: self.field(t, y, p), params, self.mask)
        # Two ways to the same slopes: P pushforwards give the products, n pullbacks both Jacobians whole.
        if self.scale.size <= 4 * self.n:
            slope, pushforward = jax.linearize(field, flat, y)
            slopes = jax.vmap(pushforward)(jnp.diag(self.scale), sensitivities)
        else:
            slope, pullback = jax.vjp(field, flat, y)
            jacobian_p, jacobian_y = jax.vmap(pullback)(jnp.eye(self.n, dtype=z.dtype))
            slopes = sensitivities @ jacobian_y.T + self.scale[:, None] * jacobian_p.T
        return jnp.concatenate([slope[None], slopes]).reshape(-1)


def _end(
    dy1: Array, trajectory: Trajectory, params: PyTree, system: System, dparams: PyTree, dt1: Array | None
) -> tuple[Array, Array]:
    """Tangents of the end. An event's time moves by the implicit function theorem applied to ``c(t, y(t), p) = 0``:

    dt = -(∂c/∂y dy + ∂c/∂p dp) / (∂c/∂y f + ∂c/∂t), and the final state by ``dy + f dt``.
    """
    dt1 = jnp.zeros_like(trajectory.t1) if dt1 is None else dt1
    slope = system.field(trajectory.t1, trajectory.y1, params)
    if system.event is not None and system.event.root_finder is not None:
        conditions, struck = _conditions(system), jax.tree.leaves(trajectory.event)
        dparams = jax.tree.map(lambda d, p: jnp.zeros_like(p) if d is None else d, dparams, params, is_leaf=_is_none)
        dt1 = jnp.where(jnp.any(jnp.stack(struck)), 0.0, dt1)
        for condition, hit in zip(conditions, struck, strict=True):
            if jax.eval_shape(condition, trajectory.t1, trajectory.y1, params).dtype == jnp.bool_:
                continue
            at = (trajectory.t1, trajectory.y1, params)
            still = jax.tree.map(jnp.zeros_like, params)
            _, change = jax.jvp(condition, at, (jnp.zeros_like(trajectory.t1), dy1, dparams))
            _, rate = jax.jvp(condition, at, (jnp.ones_like(trajectory.t1), slope, still))
            dt1 = dt1 + jnp.where(hit, -change / jnp.where(hit, rate, 1.0), 0.0)
    return dt1, dy1 + jnp.where(jnp.isfinite(slope), slope, 0.0) * dt1


def _as_vector_function(function: Callable, params: PyTree, mask: PyTree) -> tuple[Array, Callable]:
    """`function` of the pushed parameters as one vector, the others held."""
    pushed, held = eqx.partition(params, mask)
    flat, unravel = ravel_pytree(pushed)
    return flat, lambda vector, *rest: function(eqx.combine(unravel(vector), held), *rest)


def _rowwise(controller: dfx.AbstractStepSizeController, n: int, *, every_row: bool) -> dfx.AbstractStepSizeController:
    """The controller's norm taken of each row, and the largest kept: no row hides behind the others' number."""

    def replace(node: Any) -> Any:
        if not isinstance(node, dfx.PIDController):
            return node
        norm = node.norm

        def largest(error: Array) -> Array:
            rows = error.reshape(-1, n)
            return jnp.max(jax.vmap(norm)(rows)) if every_row else norm(rows[0])

        return eqx.tree_at(lambda c: c.norm, node, largest)

    return jax.tree.map(replace, controller, is_leaf=lambda node: isinstance(node, dfx.PIDController))


def _on_state(system: System, n: int) -> dfx.Event | None:
    """The event of an augmented solve watches the state alone."""
    if system.event is None:
        return None
    terms = dfx.ODETerm(system.field)

    def on_state(condition: Callable) -> Callable:
        return lambda t, z, p, **context: condition(t, z[:n], p, **(context | {"terms": terms}))

    return dfx.Event(jax.tree.map(on_state, system.event.cond_fn), system.event.root_finder, system.event.direction)


def _conditions(system: System) -> list[Callable]:
    """The event's conditions as functions of ``(t, y, p)``: Diffrax hands them more, by name."""
    context = {"terms": dfx.ODETerm(system.field), "solver": system.solver, "stepsize_controller": system.controller}
    return [functools.partial(c, **context) for c in jax.tree.leaves(system.event.cond_fn)]


def _plain(times: Times | KnownTimes) -> Times:
    return times.times if isinstance(times, KnownTimes) else times


def _append(ts: Array, t1: Real) -> Array:
    if any(isinstance(t, jax.core.Tracer) for t in (ts, t1)):
        return jnp.append(ts, t1)
    return np.append(ts, t1)


def _is_none(x: Any) -> bool:
    return x is None

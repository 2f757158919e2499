r"""Damped Gauss-Newton: one engine for nonlinear least squares, as an Optimistix solver.

At residuals r with Jacobian J, the step d minimises :math:`\lVert r + J d \rVert^2 + \mu \lVert D d \rVert^2`, where D
holds the lengths of J's columns, which makes the method blind to the units of the parameters, and μ follows the ratio
of the decrease found to that predicted. Half an acceleration is added, by which the path bends as the residuals do
along d; where it is large beside d the step is not trusted, and shortened. That keeps parameters from running off to
infinity through a flat stretch, and follows curved valleys.

Source: J. J. Moré, *The Levenberg-Marquardt algorithm* (1978); H. B. Nielsen, *Damping parameter in Marquardt's
method*, IMM-REP-1999-05 (1999); M. K. Transtrum and J. P. Sethna, *Improvements to the Levenberg-Marquardt algorithm
for nonlinear least-squares minimization*, arXiv:1201.5885 (2012).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree, Scalar

from sciad._errors import InputError, OptionError, choose
from sciad._text import is_concrete
from sciad.solvers.step_forms import Form, Linear, Maps, Model, dual, iterative, normal, primal, size_of

GREATEST = 1e24  # damping beyond which no step descends
FORGET = 0.5  # share of the former lengths below which the present lengths of columns may not fall in one step
PROBE = 0.1  # of the step, over which the acceleration is taken by a difference
FLAT = 1e-3  # share of `rtol` below which a slope counts as none, however short the steps
PASSES = 4  # solutions of a step between bounds, each with more entries held
BEND = 0.75  # of the step's length in units of D: the greatest acceleration that is trusted


class Reached(NamedTuple):
    """A point, flat, the linear model there, and what the function said beside its residuals."""

    flat: Float[Array, " p"]
    model: Model
    aux: PyTree


class _State(eqx.Module):
    """The point reached, the step tried next, and what the damping needs; first the point itself is tried."""

    first: Bool[Array, ""]
    model: Model
    aux: PyTree
    lengths: Float[Array, " p"]
    step: Float[Array, " p"]
    predicted: Scalar
    trusted: Bool[Array, ""]
    damping: Scalar
    growth: Scalar
    accepted: Int[Array, ""]
    done: Bool[Array, ""]
    result: optx.RESULTS

    @property
    def at(self) -> Linear:
        """Residuals and Jacobian at the point reached."""
        return self.model.at


class GaussNewton(optx.AbstractLeastSquaresSolver):
    """Damped Gauss-Newton (Levenberg-Marquardt) for `optimistix.least_squares`.

    Parameters
    ----------
    rtol, atol
        The solve ends when a hardly damped step moves each number ``v`` of parameters and residuals by less than
        ``atol + rtol |v|``, or when no decrease above rounding is predicted and the slope is flat: what steps along
        single columns could gain is at most a share `rtol` of the cost. With neither, a solve whose steps have become
        too short ends with ``RESULTS.nonlinear_divergence``.
    norm
        Of these changes, in units of that bound.
    damping
        First μ, in units of the squared length of a column of J.
    acceleration
        Whether steps bend; each then costs one evaluation more of the residuals, without their Jacobian. (Of the form
        ``"iterative"`` it costs a second solve, and rarely pays.)
    scaled
        Whether D holds the lengths of J's columns; else one length for all, that of an average column at the start.
        That serves networks, whose weights are of one kind: those that hardly matter are not to run away.
    form
        ``"primal"`` solves by a QR decomposition in the parameters; ``"dual"`` by a Cholesky decomposition in the
        residuals, for many more parameters than residuals; ``"auto"`` takes what is smaller. ``"normal"`` solves the
        normal equations in the parameters by a Cholesky decomposition and one refinement through J: fewer
        operations than QR, and less exact where columns of J nearly depend on each other. ``"iterative"`` forms no
        Jacobian at all: steps are found by LSMR on products with J and its transpose, for many residuals and
        parameters both. It needs ``scaled=False``.
    iterations
        Greatest number of LSMR's iterations for a step of the form ``"iterative"``; a step cut short is a shorter one.

    Notes
    -----
    ``options`` of `optimistix.least_squares`:

    ``lower``, ``upper``
        Bounds with the structure of ``y``, or numbers for all; steps are projected onto them. (Where a bound holds the
        solution, do not differentiate through the solve: the adjoint does not know the bound. Transform instead.)
    ``reach``
        Longest step of each number, in the structure of ``y`` or for all. Far from data a linear model promises much
        and leads nowhere.
    ``jac``
        ``"fwd"`` (default) or ``"bwd"``: how the Jacobian is taken; or a function ``(y, args) -> (J, (r, aux))`` that
        knows a better way, with J of shape (n, p) and r of shape (n,).

    Residuals that are not finite reject the step that led to them. A start with such residuals ends the solve with
    ``RESULTS.nonlinear_divergence``.

    Examples
    --------
    >>> jax.config.update("jax_enable_x64", True)
    >>> def rosenbrock(y, args):
    ...     return 10 * (y[1] - y[0] ** 2), 1 - y[0]
    >>> optx.least_squares(rosenbrock, GaussNewton(), jnp.array([-1.2, 1.0])).value.round(9).tolist()
    [1.0, 1.0]
    """

    rtol: float
    atol: float
    norm: Callable[[PyTree], Scalar]
    damping: float
    acceleration: bool = eqx.field(static=True)
    scaled: bool = eqx.field(static=True)
    form: Form = eqx.field(static=True)
    iterations: int = eqx.field(static=True)

    def __init__(
        self,
        rtol: float = 1e-10,
        atol: float = 1e-10,
        *,
        norm: Callable[[PyTree], Scalar] = optx.max_norm,
        damping: float = 0.1,
        acceleration: bool = True,
        scaled: bool = True,
        form: Form | str = "auto",
        iterations: int = 50,
    ) -> None:
        for name, value in {"rtol": rtol, "atol": atol, "damping": damping, "iterations": iterations}.items():
            if not value > 0:
                msg = f"GaussNewton({name}={value}): expected a positive number."
                raise OptionError(msg)
        self.rtol, self.atol, self.norm, self.damping = rtol, atol, norm, damping
        self.acceleration, self.scaled = acceleration, scaled
        self.form, self.iterations = choose("form", form, get_args(Form)), iterations
        if self.form == "iterative" and scaled:
            msg = "GaussNewton(form='iterative') knows no lengths of columns. Give scaled=False."
            raise OptionError(msg)

    def init(
        self,
        fn: Callable,
        y: PyTree,
        args: PyTree,
        options: dict[str, Any],
        f_struct: PyTree[jax.ShapeDtypeStruct],
        aux_struct: PyTree[jax.ShapeDtypeStruct],
        tags: frozenset[object],
    ) -> _State:
        """Return a state of zeros, whose first step is to evaluate at `y`, moved inside the bounds."""
        del fn, args, tags
        _check(options)
        flat, _ = ravel_pytree(y)
        dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves((y, f_struct))}
        if len(dtypes) > 1:
            msg = f"GaussNewton: parameters and residuals are of dtypes {', '.join(sorted(dtypes))}. Give all the same."
            raise InputError(msg)
        n, p, dtype = sum(leaf.size for leaf in jax.tree.leaves(f_struct)), flat.size, flat.dtype
        zero = jnp.zeros((), dtype)
        return _State(
            first=jnp.array(True),
            model=Model(
                Linear(jnp.zeros(n, dtype), jnp.zeros((0 if self.form == "iterative" else n, p), dtype)),
                jnp.zeros(p, dtype),
                jnp.zeros((p, p) if self.form == "normal" else (0, 0), dtype),
            ),
            aux=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), aux_struct),
            lengths=jnp.zeros(p, dtype),
            step=jnp.zeros(p, dtype),
            predicted=zero,
            trusted=jnp.array(True),
            damping=zero + self.damping,
            growth=zero + 2.0,
            accepted=jnp.zeros((), int),
            done=jnp.array(False),
            result=optx.RESULTS.successful,
        )

    def step(
        self, fn: Callable, y: PyTree, args: PyTree, options: dict[str, Any], state: _State, tags: frozenset[object]
    ) -> tuple[PyTree, _State, PyTree]:
        """Evaluate at the point tried, accept or reject it, and prepare the next one."""
        del tags
        flat, unravel = ravel_pytree(y)
        tried = self.linearise(fn, y, args, options, state)
        ratio, gain = self.gained(state, tried.model.at.residuals)
        accept = gain & tried.model.finite
        reached = _where(accept, tried, Reached(flat, state.model, state.aux))
        state = self.advance(fn, y, args, options, state, reached, (ratio, accept))
        return unravel(reached.flat), state, reached.aux

    def linearise(
        self,
        fn: Callable,
        y: PyTree,
        args: PyTree,
        options: dict[str, Any],
        state: _State,
        *,
        product: bool = True,
    ) -> Reached:
        """Return the point tried, with the linear model there, or all of it but the product."""
        _, unravel = ravel_pytree(y)
        tried = self.tried(y, options, state)
        if self.form == "iterative":
            found, pull, aux = jax.vjp(lambda flat: _flattened(fn, unravel, flat, args), tried, has_aux=True)
            return Reached(tried, state.model._replace(at=Linear(found, state.at.jacobian), slope=pull(found)[0]), aux)
        at, aux = _linearised(fn, unravel, tried, args, options.get("jac", "fwd"))
        new = self.form == "normal" and product
        square = at.jacobian.T @ at.jacobian if new else state.model.product
        return Reached(tried, Model(at, at.residuals @ at.jacobian, square), aux)

    def tried(self, y: PyTree, options: dict[str, Any], state: _State) -> Float[Array, " p"]:
        """Return the point that is tried from `y`, flat."""
        flat, _ = ravel_pytree(y)
        bounds = _bounds(options, y, flat)
        return flat + state.step if bounds is None else jnp.clip(flat + state.step, *bounds)

    def gained(self, state: _State, residuals: Float[Array, " n"]) -> tuple[Scalar, Bool[Array, ""]]:
        """Return the decrease to the residuals tried, by that predicted, and whether it counts."""
        cost = 0.5 * jnp.sum(residuals**2)
        ratio = (state.at.cost - cost) / jnp.where(state.predicted > 0, state.predicted, 1.0)
        return ratio, jnp.isfinite(cost) & (state.first | (state.trusted & (ratio > 0)))

    def advance(
        self,
        fn: Callable,
        y: PyTree,
        args: PyTree,
        options: dict[str, Any],
        state: _State,
        reached: Reached,
        judged: tuple[Scalar, Bool[Array, ""]],
    ) -> _State:
        """Prepare the step to be tried next: from the point reached, after what was gained, and whether it counts."""
        (flat, model, aux), (ratio, accept) = reached, judged
        _, unravel = ravel_pytree(y)
        at = model.at
        damping, growth = _damped(accept, ratio, state)

        def residuals(flat: Array) -> Array:
            return _flattened(fn, unravel, flat, args)[0]

        maps = self._maps(residuals, flat, at)
        lengths = self._lengths(at.jacobian, maps, state)
        limits = _bounds(options, y, flat), _whole(options.get("reach", jnp.inf), y, flat)
        step, predicted, trusted, flatness = self._step(residuals, flat, (model, maps), lengths, damping, limits)
        still = accept & ~state.first & (state.damping < 1.0) & self._still(flat, state.step, at, state.at)
        rounding = jnp.finfo(flat.dtype).eps * at.cost
        # Nothing is left to gain if a step that is hardly damped promises nothing, or the slope is flat. If neither, a
        # step that promises nothing was bent too much, by bounds or damping: a shorter one is tried, to the end.
        spent = (predicted <= rounding) & ((damping < 1.0) & (flatness <= self.rtol) | (flatness <= FLAT * self.rtol))
        stuck = ~spent & (damping > GREATEST)
        bad_start = state.first & ~accept
        lost = bad_start | (stuck & ~still & (flatness > self.rtol))
        return _State(
            first=jnp.array(False),
            model=model,
            aux=aux,
            lengths=lengths,
            step=step,
            predicted=predicted,
            trusted=trusted,
            damping=damping,
            growth=growth,
            accepted=state.accepted + accept.astype(int),
            done=still | stuck | bad_start | spent,
            result=optx.RESULTS.where(lost, optx.RESULTS.nonlinear_divergence, optx.RESULTS.successful),
        )

    def terminate(
        self, fn: Callable, y: PyTree, args: PyTree, options: dict[str, Any], state: _State, tags: frozenset[object]
    ) -> tuple[Bool[Array, ""], optx.RESULTS]:
        """Return whether to stop, and why."""
        del fn, y, args, options, tags
        return state.done, state.result

    def postprocess(
        self,
        fn: Callable,
        y: PyTree,
        aux: PyTree,
        args: PyTree,
        options: dict[str, Any],
        state: _State,
        tags: frozenset[object],
        result: optx.RESULTS,
    ) -> tuple[PyTree, PyTree, dict[str, Any]]:
        """Return the solution with residuals and Jacobian there, flat, in ``stats``."""
        del fn, aux, args, options, tags, result
        stats = {"residuals": state.at.residuals, "jacobian": state.at.jacobian, "num_accepted_steps": state.accepted}
        return y, state.aux, stats

    def _maps(self, residuals: Callable[[Array], Array], flat: Array, at: Linear) -> Maps:
        if self.form == "iterative":
            _, forward = jax.linearize(residuals, flat)
            transposed = jax.linear_transpose(forward, flat)
            return Maps(forward, lambda u: transposed(u)[0])
        return Maps(lambda v: at.jacobian @ v, lambda u: u @ at.jacobian)

    def _lengths(self, jacobian: Array, maps: Maps, state: _State) -> Array:
        """Return the diagonal of D."""
        if self.scaled:
            return jnp.maximum(FORGET * state.lengths, jnp.linalg.norm(jacobian, axis=0))

        def average() -> Array:
            size = size_of(maps, state.at.residuals) if self.form == "iterative" else jnp.linalg.norm(jacobian)
            return jnp.full_like(state.lengths, size / np.sqrt(max(state.lengths.size, 1)))

        return jax.lax.cond(state.first, average, lambda: state.lengths)

    def _step(
        self,
        residuals: Callable[[Array], Array],
        flat: Array,
        linear: tuple[Model, Maps],
        lengths: Array,
        damping: Array,
        limits: tuple[tuple[Array, Array] | None, Array],
    ) -> tuple[Array, Array, Array, Array]:
        """Return the step inside the bounds, the decrease that the linear model predicts, whether to trust it.

        Last, the flatness ``‖g‖² / (‖r‖² + atol²/rtol)`` of the slope g along the free directions, in units of D: the
        share of the cost that steps along single columns could still gain, unless it is next to nothing.
        """
        (model, maps), p = linear, flat.size
        at = model.at
        if not flat.size:
            return flat, jnp.zeros_like(at.cost), jnp.array(True), jnp.zeros_like(at.cost)
        scale = jnp.where(lengths > 0, lengths, 1.0)
        slope, prepare = model.slope / scale, self._prepare(at.residuals.size, p, maps)
        bounds, reach = limits
        low, high = (jnp.full(p, -jnp.inf), jnp.full(p, jnp.inf)) if bounds is None else bounds
        low, high = jnp.maximum(low - flat, -reach) * scale, jnp.minimum(high - flat, reach) * scale
        if bounds is None:
            outwards = jnp.zeros(p, bool)
            solve = prepare(model, scale, damping, None)
            straight = solve(at.residuals)
        else:
            ulps = 4 * jnp.finfo(flat.dtype).eps * jnp.abs(flat) * scale  # a step may end so short of a bound
            outwards = ((low >= -ulps) & (slope > 0)) | ((high <= ulps) & (slope < 0))
            straight, held = _within(prepare, (model, maps, scale), outwards, damping, (low, high))
            solve = prepare(model, scale, damping, held)
        change = maps.forward(straight / scale)
        predicted = at.cost - 0.5 * jnp.sum((at.residuals + change) ** 2)
        flatness = jnp.sum(jnp.where(outwards, 0.0, slope) ** 2) / (2 * at.cost + self.atol**2 / self.rtol)
        if not self.acceleration:
            return straight / scale, predicted, jnp.array(True), flatness
        curvature = 2 / PROBE * ((residuals(flat + PROBE * straight / scale) - at.residuals) / PROBE - change)
        bend = solve(curvature)
        trusted = 2 * jnp.linalg.norm(bend) <= BEND * jnp.linalg.norm(straight)  # false if not finite
        bent = straight + 0.5 * bend
        bent = bent if bounds is None else jnp.clip(bent, low, high)
        return jnp.where(trusted, bent, straight) / scale, predicted, trusted, flatness

    def _prepare(self, n: int, p: int, maps: Maps) -> Callable[..., Callable[[Array], Array]]:
        """Return what prepares a step for so many residuals and parameters."""
        if self.form == "iterative":
            return functools.partial(iterative, maps, self.iterations)
        form = ("primal" if p <= n else "dual") if self.form == "auto" else self.form
        return {"primal": primal, "dual": dual, "normal": normal}[form]

    def _still(self, flat: Array, step: Array, at: Linear, before: Linear) -> Array:
        """Whether parameters and residuals moved less than the tolerances."""

        def small(value: Array, change: Array) -> Array | bool:
            return not value.size or self.norm(change / (self.atol + self.rtol * jnp.abs(value))) < 1

        return jnp.logical_and(small(flat, step), small(at.residuals, at.residuals - before.residuals))


def _within(
    prepare: Callable, linear: tuple[Model, Maps, Array], held: Array, damping: Array, bounds: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Return the step between bounds on it, and which of its entries they hold: those that are `held` from the start.

    Those that a step leads beyond a bound are held on it, and the others solved for again.
    """
    model, maps, scale = linear
    residuals, (low, high) = model.at.residuals, bounds

    def once(_: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        step, held = carry
        fixed = jnp.where(held, step, 0.0)
        solve = prepare(model, scale, damping, held)
        free = solve(residuals + maps.forward(fixed / scale))
        whole = jnp.where(held, fixed, free)
        inside = jnp.clip(whole, low, high)
        return inside, held | (inside != whole)

    return jax.lax.fori_loop(0, PASSES, once, (jnp.zeros_like(low), held))


def _damped(accept: Array, ratio: Array, state: _State) -> tuple[Array, Array]:
    """Return damping and its factor of growth by Nielsen's rule."""
    eased = state.damping * jnp.maximum(1 / 3, 1 - (2 * jnp.minimum(ratio, 1.0) - 1) ** 3)
    damping = jnp.where(accept, jnp.maximum(eased, jnp.finfo(ratio.dtype).tiny), state.damping * state.growth)
    growth = jnp.where(accept, 2.0, 2.0 * state.growth)
    return jnp.where(state.first, state.damping, damping), jnp.where(state.first, state.growth, growth)


def _flattened(fn: Callable, unravel: Callable, flat: Array, args: PyTree) -> tuple[Array, PyTree]:
    out, aux = fn(unravel(flat), args)
    return ravel_pytree(out)[0], aux


def _linearised(fn: Callable, unravel: Callable, flat: Array, args: PyTree, mode: Any) -> tuple[Linear, PyTree]:
    """Return residuals and Jacobian by one evaluation, and the function's auxiliary output."""
    if not isinstance(mode, str):
        jacobian, (residuals, aux) = mode(unravel(flat), args)
        return Linear(residuals, jacobian), aux

    def function(flat: Array) -> tuple[Array, tuple[Array, PyTree]]:
        residuals, aux = _flattened(fn, unravel, flat, args)
        return residuals, (residuals, aux)

    jacobian, (residuals, aux) = (jax.jacfwd if mode == "fwd" else jax.jacrev)(function, has_aux=True)(flat)
    return Linear(residuals, jacobian), aux


def _where(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _bounds(options: dict[str, Any], y: PyTree, flat: Array) -> tuple[Array, Array] | None:
    if not {"lower", "upper", "reach"} & set(options):
        return None
    return _whole(options.get("lower", -jnp.inf), y, flat), _whole(options.get("upper", jnp.inf), y, flat)


def _whole(given: Any, y: PyTree, flat: Array) -> Array:
    """Return an option with the structure of `y`, or one number for all, as a vector."""
    whole = jax.tree.map(lambda b, part: jax.tree.map(lambda leaf: jnp.broadcast_to(b, leaf.shape), part), given, y)
    return ravel_pytree(whole)[0].astype(flat.dtype)


def _check(options: dict[str, Any]) -> None:
    unknown = set(options) - {"jac", "lower", "reach", "upper"}
    if unknown:
        msg = f"GaussNewton takes the options jac, lower, reach and upper; got {', '.join(sorted(unknown))}."
        raise OptionError(msg)
    if not callable(jac := options.get("jac", "fwd")):
        choose("jac", jac, ("fwd", "bwd"))
    bounds = [options.get("lower", -jnp.inf), options.get("upper", jnp.inf)]
    known = all(is_concrete(leaf) for leaf in jax.tree.leaves(bounds))
    alike = len({*map(jax.tree.structure, bounds)}) == 1
    if known and alike and any(np.any(a > b) for a, b in zip(*map(jax.tree.leaves, bounds), strict=True)):
        msg = "GaussNewton: a lower bound is above its upper bound."
        raise InputError(msg)


class Descent(NamedTuple):
    """Where a descent ended."""

    value: PyTree
    aux: PyTree
    at: Linear
    result: optx.RESULTS
    steps: Int[Array, ""]


def descend(
    fn: Callable, solver: GaussNewton, y: PyTree, args: PyTree, options: dict[str, Any], max_steps: Int[Array, ""] | int
) -> Descent:
    """Run the solver on ``fn(y, args) -> (residuals, aux)``, with no derivative of the whole.

    The number of steps may be traced; with one step it evaluates at `y`.
    """
    f_struct, aux_struct = jax.eval_shape(fn, y, args)
    none: frozenset[object] = frozenset()
    start = y, solver.init(fn, y, args, options, f_struct, aux_struct, none), jnp.zeros((), int)

    def proceed(carry: tuple[PyTree, _State, Array]) -> Array:
        _, state, steps = carry
        return ~state.done & (steps < max_steps)

    def step(carry: tuple[PyTree, _State, Array]) -> tuple[PyTree, _State, Array]:
        y, state, steps = carry
        y, state, _ = solver.step(fn, y, args, options, state, none)
        return y, state, steps + 1

    y, state, steps = jax.lax.while_loop(proceed, step, start)
    late = optx.RESULTS.where(state.done, state.result, optx.RESULTS.nonlinear_max_steps_reached)
    return Descent(y, state.aux, state.at, late, steps)

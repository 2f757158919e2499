"""Stochastic differential equations: one Equinox module around Diffrax's strong solvers, on a grid of fixed steps."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray, PyTree

from sciad._errors import InputError, OptionError, choose
from sciad._key import as_key
from sciad._text import is_concrete

Calculus = Literal["ito", "stratonovich", "additive"]
DEFAULTS = {"ito": dfx.Euler, "stratonovich": dfx.Heun, "additive": dfx.ShARK}
MILSTEIN = (dfx.ItoMilstein, dfx.StratonovichMilstein)
COMMUTING = 1e-6  # share of the greatest entry by which noises that commute may differ from it
INFINITE = "A path of the stochastic equation is not finite: take a smaller `dt`, or look at drift and diffusion."
NOT_COMMUTING = (
    "The noises do not commute: the order in which they act on the state matters, and Milstein's method needs areas "
    "that it does not have. Use `diffrax.Euler()` (Itô) or `diffrax.GeneralShARK()` (Stratonovich)."
)


class SDESolution(eqx.Module):
    """Paths of a stochastic equation.

    Attributes
    ----------
    ts
        Times at which the paths were saved.
    ys
        States at these times; a leading axis over paths if several were asked for, then time.
    """

    ts: Float[Array | np.ndarray, " times"]
    ys: Float[Array, "..."]

    @property
    def ok(self) -> Bool[Array, ""]:
        """Whether all is finite."""
        return jnp.all(jnp.isfinite(self.ys))


class SDE(eqx.Module):
    r"""Solver of :math:`dX = f(t, X)\,dt + g(t, X)\,dW`, differentiable path by path.

    The noise is read as the user says: ``"ito"``, or ``"stratonovich"`` (:math:`g \circ dW`). With ``"additive"`` noise
    g does not depend on the state and both are the same. A solver that converges to the other reading is refused.
    Between save times steps are equal and at most `dt`, so that every save time is the end of a step.

    Parameters
    ----------
    calculus
        How the noise is read; there is no default.
    dt
        Longest step.
    solver
        A Diffrax solver. Default: `diffrax.Euler` for Itô (strong order 1/2; 1 if the noise is additive),
        `diffrax.Heun` for Stratonovich (1/2; 1 if the noises commute), `diffrax.ShARK` for additive noise (3/2).
        `diffrax.ItoMilstein` has strong order 1 for noises that commute: a single one does, and those of which each
        drives one state and depends on it alone.
    tol
        Resolution in time of one Brownian path that is the same for every `dt`, for studies of convergence. Default:
        increments drawn step by step, exact and faster, which another `dt` draws anew.

    Raises
    ------
    OptionError
        A calculus that does not exist, a step or resolution that is not positive, a solver that converges to another
        calculus or is none for stochastic equations.

    Examples
    --------
    The mean square of Brownian motion at time 2 is 2:

    >>> import jax, jax.numpy as jnp
    >>> solve = SDE("additive", dt=1.0)
    >>> still, unit = (lambda t, x, _: jnp.zeros(())), (lambda t, x, _: jnp.ones(()))
    >>> ends = solve(still, unit, jnp.zeros(()), ts=[0.0, 2.0], key=0, paths=20_000).ys[:, 1]
    >>> round(float(jnp.mean(ends**2)), 1)
    2.0
    """

    calculus: Calculus = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    solver: dfx.AbstractSolver
    tol: float | None = eqx.field(static=True)

    def __init__(
        self, calculus: str, *, dt: float, solver: dfx.AbstractSolver | None = None, tol: float | None = None
    ) -> None:
        self.calculus = choose("calculus", calculus, get_args(Calculus))
        if not dt > 0 or (tol is not None and not tol > 0):
            msg = f"SDE(dt={dt}, tol={tol}): both must be positive, in units of time."
            raise OptionError(msg)
        self.dt, self.tol = float(dt), tol
        self.solver = _with_plain_loops(DEFAULTS[self.calculus]() if solver is None else solver)
        _check_solver(self.solver, self.calculus)

    def __call__(
        self,
        drift: Callable[..., Array],
        diffusion: Callable[..., Array],
        y0: Float[Array, " *states"],
        *,
        args: PyTree = None,
        ts: Float[ArrayLike, " times"] | list[float],
        t0: float | None = None,
        key: PRNGKeyArray | int,
        paths: int | None = None,
        throw: bool = True,
    ) -> SDESolution:
        """Solve from ``X(t0) = y0``; one path for a key, or as many as asked for.

        Parameters
        ----------
        drift
            ``f(t, y, args)``, of the shape of `y0`.
        diffusion
            ``g(t, y, args)``: of the shape of `y0`, a noise of its own for each state; or with one axis more, over
            noises.
        y0
            A number or a vector.
        args
            Passed to `drift` and `diffusion`.
        ts
            Times at which to save, ascending from `t0`; known, that is, not traced.
        t0
            Default: the first of `ts`.
        key
            Of the Brownian path, or a whole number that seeds one; the same for the same steps.
        paths
            Number of paths, of keys split from `key`. Default: one, without an axis for it.
        throw
            Raise if a path is not finite, or noises do not commute for Milstein's method; see `SDESolution.ok`.

        Raises
        ------
        InputError
            Times that are traced or do not ascend, or shapes that do not fit.
        OptionError
            Diffusion that depends on the state although the noise, or the solver, is for additive noise.
        equinox.EquinoxRuntimeError
            A solve failed and `throw` is true.
        """
        grid, saved = _grid(ts, t0, self.dt)
        dtype = y0.dtype
        steps = jnp.asarray(grid, dtype)
        begin = steps[0]
        number = _noises(drift, diffusion, begin, y0, args)
        additive = _is_additive(diffusion, begin, y0, args)
        self._check_noise(additive)

        def terms_of(key: PRNGKeyArray) -> dfx.MultiTerm:
            path = self.brownian(key, number, grid[0], grid[-1], dtype)
            return dfx.MultiTerm(
                dfx.ODETerm(lambda t, y, _: drift(t, y, args)),
                dfx.ControlTerm(lambda t, y, _: _matrix(diffusion(t, y, args), y), path),
            )

        def one(key: PRNGKeyArray) -> Array:
            ys = _march(self.solver, terms_of(key), steps, y0)
            return ys[np.asarray(saved)]

        key = as_key(key)
        ys = one(key) if paths is None else jax.vmap(one)(jax.random.split(key, paths))
        if throw:
            ys = eqx.error_if(ys, ~jnp.all(jnp.isfinite(ys)), INFINITE)
            if isinstance(self.solver, MILSTEIN) and not additive:
                last = ys.reshape(-1, *ys.shape[ys.ndim - y0.ndim :])[-1]
                apart = jnp.stack([_apart(diffusion, t, y, args) for t, y in ((begin, y0), (steps[-1], last))])
                ys = eqx.error_if(ys, jnp.any(apart), NOT_COMMUTING)
        return SDESolution(np.asarray(grid)[saved], ys)

    def brownian(
        self, key: PRNGKeyArray, shape: tuple[int, ...], t0: float, t1: float, dtype: Any = float
    ) -> dfx.AbstractBrownianPath:
        """Return the Brownian path that drives a solve from `t0` to `t1`, of a number of noises, ``()`` or ``(m,)``."""
        like, area = jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)), _levy_area(self.solver)
        if self.tol is None:
            return dfx.UnsafeBrownianPath(like, key, levy_area=area)
        return dfx.VirtualBrownianTree(t0, t1, self.tol, like, key, levy_area=area)

    def _check_noise(self, additive: bool) -> None:
        if additive:
            return
        if self.calculus == "additive":
            msg = "The diffusion depends on the state, and the noise was said to be additive: say how to read it, "
            msg += "SDE('ito', ...) or SDE('stratonovich', ...)."
            raise OptionError(msg)
        if isinstance(self.solver, dfx.AbstractSRK) and self.solver.tableau.is_additive_noise():
            msg = f"diffrax.{type(self.solver).__name__} is for noise that does not depend on the state, and this "
            msg += "diffusion does. Use diffrax.GeneralShARK() or diffrax.SPaRK()."
            raise OptionError(msg)


def _with_plain_loops(solver: dfx.AbstractSolver) -> dfx.AbstractSolver:
    """Return the solver with loops over its stages that can be differentiated forward too."""
    if isinstance(solver, dfx.AbstractSRK | dfx.AbstractRungeKutta):
        return eqx.tree_at(lambda s: s.scan_kind, solver, "lax", is_leaf=lambda x: x is None)
    return solver


def _check_solver(solver: Any, calculus: Calculus) -> None:
    name = type(solver).__name__
    kinds = {"ito": dfx.AbstractItoSolver, "stratonovich": dfx.AbstractStratonovichSolver}
    kind = next((word for word, kind in kinds.items() if isinstance(solver, kind)), None)
    if kind is None or isinstance(solver, dfx.AbstractFosterLangevinSRK):
        msg = f"{name} is no solver of stochastic equations of this form. Leave `solver` out, or take one such as "
        msg += "diffrax.ItoMilstein() or diffrax.SPaRK()."
        raise OptionError(msg)
    if calculus not in (kind, "additive"):
        other = "Itô" if kind == "ito" else "Stratonovich"
        msg = f"SDE({calculus!r}) with diffrax.{name}, which converges to the {other} solution: say SDE({kind!r}), and "
        msg += "correct the drift by ±g g'/2 if the equation was meant in the other sense, or take another solver."
        raise OptionError(msg)


def _levy_area(solver: Any) -> Any:
    needed = getattr(solver, "minimal_levy_area", dfx.AbstractBrownianIncrement)
    kinds = (dfx.BrownianIncrement, dfx.SpaceTimeLevyArea, dfx.SpaceTimeTimeLevyArea)
    return next(kind for kind in kinds if issubclass(kind, needed))


def _grid(ts: Any, t0: Any, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of all steps, and where among them the save times are."""
    if not is_concrete(ts) or not is_concrete(t0):
        msg = "The times of a stochastic equation are traced: give known ones, which decide on the steps."
        raise InputError(msg)
    times = np.asarray(ts, float)
    if times.ndim != 1 or times.size == 0:
        msg = f"`ts` must be a non-empty vector of times; its shape is {times.shape}."
        raise InputError(msg)
    begin = float(times[0] if t0 is None else t0)
    knots = np.concatenate([[begin], times])
    if not (np.all(np.diff(times) > 0) and times[0] >= begin and times[-1] > begin):
        msg = f"`ts` goes from {times[0]:g} to {times[-1]:g}; expected ascending times from t0={begin:g}, one of them "
        msg += "after it."
        raise InputError(msg)
    numbers = np.ceil(np.diff(knots) / dt * (1 - 1e-12)).astype(int)
    pieces = [np.linspace(a, b, n + 1)[1:] for a, b, n in zip(knots[:-1], knots[1:], numbers, strict=True)]
    return np.concatenate([[begin], *pieces]), np.cumsum(numbers)


def _noises(drift: Callable, diffusion: Callable, t: Array, y: Array, args: PyTree) -> tuple[int, ...]:
    """Return the shape of the Brownian motion, once shapes are known to fit."""
    slope, sizes = (jax.eval_shape(lambda t, y, f=f: f(t, y, args), t, y).shape for f in (drift, diffusion))
    if y.ndim > 1 or slope != y.shape or sizes[: y.ndim] != y.shape or len(sizes) > y.ndim + 1:
        msg = f"For a state of shape {y.shape}, drift has shape {slope} and diffusion {sizes}; expected a state that "
        msg += "is a number or a vector, drift of its shape, and diffusion of its shape or with one axis more, over "
        msg += "noises."
        raise InputError(msg)
    return sizes[y.ndim :] if len(sizes) > y.ndim else y.shape


def _is_additive(diffusion: Callable, t: Array, y: Array, args: PyTree) -> bool:
    _, change = eqx.filter_jvp(lambda y: diffusion(t, y, args), (y,), (jnp.ones_like(y),))
    return not jax.tree.leaves(change)


def _matrix(g: Array, y: Array) -> Array:
    """Return the diffusion with an axis over noises, if there are several."""
    return jnp.diag(g) if g.ndim == y.ndim == 1 else g


def _apart(diffusion: Callable, t: Array, y: Array, args: PyTree) -> Bool[Array, ""]:
    """Whether noises fail to commute: ``Σ_l ∂g_ij/∂y_l g_lk`` is to be the same with j and k exchanged."""

    def matrix(flat: Array) -> Array:
        state = flat.reshape(y.shape)
        return _matrix(diffusion(t, state, args), state).reshape(y.size, -1)

    flat = y.reshape(-1)
    moved = jnp.einsum("ijl,lk->ijk", jax.jacfwd(matrix)(flat), matrix(flat))
    greatest = jnp.max(jnp.abs(moved))
    return jnp.max(jnp.abs(moved - jnp.swapaxes(moved, 1, 2))) > COMMUTING * greatest


def _march(solver: Any, terms: dfx.MultiTerm, steps: Array, y0: Array) -> Array:
    """Return the states at all ends of steps; of each step, only its end is kept for a derivative in reverse."""

    @jax.checkpoint
    def step(state: tuple, interval: tuple) -> tuple:
        (y, memory), (begin, end) = state, interval
        y, _, _, memory, _ = solver.step(terms, begin, end, y, None, memory, False)
        return (y, memory), y

    memory = solver.init(terms, steps[0], steps[1], y0, None)
    _, ys = jax.lax.scan(step, (y0, memory), (steps[:-1], steps[1:]))
    return jnp.concatenate([y0[None], ys])

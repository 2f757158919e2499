"""Damped Gauss-Newton on points that are exchanged now and then."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, PyTree

from sciad.solvers.gauss_newton import GaussNewton, Reached
from sciad.solvers.rounds import AbstractRounds, Made, Posed, check_settings
from sciad.solvers.step_forms import Form, bytes_of

HEAVY = 4e9  # bytes of matrices that a dense form may hold


class Collocation(AbstractRounds):
    """Damped Gauss-Newton on quasi-random points, held for a while and then drawn anew.

    Parameters
    ----------
    points
        How many inside the domain.
    hold
        Accepted steps with the same points. Points that change at every step leave nothing to converge to.
    budget
        Seconds, compilation included, after which it ends.
    max_steps
        Steps after which it ends.
    adaptive
        Whether new points are drawn by the size of the residual, from eight times as many candidates.
    growing
        Parts of the span of time, where there are initial values, that are taken in one after the other: the next when
        the residual of the equation on those before has fallen to a thousandth. Equations that carry things far have
        wrong solutions of small residual, and right ones begin at the beginning.
    tolerance
        Root mean square of all residuals on points held out, at which it ends.
    patience
        Rounds without gain on the points held out, after which it ends. Their residual goes up and down by a factor of
        a few from round to round while it falls.
    watch
        Called with the program as each round begins: to draw it, or to keep it.
    engine
        The least-squares solver of the steps. Of the form ``"auto"``, which is the default's, it solves the normal
        equations, or in the residuals where there are fewer of these than parameters (``"dual"``), or without a matrix
        where that one would hold more than 4 GB (``"iterative"``).
    """

    engine: GaussNewton

    def __init__(
        self,
        *,
        points: int = 3000,
        hold: int = 60,
        budget: float = 120.0,
        max_steps: int = 20_000,
        adaptive: bool = True,
        growing: int = 0,
        tolerance: float = 0.0,
        patience: int = 15,
        watch: Callable[[Any], object] | None = None,
        engine: GaussNewton | None = None,
    ) -> None:
        positive = {"points": points, "hold": hold, "max_steps": max_steps, "patience": patience, "budget": budget}
        check_settings("Collocation", positive, growing)
        self.points, self.hold, self.budget, self.max_steps = points, hold, float(budget), max_steps
        self.growing, self.watch = growing, watch
        self.adaptive, self.tolerance, self.patience = adaptive, float(tolerance), patience
        self.engine = GaussNewton(1e-15, 1e-15, scaled=False) if engine is None else engine

    def form(self, rows: int, parameters: int) -> Form:
        """Return the form of the engine for so many residuals and parameters."""
        if self.engine.form != "auto":
            return self.engine.form
        dense: Form = "normal" if parameters <= rows else "dual"
        return dense if self.engine.scaled or bytes_of(dense, rows, parameters) <= HEAVY else "iterative"

    def memory(self, rows: int, parameters: int) -> float:
        """Return the bytes of the Jacobian and of what is made of it."""
        return bytes_of(self.form(rows, parameters), rows, parameters)

    def descend(
        self, posed: Posed, location: Float[Array, " p"], setting: PyTree, steps: tuple[int, int], kept: Any
    ) -> Iterator[Made]:
        """Make damped Gauss-Newton steps; the damping is kept."""
        residuals, _ = jax.eval_shape(posed.residuals, location, setting)
        form = self.form(residuals.size, location.size)
        bent = self.engine.acceleration and (form == self.engine.form or form != "iterative")
        engine = dataclasses.replace(self.engine, form=form, acceleration=bent)
        state = _begun(engine, posed, location, setting, kept)
        hold, _ = steps
        made = 0
        while not bool(state.done) and int(state.accepted) <= hold and made < 4 * hold:
            location, state = _stepped(engine, posed, location, setting, state)
            made += 1
            yield Made(location, _root(state), made, jnp.minimum(state.damping, engine.damping))


def _root(state: Any) -> float:
    return float(np.sqrt(2 * float(state.at.cost)))


@eqx.filter_jit
def _begun(engine: GaussNewton, posed: Posed, location: Array, setting: PyTree, damping: Array | None) -> Any:
    options = {"jac": posed.linearised}
    residuals, nothing = jax.eval_shape(posed.residuals, location, setting)
    state = engine.init(posed.residuals, location, setting, options, residuals, nothing, frozenset())
    return state if damping is None else eqx.tree_at(lambda s: s.damping, state, damping)


def _stepped(engine: GaussNewton, posed: Posed, location: Array, setting: PyTree, state: Any) -> tuple[Array, Any]:
    """Return the next location and state.

    This is the engine's step in three parts, each compiled, of which the second costs most and is made only where a
    step gains: `GaussNewton.step` as a whole cannot know that before.
    """
    reached, (ratio, gain) = Reached(location, state.model, state.aux), _gained(engine, posed, location, setting, state)
    if gain:
        tried = _linearised(engine, posed, location, setting, state)
        gain = gain & tried.model.finite
        reached = _squared(tried) if gain and engine.form == "normal" else tried if gain else reached
    return reached.flat, _advanced(engine, posed, setting, state, reached, (ratio, gain))


@eqx.filter_jit
def _gained(engine: GaussNewton, posed: Posed, location: Array, setting: PyTree, state: Any) -> tuple[Array, Array]:
    residuals, _ = posed.residuals(engine.tried(location, {}, state), setting)
    return engine.gained(state, residuals)


@eqx.filter_jit
def _linearised(engine: GaussNewton, posed: Posed, location: Array, setting: PyTree, state: Any) -> Reached:
    return engine.linearise(posed.residuals, location, setting, {"jac": posed.linearised}, state, product=False)


def _squared(reached: Reached) -> Reached:
    """Return the point with ``JᵀJ``: on processors from BLAS, which makes one half of it, in half of XLA's time."""
    jacobian = reached.model.at.jacobian
    if jacobian.devices() == {jax.devices("cpu")[0]}:
        rows = np.asarray(jacobian)
        (syrk,) = scipy.linalg.blas.get_blas_funcs(("syrk",), (rows,))
        product = jnp.asarray(syrk(1.0, rows.T).T)
    else:
        product = jacobian.T @ jacobian
    return reached._replace(model=reached.model._replace(product=product))


@eqx.filter_jit
def _advanced(
    engine: GaussNewton, posed: Posed, setting: PyTree, state: Any, reached: Reached, judged: tuple[Array, Array]
) -> Any:
    return engine.advance(posed.residuals, reached.flat, setting, {}, state, reached, judged)

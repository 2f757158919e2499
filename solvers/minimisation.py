"""Quasi-Newton methods, and any other minimiser of Optimistix, on points that are exchanged now and then."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float, PyTree

from sciad._errors import OptionError
from sciad.solvers.quasi_newton import SSBroyden
from sciad.solvers.rounds import AbstractRounds, Made, Posed, check_settings

FIRST, SECONDS = 5, 0.3  # steps of the first compiled loops, and how long later ones take
NONE: frozenset[object] = frozenset()


class QuasiNewton(AbstractRounds):
    """Minimise half the mean squares of the residuals by a quasi-Newton method, the self-scaled Broyden's by default.

    A step costs a few gradients, whatever the number of points: beside `Collocation` it needs many more steps, and
    each is cheaper. What is known of the curvature is kept when points are drawn anew.

    Parameters
    ----------
    method
        A minimiser of Optimistix; default: `SSBroyden`. It holds the inverse Hessian, p² numbers for p parameters;
        ``optx.LBFGS`` does not.
    hold
        Steps with the same points. Each is one of the method's: a whole line search of `SSBroyden`'s, one evaluation of
        ``optx.BFGS``'s.
    points, budget, max_steps, adaptive, growing, tolerance, patience, watch
        As in `Collocation`.
    """

    method: optx.AbstractMinimiser

    def __init__(
        self,
        method: optx.AbstractMinimiser | None = None,
        *,
        points: int = 3000,
        hold: int = 300,
        budget: float = 120.0,
        max_steps: int = 50_000,
        adaptive: bool = True,
        growing: int = 0,
        tolerance: float = 0.0,
        patience: int = 5,
        watch: Callable[[Any], object] | None = None,
    ) -> None:
        positive = {"points": points, "hold": hold, "max_steps": max_steps, "patience": patience, "budget": budget}
        check_settings("QuasiNewton", positive, growing)
        if not isinstance(method, optx.AbstractMinimiser | None):
            msg = f"QuasiNewton({type(method).__name__}): expected a minimiser of Optimistix, such as sd.SSBroyden() "
            msg += "or optx.LBFGS(1e-12, 1e-12)."
            raise OptionError(msg)
        self.method = SSBroyden(1e-15, 1e-15) if method is None else method
        self.points, self.hold, self.growing, self.watch = points, hold, growing, watch
        self.budget, self.max_steps = float(budget), max_steps
        self.adaptive, self.tolerance, self.patience = adaptive, float(tolerance), patience

    def memory(self, rows: int, parameters: int) -> float:
        """Return the bytes of the method's state, twice: the old and the new one."""
        del rows
        location, f = jax.ShapeDtypeStruct((parameters,), jnp.result_type(float)), jax.ShapeDtypeStruct((), float)
        state = eqx.filter_eval_shape(
            lambda location: self.method.init(_nothing, location, None, {}, f, None, NONE), location
        )
        return 2.0 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state) if hasattr(leaf, "dtype"))

    def descend(
        self, posed: Posed, location: Float[Array, " p"], setting: PyTree, steps: tuple[int, int], kept: Any
    ) -> Iterator[Made]:
        """Make the steps of a round; the inverse Hessian is kept, where the method's state has one."""
        state, curvature = _begun(self.method, posed, location, setting), _curvature(self.method)
        if kept is not None and curvature is not None:
            state = eqx.tree_at(curvature, state, kept)
        made, number, left, done = 0, FIRST, min(steps), False
        while made < left and not done:
            began, most = time.perf_counter(), min(number, left - made)
            location, state, counted, square, stop = _chunk(
                self.method, posed, location, setting, state, jnp.asarray(most)
            )
            made, done, trained = made + int(counted), bool(stop), float(np.sqrt(2 * float(square)))
            if made > FIRST:  # compiled by then
                number = max(int(most * SECONDS / (time.perf_counter() - began)), 1)
            yield Made(location, trained, made, None if curvature is None else curvature(state))


def _nothing(location: Array, args: None) -> tuple[Array, None]:
    del args
    return jnp.sum(location), None


def _curvature(method: optx.AbstractMinimiser) -> Callable[[Any], Any] | None:
    """Return where the state of a method has its inverse Hessian, if it has one that outlives its points."""
    if isinstance(method, SSBroyden):
        return lambda state: (state.inverse, state.fresh)
    if isinstance(method, optx.AbstractBFGS) and method.use_inverse:
        return lambda state: state.f_info.hessian_inv
    return None


def _loss(posed: Posed) -> Callable[[Array, PyTree], tuple[Array, None]]:
    def loss(location: Array, setting: PyTree) -> tuple[Array, None]:
        residuals, _ = posed.residuals(location, setting)
        return 0.5 * jnp.sum(residuals**2), None

    return loss


@eqx.filter_jit
def _begun(method: optx.AbstractMinimiser, posed: Posed, location: Array, setting: PyTree) -> Any:
    f, aux = jax.eval_shape(_loss(posed), location, setting)
    return method.init(_loss(posed), location, setting, {}, f, aux, NONE)


@eqx.filter_jit
def _chunk(
    method: optx.AbstractMinimiser, posed: Posed, location: Array, setting: PyTree, state: Any, most: Array
) -> tuple[Array, Any, Array, Array, Array]:
    """Make so many steps or fewer: where they led, state, their number, the loss there, and whether it is the end."""
    moving, fixed = eqx.partition(state, eqx.is_array)
    loss = _loss(posed)

    def ended(location: Array, moving: PyTree) -> Array:
        done, _ = method.terminate(loss, location, setting, {}, eqx.combine(moving, fixed), NONE)
        return done

    def proceed(carry: tuple[Array, PyTree, Array, Array]) -> Array:
        _, _, made, done = carry
        return ~done & (made < most)

    def once(carry: tuple[Array, PyTree, Array, Array]) -> tuple[Array, PyTree, Array, Array]:
        location, moving, made, _ = carry
        location, state, _ = method.step(loss, location, setting, {}, eqx.combine(moving, fixed), NONE)
        moving = eqx.filter(state, eqx.is_array)
        return location, moving, made + 1, ended(location, moving)

    location, moving, made, done = jax.lax.while_loop(
        proceed, once, (location, moving, jnp.zeros((), int), jnp.array(False))
    )
    return location, eqx.combine(moving, fixed), made, loss(location, setting)[0], done

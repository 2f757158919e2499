r"""Easier problems on the way to a hard one, by a number, the *ease*, that goes down to that of the problem itself.

Nudged predictions are pulled towards the data as they go. Between two observations the equation is solved; at an
observation the state is moved towards it by a share :math:`1 - e^{-K \Delta t}` of what it is off, and the residual is
what it was off *before*. With a great gain K this is one-step prediction, whose residuals are nearly linear in the
parameters of the slopes and have one minimum; with K = 0 it is simulation, the problem itself. From one to the other,
each minimum is a start for the next: the horizon over which errors of the parameters add up, about 1/K, grows while all
data are in use. Its ease is K.

A growing horizon uses the data up to a time T alone; its ease is 1/T. In chaos with noise this is the way: there the
noise of the data, put into the state by a nudge, grows until it is all there is.

Source: D. Larsson, J. Sjöberg et al., *Avoiding local minima in nonlinear system identification via prediction-error
homotopy* (2009), and C. P. Vyasarayani et al., *Single-shooting homotopy method for parameter identification in
dynamical systems*, Physical Review E 85 (2012).
"""

from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sciad._typing import Real
from sciad.problems.likelihood import Prediction
from sciad.problems.ode import ODEProblem
from sciad.problems.simulation import Setting, over_experiments, right_hand_side, simulate
from sciad.solvers.ode import ODE

RTOL = 1e-6  # of solves between knots, where the user's step size control has no tolerances
FIRST_KNOTS, SHARE_FIRST = 6, 0.04  # the first horizon: so many observed numbers; and as many times, or that share
KNOTS = 128  # observation times at most where predictions are corrected and compared
MANY_TIMES = (
    4096  # the same for a growing horizon, in which each time counts: in chaos minima are as narrow as data are many
)
FIRST, LAST = 3.0, 0.3  # of the gain: times the shortest gap, and times the whole interval


def gains(problem: ODEProblem) -> tuple[float, float]:
    """Return the first and the last gain of a path from one-step prediction towards simulation."""
    times = thinned(problem).observations.times
    span = max(times[-1] - problem.t0, np.finfo(float).tiny)
    gap = np.min(np.diff(times), initial=span)
    return FIRST / gap, LAST / span


def horizons(problem: ODEProblem) -> tuple[float, float]:
    """Return the first and the last ease of a growing horizon, one over its length."""
    seen = thinned(problem).observations
    times, fields = seen.times, max(int(seen.observed.any(axis=(0, 1)).sum()), 1)
    span = max(times[-1] - problem.t0, np.finfo(float).tiny)
    after = times[times > problem.t0] - problem.t0
    several, knots = (
        after[min(n, after.size) - 1] if after.size else span for n in (-(-FIRST_KNOTS // fields), FIRST_KNOTS)
    )
    first = max(several, min(knots, SHARE_FIRST * span))
    return 1 / (first if first > 0 else span), 1 / span


def thinned(problem: ODEProblem, most: int = KNOTS) -> ODEProblem:
    """Return the problem with at most so many of its times, evenly chosen among those with an observation.

    Its solver is the user's method and tolerances, and nothing else: segments are solved in a time of their own.
    """
    seen = problem.observations
    there = np.flatnonzero(seen.observed.any(axis=(0, 2)))
    kept = there[np.unique(np.linspace(0, there.size - 1, min(most, there.size)).round().astype(int))]
    fewer = seen._replace(times=seen.times[kept], values=seen.values[:, kept], observed=seen.observed[:, kept])
    return problem.variant(f"{most} times", lambda: problem.changed(observations=fewer, solver=_plain(problem)))


def _plain(problem: ODEProblem) -> ODE:
    solver, control = problem.solver, problem.solver.controller
    rtol: Any = RTOL
    atol: Any = RTOL * problem.observations.smallest
    if isinstance(control, dfx.PIDController):
        rtol, atol = control.rtol, control.atol
    return ODE(solver.solver, rtol=rtol, atol=atol, sensitivity=solver.sensitivity, max_steps=solver.max_steps)


def nudged(
    problem: ODEProblem, program: PyTree, gain: Float[Array, ""]
) -> tuple[Float[Array, "experiments knots fields"], Prediction]:
    """Return standardised residuals of a thinned problem, zero where nothing was observed, and the predictions.

    Parameters
    ----------
    problem
        What `thinned` made.
    gain
        K, per unit of time.
    """
    program = problem.complete(program)
    seen = problem.observations
    gaps = np.diff(np.concatenate([[problem.t0], seen.times]))
    begins, values = seen.times - gaps, np.where(seen.observed, seen.values, 0.0)

    def one(model: PyTree, setting: Setting, values: Array, observed: Array) -> tuple[Array, Array]:
        field = right_hand_side(problem, model, setting.inputs)

        def segment(y: Array, knot: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
            begin, gap, value, there = knot

            def scaled(s: Real, y: Array, _: None) -> Array:
                return gap * field(begin + s * gap, y)

            solution = problem.solver(scaled, y, t0=0.0, t1=1.0, throw=False)
            y = jnp.where(solution.ok, solution.y1, y)
            mean = problem.observed(model, begin + gap, y)
            off = jnp.where(there, value - mean, 0.0)
            pull = 1.0 - jnp.exp(-gain * gap)
            return y + pull * _correction(problem, model, begin + gap, y, off, there), (mean, solution.ok)

        knots = (jnp.asarray(begins), jnp.asarray(gaps), values, observed)
        _, (mean, ok) = jax.lax.scan(segment, setting.start, knots)
        return mean, setting.also(jnp.all(ok))

    mean, ok = over_experiments(problem, one, program, values, seen.observed)
    return problem.compared(program, Prediction(mean, ok))


def shortened(
    problem: ODEProblem, program: PyTree, ease: Float[Array, ""]
) -> tuple[Float[Array, "experiments knots fields"], Prediction]:
    """Return residuals of a thinned problem up to a horizon, zero beyond it, and the predictions.

    They are enlarged by the share of the observations that the horizon holds, so that their mean square is that within.
    Beyond the horizon the state rests: what would happen there can do no harm.
    """
    program = problem.complete(program)
    times, end = problem.observations.times, problem.t0 + 1 / ease

    def one(model: PyTree, setting: Setting) -> tuple[Array, Array]:
        states, ok = simulate(problem, model, setting, times, until=end)
        return jax.vmap(lambda t, y: problem.observed(model, t, y))(jnp.asarray(times), states), ok

    mean, ok = over_experiments(problem, one, program)
    within = problem.observations.observed & (times <= end + 1e-9 / ease)[None, :, None]
    # An observation beyond the horizon is taken as met, so that a prediction impossible there does not count.
    residuals, prediction = problem.compared(program, Prediction(jnp.where(within, mean, 1.0), ok))
    share = jnp.sum(within) / np.sum(problem.observations.observed)
    return jnp.where(within, residuals, 0.0) / jnp.sqrt(share), prediction


def _correction(problem: ODEProblem, model: PyTree, t: Array, y: Array, off: Array, there: Array) -> Array:
    """Return the least change of the state, relative to its size, that corrects the observed fields to first order."""
    slope = jax.jacfwd(lambda y: problem.observed(model, t, y))(y)
    slope = jnp.where(there[:, None], slope, 0.0)
    size = jnp.square(y) + 1e-6 * jnp.mean(jnp.square(y))
    size = jnp.where(jnp.any(size > 0), size, 1.0)
    gram = (slope * size[None]) @ slope.T
    diagonal = jnp.diag(gram)
    level = jnp.where(there & (diagonal > 0), 1e-9 * diagonal, 1.0)  # a field that no state moves is left alone
    return size * (slope.T @ jnp.linalg.solve(gram + jnp.diag(level), off))

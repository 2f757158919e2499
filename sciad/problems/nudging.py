r"""Easier problems on the way to a hard one: predictions that are pulled towards the data as they go.

Between two observations the equation is solved; at an observation the state is moved towards it by a share
:math:`1 - e^{-K \Delta t}` of what it is off, and the residual is what it was off *before*. With a great gain K this is
one-step prediction, whose residuals are nearly linear in the parameters of the slopes and have one minimum; with K = 0
it is simulation, the problem itself. From one to the other, each minimum is a start for the next: the horizon over
which errors of the parameters add up, about 1/K, grows while all data are in use.

Source: D. Larsson, J. Sjöberg et al., *Avoiding local minima in nonlinear system identification via prediction-error
homotopy* (2009), and C. P. Vyasarayani et al., *Single-shooting homotopy method for parameter identification in
dynamical systems*, Physical Review E 85 (2012).
"""

import copy

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sciad._roles import unwrap
from sciad._typing import Real
from sciad.problems.ode import ODEProblem, Prediction

KNOTS = 256  # observation times at most where predictions are corrected and compared
FIRST, LAST = 3.0, 0.3  # of the gain: times the shortest gap, and times the whole interval


def gains(problem: ODEProblem) -> list[float]:
    """Return the gains of a path from one-step prediction towards simulation, each half the one before."""
    times = thinned(problem).observations.times
    span = max(times[-1] - problem.t0, np.finfo(float).tiny)
    gap = np.min(np.diff(times), initial=span)
    number = int(np.ceil(np.log2(FIRST / gap * span / LAST))) + 1
    return [FIRST / gap * 0.5**i for i in range(number)]


def thinned(problem: ODEProblem) -> ODEProblem:
    """Return the problem with at most `KNOTS` of its times, evenly chosen among those with an observation."""
    seen = problem.observations
    there = np.flatnonzero(seen.observed.any(axis=(0, 2)))
    kept = there[np.unique(np.linspace(0, there.size - 1, min(KNOTS, there.size)).round().astype(int))]
    new = copy.copy(problem)
    new.observations = seen._replace(
        times=seen.times[kept], values=seen.values[:, kept], observed=seen.observed[:, kept]
    )
    return new


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
    plain, seen = unwrap(program), problem.observations
    gaps = np.diff(np.concatenate([[problem.t0], seen.times]))
    begins, values = seen.times - gaps, np.where(seen.observed, seen.values, 0.0)

    def one(start: Array, inputs: dict[str, Array], values: Array, observed: Array) -> tuple[Array, Array]:
        field = problem.right_hand_side(plain.model, inputs)

        def segment(y: Array, knot: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
            begin, gap, value, there = knot

            def scaled(s: Real, y: Array, _: None) -> Array:
                return gap * field(begin + s * gap, y, None)

            solution = problem.solver(scaled, y, t0=0.0, t1=1.0, throw=False)
            y = jnp.where(solution.ok, solution.y1, y)
            mean = problem.observed(plain.model, begin + gap, y)
            off = jnp.where(there, value - mean, 0.0)
            pull = 1.0 - jnp.exp(-gain * gap)
            return y + pull * _correction(problem, plain.model, begin + gap, y, off, there), (mean, solution.ok)

        _, (mean, ok) = jax.lax.scan(segment, start, (jnp.asarray(begins), jnp.asarray(gaps), values, observed))
        return mean, jnp.all(ok)

    starts = problem.starts(plain)
    mean, ok = jax.vmap(one)(starts, problem.inputs, jnp.asarray(values), jnp.asarray(seen.observed))
    return problem.compared(program, Prediction(mean, ok))


def _correction(problem: ODEProblem, model: PyTree, t: Array, y: Array, off: Array, there: Array) -> Array:
    """Return the least change of the state, relative to its size, that corrects the observed fields to first order."""
    slope = jax.jacfwd(lambda y: problem.observed(model, t, y))(y)
    slope = jnp.where(there[:, None], slope, 0.0)
    size = jnp.square(y) + 1e-6 * jnp.mean(jnp.square(y)) + jnp.finfo(y.dtype).tiny
    gram = (slope * size[None]) @ slope.T
    level = jnp.where(there, 1e-9 * jnp.diag(gram), 1.0)
    return size * (slope.T @ jnp.linalg.solve(gram + jnp.diag(level), off))

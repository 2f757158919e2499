r"""Multiple shooting: an interval cut into segments that are solved side by side, each from a state of its own.

.. math:: \min_{\theta, s} \sum_k \lVert r_k(\theta, s_k) \rVert^2
    + w^2 \sum_k \lVert (\varphi_k(s_k; \theta) - s_{k+1}) / \sigma \rVert^2

with :math:`s_k` the state at the start of segment k, :math:`\varphi_k` the solution at its end, :math:`\sigma` the size
of each state, and a weight w that grows until the gaps are closed. Errors of the parameters add up over one segment
alone, and data begin each of them: the sum of squares has few minima where that of a single solve has hundreds.

Source: H. G. Bock, *Recent advances in parameter identification techniques for O.D.E.* (1983); the constraint by a
growing weight as in J. Nocedal and S. J. Wright, *Numerical Optimization* (2006), section 17.1.
"""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float, Int, PyTree

from sciad._errors import InputError
from sciad._roles import unwrap
from sciad._vector import Vectorized, vectorize
from sciad.problems.easing import thinned
from sciad.problems.likelihood import Prediction
from sciad.problems.ode import ODEProblem, ODEProgram
from sciad.problems.schedule import in_own_time
from sciad.problems.simulation import Setting, over_experiments, right_hand_side
from sciad.solvers.gauss_newton import GaussNewton
from sciad.solvers.least_squares import REJECTED

WEIGHTS = (1.0, 10.0, 100.0, 1000.0)  # of the gaps, in sizes of the states
LONGEST = 4  # observation times in a segment, unless there would be too many
MOST = 32  # segments
WIDE = 0.1  # gap by the size of a state, with which nothing has been found
RTOL, STEPS = 1e-6, 100  # of Gauss-Newton for each weight


def multiple_shooting(problem: ODEProblem, program: PyTree, *, segments: int | None = None) -> ODEProgram:
    """Return the program with its inner parameters, and unknown initial states, found by multiple shooting.

    The noise stays as it is. Segments begin at the data where a state is observed, and at its initial value where it
    is hidden. The answer is one for `fit` to start from: gaps between segments are closed, as a rule, to a thousandth
    of a state's size, not further, and at most 128 of the times are looked at. A warning tells of gaps of more than a
    tenth.

    Parameters
    ----------
    problem, program
        As for `fit`.
    segments
        How many; default: one for every four times, 32 at most.

    Raises
    ------
    InputError
        If there are doses, stepwise inputs, resets, a delay or a start at rest, or fewer times than segments; if no
        segment can be solved.

    Examples
    --------
    >>> import sciad as sd, xarray as xr
    >>> jax.config.update("jax_enable_x64", True)
    >>> t = np.linspace(0.0, 20.0, 41)
    >>> data = xr.Dataset({"y": ("t", np.sin(1.5 * t)), "slope": ("t", 1.5 * np.cos(1.5 * t))}, coords={"t": t})
    >>> class Swing(eqx.Module):
    ...     frequency: sd.Param = sd.param(4.0)
    ...     def __call__(self, t, y):
    ...         return jnp.stack([y[1], -(self.frequency**2) * y[0]])
    >>> problem = sd.ODEProblem(data, noise=sd.Normal(0.1), initial={"y": 0.0, "slope": 1.5})
    >>> round(float(multiple_shooting(problem, Swing()).model.frequency), 4)
    1.5
    """
    if not isinstance(problem, ODEProblem):
        msg = f"multiple_shooting(problem, program): the first is a {type(problem).__name__}; expected an ODEProblem."
        raise InputError(msg)
    if not problem.smooth or problem.steady is not None:
        msg = (
            "Multiple shooting cuts the interval where it likes: it knows no doses, stepwise inputs, resets, delay or "
        )
        msg += "start at rest. Use `fit` alone."
        raise InputError(msg)
    shots = _Shots(problem, vectorize(problem.complete(program)), segments)
    unknowns, misfit, gap = shots.first(), jnp.inf, jnp.inf
    for weight in WEIGHTS:
        unknowns, misfit, gap = _descended(shots, unknowns, jnp.asarray(weight))
    if not misfit < REJECTED:
        msg = "Multiple shooting could solve no segment from the data with the given parameters. Give others, or more "
        msg += "`segments`."
        raise InputError(msg)
    if gap > WIDE:
        warnings.warn(
            f"Multiple shooting left gaps of {float(gap):.2g} of a state's size between segments: what it found is no "
            "solution of the equation. Try other parameters, or another number of `segments`.",
            stacklevel=2,
        )
    location, _ = unknowns
    return shots.full.program(shots.vector(location))


class _Shots(eqx.Module):
    """Segments of a thinned problem; compiled once for each problem and number of segments."""

    full: Vectorized
    problem: ODEProblem = eqx.field(static=True)
    edges: tuple[int, ...] = eqx.field(static=True)  # segment k holds the times with index edges[k] to edges[k + 1]
    sizes: Float[Array | np.ndarray, " states"]

    def __init__(self, problem: ODEProblem, full: Vectorized, segments: int | None) -> None:
        self.full, self.problem = full, thinned(problem.with_forward_sensitivities())
        times = self.problem.observations.times
        after = int(np.searchsorted(times, self.problem.t0, side="right"))  # those at t0 belong to the first segment
        number = max(1, min((times.size - after) // LONGEST, MOST)) if segments is None else segments
        if after == times.size:
            msg = f"Multiple shooting needs data after t0={self.problem.t0:g}, and there are none."
            raise InputError(msg)
        if not 1 <= number <= times.size - after:
            msg = f"multiple_shooting(segments={segments}): expected 1 to {times.size - after}, the number of times "
            msg += "after t0 that are looked at."
            raise InputError(msg)
        inner = np.linspace(after, times.size, number + 1).round().astype(int)[1:]
        self.edges = (0, *inner.tolist())
        self.sizes = self._sizes()

    @property
    def places(self) -> Int[np.ndarray, " p"]:
        """Places in the vector of all that is no noise."""
        return np.flatnonzero([not name.startswith("noise.") for name in self.full.names])

    @property
    def ends(self) -> Float[np.ndarray, " segments"]:
        """Times at which segments end."""
        return self.problem.observations.times[np.array(self.edges[1:]) - 1]

    def vector(self, location: Float[Array, " p"]) -> Float[Array, " d"]:
        """Return the whole vector."""
        return jnp.asarray(self.full.vector).at[self.places].set(location)

    def _sizes(self) -> Float[np.ndarray, " states"]:
        """Return the size of each state: of its data, or else of what the given parameters predict."""
        states = np.array(_states(self.problem, self.full))
        for state, column in self.problem.columns.items():
            seen = self.problem.observations
            states[..., self.problem.states.index(state)] = np.where(
                seen.observed[..., column], seen.values[..., column], np.nan
            )
        squares = np.where(np.isfinite(states), states, 0.0) ** 2
        sizes = np.sqrt(np.sum(squares, axis=(0, 1)) / np.maximum(np.sum(np.isfinite(states), axis=(0, 1)), 1))
        return np.where(sizes > 0, sizes, 1.0)

    def first(self) -> tuple[Array, Array]:
        """Return the given location, and the state at the start of each segment but the first."""
        starts = np.asarray(self.problem.starts(_plain(self.full)))
        seen, nodes = self.problem.observations, np.repeat(starts[:, None], len(self.edges) - 2, axis=1)
        for i, state in enumerate(self.problem.states):
            column = self.problem.columns.get(state)
            for experiment in range(len(starts)) if column is not None else ():
                there = seen.observed[experiment, :, column]
                if there.any():
                    data = seen.times[there], seen.values[experiment, there, column]
                    nodes[experiment, :, i] = np.interp(self.ends[:-1], *data)
                    # A state that is positive but for noise begins so: beyond zero, many an equation explodes.
                    positive = data[1][data[1] > 0]
                    if starts[experiment, i] >= 0 and 2 * positive.size > data[1].size:
                        nodes[experiment, :, i] = np.maximum(nodes[experiment, :, i], positive.min())
        return jnp.asarray(self.full.vector)[self.places], jnp.asarray(nodes)

    def residuals(self, unknowns: tuple[Array, Array], weight: Float[Array, ""]) -> Array:
        """Return the residuals of the data, and the gaps between segments by the size of each state, weighted."""
        location, nodes = unknowns
        program, problem = self.full.program(self.vector(location)), self.problem
        mean, gaps, ok = over_experiments(problem, self._shot, program, nodes)
        of_data, prediction = problem.compared(program, Prediction(mean, ok))
        found = jnp.concatenate(
            [of_data[problem.observations.observed], jnp.ravel(weight * gaps / self.sizes[None, None])]
        )
        ok = jnp.all(prediction.ok) & jnp.all(jnp.isfinite(found))
        return jnp.where(ok, jnp.where(ok, found, 0.0), REJECTED)

    def _shot(self, model: PyTree, setting: Setting, nodes: Array) -> tuple[Array, Array, Array]:
        """Return one experiment's predictions, the gaps after its segments, and whether all could be solved."""
        problem, ends = self.problem, jnp.asarray(self.ends)
        begins = jnp.concatenate([jnp.asarray(problem.t0)[None], ends[:-1]])
        counts = np.diff(self.edges)
        index = np.minimum(
            np.array(self.edges[:-1])[:, None] + np.arange(counts.max()), np.array(self.edges[1:])[:, None] - 1
        )
        times = jnp.asarray(problem.observations.times)
        field = right_hand_side(problem, model, setting.inputs)

        def segment(y: Array, begin: Array, gap: Array, saved: Array) -> tuple[Array, Array, Array]:
            solver = in_own_time(problem.solver, gap)
            solution = solver(
                lambda s, y, _: gap * field(begin + s * gap, y), y,
                ts=jnp.clip((saved - begin) / gap, 0.0, 1.0), t0=0.0, t1=1.0, throw=False, in_order=True,
            )  # fmt: skip
            return solution.ys, solution.y1, solution.ok

        starts = jnp.concatenate([setting.start[None], nodes])
        states, last, ok = jax.vmap(segment)(starts, begins, ends - begins, times[index])
        states = states[np.arange(counts.max()) < counts[:, None]]
        mean = jax.vmap(lambda t, y: problem.observed(model, t, y))(times, jnp.where(jnp.all(ok), states, 1.0))
        return mean, last[:-1] - nodes, setting.also(jnp.all(ok))


@eqx.filter_jit
def _descended(shots: _Shots, unknowns: tuple[Array, Array], weight: Array) -> tuple[tuple[Array, Array], Array, Array]:
    """Return the unknowns, the largest residual, and the largest gap by the size of its state."""
    engine = GaussNewton(RTOL, RTOL, acceleration=False)  # whose differences the noise of adaptive solves would spoil
    found: Any = optx.least_squares(shots.residuals, engine, unknowns, weight, max_steps=STEPS, throw=False)
    residuals = jnp.abs(found.stats["residuals"])
    gaps = residuals[residuals.size - unknowns[1].size :] / weight
    return found.value, jnp.max(residuals), jnp.max(gaps, initial=0.0)


@eqx.filter_jit
def _states(problem: ODEProblem, full: Vectorized) -> Array:
    return problem.states_at(full.program(full.vector))


@eqx.filter_jit
def _plain(full: Vectorized) -> ODEProgram:
    return unwrap(full.program(full.vector))

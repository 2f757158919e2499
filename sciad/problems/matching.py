r"""Gradient matching: parameters from slopes of smoothed data, without solving the equation.

Each observed state is smoothed by a cubic spline x̂ whose roughness is chosen by generalised cross-validation; then

.. math:: \min_\theta \sum_k \lVert (f_\theta(\hat x(t_k)) - \hat x'(t_k)) / s \rVert^2

with s the size of each state's slopes. Where f is linear in the parameters this is linear least squares, which needs no
guess; else Gauss-Newton from the given values. The answer is biased by the smoothing: a start for a fit, no estimate.

Source: J. M. Varah, *A spline least squares method for numerical parameter estimation in differential equations*, SIAM
Journal on Scientific and Statistical Computing 3 (1982); smoothing as in P. Craven and G. Wahba (1979).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree
from scipy.interpolate import make_smoothing_spline

from sciad._errors import InputError
from sciad._penalty import Penalty
from sciad._vector import Vectorized, vectorize, with_values
from sciad.problems.experiments import model_of
from sciad.problems.likelihood import Prediction
from sciad.problems.ode import ODEProblem, ODEProgram
from sciad.problems.simulation import right_hand_side
from sciad.solvers.gauss_newton import GaussNewton

WINDOW, WINDOWS = 200, 3  # points among which the roughness of a spline is chosen, and how often
LEAST, MOST, TRIED = 1e-8, 1e2, 300  # roughness at which even the finest bend stays, or the widest goes; how many
ROUNDING = 1e-14  # relative error of an eigenvalue
FEWEST = 5  # observations of a state that a smoothing spline needs
RTOL = 1e-8  # of Gauss-Newton
EDGE = 0.02  # share of the interval at either end where slopes of a spline are worst
STEPS = 200
PRIORS = 0.01  # their weight: slopes of a good match are off by about so much of their size


class Smoothed(NamedTuple):
    """States and slopes of smoothed data, with the experiment that each point is of."""

    times: Float[Array | np.ndarray, " n"]
    states: Float[Array | np.ndarray, "n states"]
    slopes: Float[Array | np.ndarray, "n states"]
    experiment: Int[Array | np.ndarray, " n"]


def smoothed(problem: ODEProblem) -> Smoothed:
    """Smooth the data of every state.

    Raises
    ------
    InputError
        If a state is not observed, or seldom, or there are doses.
    """
    if problem.doses or problem.resets:
        msg = "Gradient matching smooths the data, and doses and resets make them jump. Use `fit` alone."
        raise InputError(msg)
    column = problem.columns
    hidden = [state for state in problem.states if state not in column]
    if hidden:
        msg = f"Gradient matching needs data of every state; {', '.join(hidden)} are not observed. Use `fit` alone."
        raise InputError(msg)
    parts, seen = [], problem.observations
    for experiment in range(len(seen.values)):
        curves = {state: _curve(problem, experiment, column[state], state) for state in problem.states}
        first, last = seen.times[0], seen.times[-1]
        inside = np.abs(seen.times - (first + last) / 2) <= (0.5 - EDGE) * (last - first)
        times = seen.times[inside]
        states = np.stack([curve(times) for curve in curves.values()], axis=-1)
        slopes = np.stack([curve.derivative()(times) for curve in curves.values()], axis=-1)
        parts.append(Smoothed(times, states, slopes, np.full(len(times), experiment)))
    return Smoothed(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def smooth_prediction(problem: ODEProblem) -> Prediction:
    """Return smoothing splines of all fields, as if they had been predicted: how far the data scatter about them.

    Raises
    ------
    InputError
        If a field is seldom observed.
    """
    if problem.doses or problem.resets:
        msg = "Data of dosed or reset states jump, and no spline follows them."
        raise InputError(msg)
    seen = problem.observations
    curves = [
        [_curve(problem, experiment, column, field)(seen.times) for column, field in enumerate(problem.fields)]
        for experiment in range(len(seen.values))
    ]
    return Prediction(jnp.asarray(curves).transpose(0, 2, 1), jnp.ones(len(curves), bool))


def _curve(problem: ODEProblem, experiment: int, column: int, state: str) -> Any:
    seen = problem.observations
    there = seen.observed[experiment, :, column]
    if there.sum() < FEWEST:
        msg = f"Gradient matching needs at least {FEWEST} observations of {state!r} in each experiment; got "
        msg += f"{there.sum()}."
        raise InputError(msg)
    times, values = seen.times[there], seen.values[experiment, there, column]
    # The roughness λ is chosen in windows: it costs the cube of their points.
    begins = np.unique(np.linspace(0, max(len(times) - WINDOW, 0), WINDOWS).astype(int))
    roughness = min(_roughness(times[i : i + WINDOW], values[i : i + WINDOW]) for i in begins)
    return make_smoothing_spline(times, values, lam=roughness)


def _roughness(times: np.ndarray, values: np.ndarray) -> float:
    """Return the λ of generalised cross-validation.

    In the eigenvectors of the penalty ``∫ x''² = y K y`` of natural splines through y, smoothing divides by 1 + λd.
    Source: P. J. Green and B. W. Silverman, *Nonparametric Regression and Generalized Linear Models* (1994), chapter 2.
    """
    gaps = np.diff(times)
    slopes = np.diff(np.eye(len(times)), axis=0) / gaps[:, None]
    bends = np.diff(slopes, axis=0)
    gram = np.diag((gaps[1:] + gaps[:-1]) / 3) + np.diag(gaps[1:-1] / 6, 1) + np.diag(gaps[1:-1] / 6, -1)
    eigenvalues, vectors = np.linalg.eigh(bends.T @ np.linalg.solve(gram, bends))
    rough = eigenvalues[2:]  # the first two are of straight lines
    tried = np.geomspace(LEAST / rough[-1], MOST / max(rough[0], ROUNDING * rough[-1]), TRIED)
    lost = tried[:, None] * rough / (1 + tried[:, None] * rough)
    scores = np.sum((lost * (vectors.T @ values)[2:]) ** 2, axis=1) / np.sum(lost, axis=1) ** 2
    return float(tried[np.argmin(scores)])


def gradient_matching(problem: ODEProblem, program: PyTree, *, priors: bool = False) -> ODEProgram:
    """Return the program with the model's inner parameters matched to the slopes of smoothed data.

    Initial states and noise stay as they are. If priors count, they are weighed against slopes in units of a percent
    of their size.

    Raises
    ------
    InputError
        If a state is not observed, or seldom, or the equation has a delay.

    Examples
    --------
    >>> import sciad as sd, xarray as xr
    >>> jax.config.update("jax_enable_x64", True)
    >>> t = np.linspace(0.0, 3.0, 31)
    >>> data = xr.Dataset({"y": ("t", 5.0 * np.exp(-0.7 * t))}, coords={"t": t})
    >>> class Decay(eqx.Module):
    ...     rate: sd.Param = sd.param(9.0)
    ...     def __call__(self, t, y):
    ...         return -self.rate * y
    >>> matched = gradient_matching(sd.ODEProblem(data, noise=sd.Normal(0.1)), Decay())
    >>> round(float(matched.model.rate), 3)
    0.7
    """
    if problem.delay is not None:
        msg = "Gradient matching knows no delayed state: an equation with a delay is fitted by `fit` alone."
        raise InputError(msg)
    full = vectorize(problem.complete(program))
    if not any(name.startswith("model.") for name in full.names):
        return full.program(full.vector)
    data = smoothed(problem)
    size = np.sqrt(np.mean(data.slopes**2, axis=0))
    size = jnp.asarray(np.where(size > 0, size, 1.0))
    misfit = _Misfit(full, Smoothed(*map(jnp.asarray, data)), size, Penalty(full) if priors else None, problem)
    start, linear = _by_linear_least_squares(misfit)
    weighed = priors and any(s.prior is not None for path, s in full.sites.items() if path.startswith("model."))
    return full.program(start if linear and not weighed else _by_gauss_newton(misfit, start))


class _Misfit(eqx.Module):
    """What the slopes of the data and those of the equation differ by; compiled once for each problem."""

    full: Vectorized
    data: Smoothed
    size: Float[Array, " states"]
    penalty: Penalty | None
    problem: ODEProblem = eqx.field(static=True)

    @property
    def natural(self) -> dict[str, Array]:
        """Present values of the model's inner parameters, by path."""
        values = self.full.values(self.full.vector)
        return {path: value for path, value in values.items() if path.startswith("model.")}

    def of_values(self, flat: Array) -> Array:
        """Return the misfit of natural values, as a vector."""
        _, unravel = ravel_pytree(self.natural)
        return self._of(with_values(self.full.program(self.full.vector), unravel(flat)))

    def of_location(self, location: Array, start: Array) -> Array:
        """Return the misfit of the model's part of the unconstrained vector, the rest being that of `start`."""
        vector = start.at[self.places].set(location)
        of_slopes = self._of(self.full.program(vector))
        if self.penalty is None:
            return of_slopes
        return jnp.concatenate([of_slopes, PRIORS * self.penalty(self.full, vector)])

    @property
    def places(self) -> np.ndarray:
        """Places of the model's parameters in the vector."""
        return np.flatnonzero([name.startswith("model.") for name in self.full.names])

    def _of(self, program: ODEProgram) -> Array:
        data = self.data
        inputs = jax.tree.map(lambda u: u[data.experiment], self.problem.inputs)

        def one(experiment: Array, t: Array, y: Array, inputs: dict[str, Array]) -> Array:
            return right_hand_side(self.problem, model_of(program.model, experiment), inputs)(t, y)

        experiment, times, states = map(jnp.asarray, (data.experiment, data.times, data.states))
        slopes = jax.vmap(one)(experiment, times, states, inputs)
        return ((slopes - jnp.asarray(data.slopes)) / self.size[None]).ravel()


@eqx.filter_jit
def _linearised(misfit: _Misfit, flat: Array) -> tuple[Array, Array]:
    def with_value(flat: Array) -> tuple[Array, Array]:
        value = misfit.of_values(flat)
        return value, value

    return jax.jacfwd(with_value, has_aux=True)(flat)


def _by_linear_least_squares(misfit: _Misfit) -> tuple[Array, bool]:
    """Return the vector that makes the misfit least, if it is linear in natural values and the answer allowed.

    Else values outside their constraint stay as given, and the answer is false.
    """
    flat, unravel = ravel_pytree(misfit.natural)
    (here, value), (there, _) = _linearised(misfit, flat), _linearised(misfit, 1.5 * flat + 0.1)
    full = misfit.full
    if not np.allclose(here, there, rtol=1e-9, atol=1e-12 * np.abs(here).max(initial=0.0)):
        return full.vector, False
    best = flat - jnp.asarray(np.linalg.lstsq(here, value)[0])
    inside, vector = True, full.vector
    for path, found in unravel(best).items():
        moved = jnp.ravel(full.sites[path].bijection.inv(found))
        allowed = bool(jnp.all(jnp.isfinite(moved)))
        inside &= allowed
        vector = vector.at[full.places[path]].set(moved) if allowed else vector
    return vector, inside


@eqx.filter_jit
def _by_gauss_newton(misfit: _Misfit, start: Array) -> Array:
    def residuals(location: Array, args: None) -> Array:
        del args
        return misfit.of_location(location, start)

    engine, places = GaussNewton(RTOL, RTOL), misfit.places
    found = optx.least_squares(residuals, engine, start[places], max_steps=STEPS, throw=False)
    return start.at[places].set(found.value)

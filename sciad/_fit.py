"""The verb `fit`: a point estimate, and what can be said of its precision."""

import functools
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pandas as pd
import xarray as xr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from scipy import stats as st

from sciad._errors import InputError, OptionError
from sciad._precision import warn_if_float32
from sciad._regression import Natural, information, residual_tests
from sciad._results import RESULTS
from sciad._vector import Vectorized, vectorize
from sciad.problems.ode import ODEProblem, ODEProgram
from sciad.solvers.least_squares import REJECTED, LeastSquares


@dataclass(frozen=True)
class Fit:
    """A fitted program.

    Attributes
    ----------
    program
        The complete program, with the estimates in place.
    names, values
        Scalar parameters and their estimates, in natural units.
    covariance
        Of `values`; see `fit`. NaN where the data do not determine the parameters.
    residuals
        Standardised residuals with the names and coordinates of the data.
    diagnostics
        Numbers on the quality of the fit: ``converged``, ``log_likelihood``, ``aic``, ``bic``, degrees of freedom, condition
        number of the scaled Jacobian, and by field the p-values of tests of the residuals.
    loss
        Negative log-likelihood at the estimate.
    result
        How the optimisation ended.
    stats
        Starts, steps and seconds.
    warnings
        What a reader must know, in plain words.
    """

    problem: ODEProblem
    program: ODEProgram
    names: tuple[str, ...]
    values: Float[np.ndarray, " k"]
    covariance: Float[np.ndarray, "k k"]
    residuals: xr.Dataset
    diagnostics: dict[str, Any]
    loss: float
    result: optx.RESULTS
    stats: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    _bounds: Any = None

    @property
    def standard_errors(self) -> Float[np.ndarray, " k"]:
        """Square roots of the covariance's diagonal."""
        return np.sqrt(np.diag(self.covariance))

    def interval(self, level: float = 0.95) -> pd.DataFrame:
        """Return confidence intervals: Student's t in unconstrained space, carried back, so that they respect the bounds."""
        if not 0 < level < 1:
            msg = f"interval(level={level}): expected a probability between 0 and 1, such as 0.95."
            raise OptionError(msg)
        quantile = st.t.ppf(0.5 + level / 2, max(self.diagnostics["degrees_of_freedom"], 1))
        lower, upper = self._bounds(quantile)
        return pd.DataFrame({"lower": lower, "upper": upper}, index=list(self.names))

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """Return estimates, standard errors and confidence limits, a row for each scalar parameter."""
        values = pd.DataFrame({"value": self.values, "standard_error": self.standard_errors}, index=list(self.names))
        return values.join(self.interval(level))

    def prediction(self, times: Float[np.ndarray, " times"] | None = None) -> xr.Dataset:
        """Return the predicted fields at `times`, or at those of the data."""
        mean = self.problem.predict(self.program, times).mean
        return self.problem.dataset(np.asarray(mean), times)

    def __str__(self) -> str:
        lines = [self.table().to_string(float_format="{:.4g}".format), f"negative log-likelihood {self.loss:.4f}"]
        return "\n".join(lines + self.warnings)


def fit(
    problem: ODEProblem,
    program: PyTree,
    *,
    solver: LeastSquares | None = None,
    starts: int | None = None,
    key: PRNGKeyArray | None = None,
) -> Fit:
    r"""Estimate a program's inner parameters by maximum likelihood.

    Parameters
    ----------
    problem
        Data and noise.
    program
        The model, or a complete program; its values are the first start.
    solver
        Settings of the optimisation.
    starts
        Further starts tried, drawn from the priors; default: the solver's.
    key
        For drawing them; needed only then. Default: ``jax.random.key(0)``, the same starts every time.

    Notes
    -----
    The covariance is that of the linearised model: with :math:`J = \partial r/\partial u` the Jacobian of the standardised
    residuals in unconstrained space, :math:`\tfrac{n}{n-p}(J^\top J)^{-1}` for the equation's parameters (the factor where the
    noise is estimated too) and the inverse Hessian of the log-likelihood for those of the noise, carried to natural units by
    :math:`\partial x/\partial u`. Priors serve to draw starts; they do not enter the estimate.

    Source: G. A. F. Seber and C. J. Wild, *Nonlinear Regression* (1989), sections 2.1 and 5.1.

    Raises
    ------
    InputError
        If the program has no inner parameter, or data and program do not fit together.
    """
    if not isinstance(problem, ODEProblem):
        msg = f"`problem` is a {type(problem).__name__}; expected an ODEProblem."
        raise InputError(msg)
    warn_if_float32("fitting")
    # --- set up ---
    solver = LeastSquares() if solver is None else solver
    solver = solver if starts is None else LeastSquares(**(vars(solver) | {"starts": starts}))
    full = vectorize(problem.complete(program))
    split = _Split(problem, full)
    locations = split.starts(solver.starts, jax.random.key(0) if key is None else key)
    # --- estimate ---
    found = solver.estimate(split.residuals, split.noise_loss, locations, full.vector[split.noise])
    vector = split.joined(jnp.asarray(found.location), jnp.asarray(found.noise))
    # --- precision ---
    return _describe(problem, full, split, vector, found.result, found.stats)


class _Split:
    """The unconstrained vector in two: what moves predictions, and what only moves the noise."""

    def __init__(self, problem: ODEProblem, full: Vectorized) -> None:
        is_noise = np.array([name.startswith("noise.") for name in full.names])
        self.problem, self.full = problem, full
        self.location, self.noise = np.flatnonzero(~is_noise), np.flatnonzero(is_noise)

    def joined(self, location: Array, noise: Array) -> Array:
        return self.full.vector.at[self.location].set(location).at[self.noise].set(noise)

    def residuals(self, location: Array, noise: Array) -> tuple[Array, Any]:
        program = self.full.program(self.joined(location, noise))
        residuals, prediction = self.problem.residuals(program)
        seen = residuals[self.problem.observations.observed]
        ok = jnp.all(prediction.ok) & jnp.all(jnp.isfinite(seen))
        return jnp.where(ok, jnp.where(ok, seen, 0.0), REJECTED), prediction

    def noise_loss(self, noise: Array, location: Array, prediction: Any) -> Array:
        program = self.full.program(self.joined(location, noise))
        return -jnp.sum(self.problem.log_likelihoods(program, prediction))

    @functools.partial(jax.jit, static_argnums=0)
    def at(self, location: Array, noise: Array) -> tuple[Array, Array, Array, Array]:
        """Jacobian of the residuals, residuals, loss, and the Hessian of the loss in the noise's parameters."""

        def residuals(location: Array) -> tuple[Array, Any]:
            r, prediction = self.residuals(location, noise)
            return r, (r, prediction)

        jacobian, (r, prediction) = jax.jacfwd(residuals, has_aux=True)(location)
        loss, curvature = (f(noise, location, prediction) for f in (self.noise_loss, jax.hessian(self.noise_loss)))
        return jacobian, r, loss, curvature

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def starts(self, number: int, key: PRNGKeyArray) -> Array:
        """The given point, then draws: from the priors where there are any, else normal about it."""
        given = self.full.vector
        if number == 0:
            return given[self.location][None]
        draws = jax.vmap(lambda k: self.full.draw(k))(jax.random.split(key, number))
        return jnp.concatenate([given[None], draws])[:, self.location]


def _describe(
    problem: ODEProblem, full: Vectorized, split: _Split, vector: Array, result: optx.RESULTS, stats: dict[str, Any]
) -> Fit:
    location, noise = vector[split.location], vector[split.noise]
    jacobian, r, loss, curvature = (np.asarray(x) for x in split.at(location, noise))
    n, p = r.size, location.size
    names = [problem.label(full.names[i]) for i in split.location]
    spread, condition, warnings = information(np.asarray(jacobian), names)
    covariance = np.zeros((vector.size, vector.size))
    covariance[np.ix_(split.location, split.location)] = spread * (n / max(n - p, 1) if noise.size else 1.0)
    if noise.size:
        covariance[np.ix_(split.noise, split.noise)] = np.linalg.pinv(curvature, hermitian=True)
    converged = bool(result == RESULTS.successful)
    if not converged:
        warnings.append(f"The fit did not converge: {RESULTS[result] or 'unknown reason'}")
    if n <= p:
        warnings.append(f"{n} observations for {p} parameters: the fit can follow the data wherever they go.")
    residuals = np.full(problem.observations.values.shape, np.nan)
    residuals[problem.observations.observed] = r
    loss = float(loss)
    diagnostics = {
        "converged": converged,
        "observations": n,
        "degrees_of_freedom": n - p,
        "reduced_chi_squared": float(np.sum(r**2) / max(n - p, 1)),
        "log_likelihood": -loss,
        "aic": 2 * loss + 2 * vector.size,
        "bic": 2 * loss + float(np.log(n)) * vector.size,
        "condition_number": condition,
        "residual_tests": residual_tests(problem.fields, residuals),
    }
    natural = Natural(full, problem.label)
    values, slope = (np.asarray(x) for x in jax.jit(lambda v: (natural(v), jax.jacfwd(natural)(v)))(vector))
    return Fit(
        problem=problem,
        program=full.program(vector),
        names=natural.names,
        values=values,
        covariance=slope @ covariance @ slope.T,
        residuals=problem.dataset(residuals),
        diagnostics=diagnostics,
        loss=loss,
        result=result,
        stats=stats,
        warnings=warnings,
        _bounds=lambda quantile: natural.bounds(vector, np.sqrt(np.diag(covariance)), quantile),
    )

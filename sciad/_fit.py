"""The verb `fit`: a point estimate with its precision."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree
from scipy import stats as st

from sciad._errors import InputError
from sciad._fitted import Fit
from sciad._key import as_key
from sciad._precision import warn_if_float32
from sciad._regression import (
    Natural,
    distance,
    location_covariance,
    natural_covariance,
    noise_covariance,
    residual_tests,
)
from sciad._results import RESULTS
from sciad._vector import vectorize
from sciad.problems.easing import gains, horizons
from sciad.problems.matching import gradient_matching
from sciad.problems.ode import ODEProblem
from sciad.problems.separation import Separation
from sciad.solvers.least_squares import Estimate, LeastSquares, Path, Way

# By the optimiser's rule, or where a solver's rounding lets no step descend any more: the distance then decides.
ENDED = (RESULTS.successful, RESULTS.nonlinear_divergence)
NO_PARAMETER = (
    "The model itself has no inner parameter: only initial values and noise were fitted. Declare parameters as "
    "`rate: sd.Param = sd.param(...)` in an eqx.Module."
)
RIVAL, APART = 2.0, 1.0  # a rival is so near in log-likelihood, and so many standard errors away
FAR = 0.01  # standard errors from the optimum, by linearisation, beyond which a fit has not converged
DOUBT = 0.01  # the same of signs, below which other ways to a better minimum are tried
UNEXPLAINED = 0.25  # share of the scatter about a constant above which the same is done
EXACT = 1e-6  # the same share, below which a curve follows the data beyond doubt, however the rest may look
NEGLIGIBLE = 1e-3  # size of residuals, in standard deviations of the noise, that no longer matter
SUSPECT = 1e-3  # p-value of a test of the residuals below which the reader is told


def fit(
    problem: ODEProblem,
    program: PyTree,
    *,
    solver: LeastSquares | None = None,
    starts: int | None = None,
    key: PRNGKeyArray | int | None = None,
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
        For drawing them, or a whole number that seeds one. Default: 0, the same starts every time.

    Returns
    -------
    Fit
        Also where the optimisation did not converge, or no start could be evaluated: ``fit.message`` then says so, and
        is the first of ``fit.warnings``.

    Raises
    ------
    InputError
        If the program has no inner parameter, or data and program do not fit together.

    Notes
    -----
    With :math:`G = \partial\mu/\partial u` the Jacobian of the predictions in unconstrained space and :math:`I` the
    expected information of each observation about its prediction, the covariance of the equation's parameters is
    :math:`\tfrac{n}{n-p}(G^\top I G)^{-1}` (the factor where the noise is estimated too); that of the noise's is the
    inverse Hessian of the loss. Both are carried to natural units by :math:`\partial x/\partial u`. Priors serve to
    draw starts; they do not enter the estimate. A fit has converged when the optimiser's rule is met, or no step
    descends any more, and the optimum of the linearised problem is less than 0.01 standard errors away.

    Source: G. A. F. Seber and C. J. Wild, *Nonlinear Regression* (1989), sections 2.1 and 5.1.

    Examples
    --------
    >>> import jax, sciad as sd, xarray as xr
    >>> jax.config.update("jax_enable_x64", True)
    >>> hours = np.linspace(0.0, 4.0, 9)
    >>> data = xr.Dataset({"drug": ("hour", 8.0 * np.exp(-0.5 * hours))}, coords={"hour": hours})
    >>> problem = sd.ODEProblem(data, noise=sd.LogNormal(0.1), initial={"drug": 8.0})
    >>> class Decay(eqx.Module):
    ...     rate: sd.Param = sd.param(1.0)
    ...     def __call__(self, t, y):
    ...         return -self.rate * y
    >>> found = fit(problem, Decay(), starts=0)
    >>> found.message, found.names, found.values.round(4).tolist()
    ('Converged.', ('rate',), [0.5])
    """
    if not isinstance(problem, ODEProblem):
        msg = f"`problem` is a {type(problem).__name__}; expected an ODEProblem."
        raise InputError(msg)
    warn_if_float32("fitting")
    # --- set up ---
    solver = LeastSquares() if solver is None else solver
    solver = solver if starts is None else dataclasses.replace(solver, starts=starts)
    full = vectorize(problem.complete(program))
    parts = Separation(problem, full)
    locations = parts.starts(solver.starts, as_key(key))
    # --- estimate ---
    noise = np.asarray(full.vector)[parts.noise]
    constant = parts.about_constants(jnp.asarray(locations[0]), jnp.asarray(noise))[parts.problem.observations.observed]
    path = Path(
        [Way(parts.nudged, *gains(problem)), Way(parts.shortened, *horizons(problem))],
        scatter=float(jnp.sqrt(jnp.mean(constant**2))),
        exact=lambda estimate: estimate is not None and bool(np.all(_unexplained(parts, estimate) < EXACT)),
        doubtful=lambda estimate: estimate is None or _doubtful(parts, estimate),
        shortcuts=lambda: _matched(parts),
    )
    found = solver.estimate(
        parts.residuals, parts.noise_loss, locations, noise, forward=parts.forward, path=path, chart=parts.chart
    )
    # --- describe ---
    vector = np.asarray(parts.joined(found.point.location, jnp.asarray(found.noise)))
    covariance, condition, warnings = _precision(parts, problem, found)
    natural = Natural(full, problem.label)
    fitted, values, slopes = natural.at(vector)
    diagnostics = _diagnostics(parts, found) | {"condition_number": condition}
    warnings += [*_remarks(diagnostics), *_rivals(parts, natural, found)]
    warnings += [] if any(name.startswith("model.") for name in full.names) else [NO_PARAMETER]
    return Fit(
        problem=problem,
        program=fitted,
        names=natural.names,
        values=values,
        covariance=natural_covariance(slopes, covariance),
        residuals=problem.dataset(_residuals(problem, found)),
        diagnostics=diagnostics,
        loss=found.loss,
        result=found.result,
        stats=found.stats,
        warnings=[*_ending(problem, fitted, found, diagnostics), *warnings],
        _natural=natural,
        _full=full,
        _vector=vector,
        _covariance=covariance,
        _noise_estimated=bool(noise.size),
    )


def _doubtful(parts: Separation, found: Estimate) -> bool:
    """Whether the minimum may be wrong.

    Residuals keep their sign for long, are larger than known noise, or hardly smaller than those about a constant.
    """
    if not np.isfinite(found.loss):
        return True
    residuals = _residuals(parts.problem, found)
    tests = residual_tests(parts.problem.fields, residuals, residuals)
    persistent = np.array([of_field["p_independent"] < DOUBT for of_field in tests.values()])
    ill = _p_chi_squared(parts, np.asarray(found.point.at.residuals)) < DOUBT and np.nanmean(residuals**2) > 1
    unexplained = _unexplained(parts, found)
    return bool(ill or np.any((persistent & (unexplained > EXACT)) | (unexplained > UNEXPLAINED)))


def _unexplained(parts: Separation, found: Estimate) -> np.ndarray:
    """Return, for each field, the squares of the residuals as a share of those about a constant."""
    residuals = _residuals(parts.problem, found)
    constant = np.asarray(parts.about_constants(found.point.location, jnp.asarray(found.noise)))
    return np.nansum(residuals**2, axis=(0, 1)) / np.maximum(np.nansum(constant**2, axis=(0, 1)), 1e-300)


def _matched(parts: Separation) -> list[np.ndarray]:
    """Return where gradient matching leads, if it can be done."""
    try:
        program = gradient_matching(parts.problem, parts.full.program(parts.full.vector))
    except InputError:
        return []
    return [np.asarray(vectorize(program).vector)[parts.location]]


def _precision(parts: Separation, problem: ODEProblem, found: Estimate) -> tuple[np.ndarray, float, list[str]]:
    """Return the covariance in unconstrained space, the Jacobian's condition number, and what the data leave open."""
    jacobian, (n, p) = np.asarray(found.point.at.jacobian), found.point.at.jacobian.shape
    size = parts.location.size + parts.noise.size
    covariance = np.zeros((size, size))
    if not np.isfinite(found.loss):
        return np.full_like(covariance, np.nan), np.nan, []
    weights = np.asarray(eqx.filter_jit(parts.weights)(jnp.asarray(found.noise), found.point.at.predictions))
    names = [problem.label(name) for name in parts.full.names]
    weighted = weights[:, None] * jacobian
    of_location, condition, warnings = location_covariance(weighted, [names[i] for i in parts.location])
    of_noise, more = noise_covariance(found.hessian, found.noise, [names[i] for i in parts.noise])
    factor = 1.0 if not parts.noise.size else n / (n - p) if n > p else np.nan
    covariance[np.ix_(parts.location, parts.location)] = of_location * factor
    covariance[np.ix_(parts.noise, parts.noise)] = of_noise
    return covariance, condition, warnings + more


def _residuals(problem: ODEProblem, found: Estimate) -> np.ndarray:
    residuals = np.full(problem.observations.values.shape, np.nan)
    if np.isfinite(found.loss):
        residuals[problem.observations.observed] = np.asarray(found.point.at.residuals)
    return residuals


def _scores(parts: Separation, found: Estimate) -> np.ndarray:
    observed = parts.problem.observations.observed
    if not np.isfinite(found.loss):
        return np.full(observed.shape, np.nan)
    scores = eqx.filter_jit(parts.scores)(jnp.asarray(found.noise), found.point.at.predictions)
    return np.where(observed, scores, np.nan)


def _diagnostics(parts: Separation, found: Estimate) -> dict[str, Any]:
    jacobian, r = np.asarray(found.point.at.jacobian), np.asarray(found.point.at.residuals)
    n, p = jacobian.shape
    parameters = parts.location.size + parts.noise.size
    valid = bool(np.isfinite(found.loss))
    gap = distance(jacobian, r) if valid else np.inf
    return {
        "converged": any(bool(found.result == ended) for ended in ENDED) and gap < FAR,
        "distance": gap,
        "observations": n,
        "degrees_of_freedom": n - p,
        "reduced_chi_squared": float(np.sum(r**2) / (n - p)) if valid and n > p else np.nan,
        "p_chi_squared": _p_chi_squared(parts, r) if valid else np.nan,
        "log_likelihood": -found.loss,
        "aic": 2 * found.loss + 2 * parameters,
        "bic": 2 * found.loss + float(np.log(n)) * parameters,
        "residual_tests": residual_tests(
            parts.problem.fields, _residuals(parts.problem, found), _scores(parts, found)
        ),
    }


def _p_chi_squared(parts: Separation, residuals: np.ndarray) -> float:
    """Return the two-sided p-value of the residuals' squares, if the noise is known; NaN if it is estimated."""
    free = residuals.size - parts.location.size
    if parts.noise.size or free <= 0:
        return np.nan
    square = float(np.sum(residuals**2))
    return float(2 * min(st.chi2.sf(square, free), st.chi2.cdf(square, free)))


def _ending(problem: ODEProblem, program: PyTree, found: Estimate, diagnostics: dict[str, Any]) -> list[str]:
    if diagnostics["converged"]:
        return []
    what = problem.impossible(program) if bool(found.result == RESULTS.no_valid_start) else ""
    if what:
        return [
            f"The fit did not converge: {what}, which is impossible for its noise. Take a noise model that allows it, "
            "such as sd.Normal(), or leave that observation out."
        ]
    reason = RESULTS[found.result] or (
        f"it stopped {diagnostics['distance']:.2g} standard errors from where the loss is flat. Try other starts, or "
        "smaller tolerances of the ODE."
    )
    return [f"The fit did not converge: {reason}"]


def _rivals(parts: Separation, natural: Natural, found: Estimate) -> list[str]:
    """Say which other optima were met that fit nearly as well."""
    here, jacobian = np.asarray(found.point.location), np.asarray(found.point.at.jacobian)
    told, seen = [], [here]
    for other in sorted(found.others, key=lambda t: t.loss):
        there = np.asarray(other.point.location)
        near = any(np.linalg.norm(jacobian @ (there - place)) < APART for place in seen)
        if near or other.loss - found.loss > RIVAL or not bool(other.result == RESULTS.successful):
            continue
        seen.append(there)
        _, values, _ = natural.at(np.asarray(parts.joined(other.point.location, jnp.asarray(other.noise))))
        numbers = ", ".join(f"{name}={value:.3g}" for name, value in zip(natural.names, values, strict=True))
        told.append(
            f"Another optimum fits nearly as well, by {other.loss - found.loss:.2g} less in log-likelihood: {numbers}. "
            "The data do not tell which is right: bound the parameters, or add data."
        )
    return told[:3]


def _remarks(diagnostics: dict[str, Any]) -> list[str]:
    """Return what the residuals and their number say against the fit."""
    n, free = diagnostics["observations"], diagnostics["degrees_of_freedom"]
    remarks = []
    if free <= 0:
        remarks.append(
            f"{n} observations for {n - free} parameters of the curve, which can follow the data wherever they go: fix "
            "parameters, or add data."
        )
    size = diagnostics["reduced_chi_squared"] ** 0.5
    if diagnostics["p_chi_squared"] < SUSPECT and size > NEGLIGIBLE:
        remarks.append(
            f"The residuals are {size:.3g} times as large as the noise model says (p = "
            f"{diagnostics['p_chi_squared']:.1g}): the standard errors are {'too small' if size > 1 else 'too large'}. "
            "Correct the noise's scale, or let it be estimated, as sd.Normal() does."
        )
    for field, tests in diagnostics["residual_tests"].items():
        if tests["rms"] < NEGLIGIBLE:
            continue  # what is left is rounding, and says nothing of the model
        if tests["p_independent"] < SUSPECT:
            remarks.append(
                f"The residuals of {field} keep their sign for long (p = {tests['p_independent']:.1g} if they were "
                "independent): the equation misses something, and the standard errors are too small."
            )
        if tests["p_normal"] < SUSPECT:
            remarks.append(
                f"The residuals of {field} do not scatter as the noise model says (p = {tests['p_normal']:.1g}): look "
                "for outliers, or take another noise model, such as sd.StudentT()."
            )
    return remarks

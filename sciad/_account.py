"""What a fit says of itself in numbers: precision, residuals, diagnostics."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from scipy import stats as st

from sciad._regression import LOOSE, distance, location_covariance, noise_covariance, residual_tests
from sciad._results import RESULTS
from sciad.problems.separation import Separation
from sciad.solvers.least_squares import Estimate

# By the optimiser's rule, or where a solver's rounding lets no step descend any more: the distance then decides.
ENDED = (RESULTS.successful, RESULTS.nonlinear_divergence)
FAR = 0.01  # standard errors from the optimum, by linearisation, beyond which a fit has not converged


def effective_number(parts: Separation, found: Estimate) -> float:
    """Return the number of the location's parameters, or, where priors count, of those that the data have a say in.

    It is the sum of the data's leverages: of squares of their rows of Q in J = QR.
    """
    if parts.penalty is None or not np.isfinite(found.loss):
        return float(parts.location.size)
    weighted = weighted_jacobian(parts, found)
    lengths = np.linalg.norm(weighted, axis=0)
    left, values, _ = np.linalg.svd(weighted / np.where(lengths > 0, lengths, 1.0), full_matrices=False)
    return float(np.sum(left[: parts.observations, values > LOOSE * values.max(initial=0.0)] ** 2))


def weighted_jacobian(parts: Separation, found: Estimate) -> np.ndarray:
    """Return the Jacobian in unconstrained space, whose rows' squares add up to the expected information.

    Its first rows are of the observations, further ones of priors that count.
    """
    jacobian = np.asarray(found.point.at.jacobian)
    if not np.isfinite(found.loss):
        return np.full_like(jacobian, np.nan)
    weights = np.asarray(eqx.filter_jit(parts.weights)(jnp.asarray(found.noise), found.point.at.predictions))
    return weights[:, None] * jacobian


def resting(parts: Separation, found: Estimate) -> np.ndarray:
    """Return -1 for each number that rests on the lower rim of a wide interval, 1 for the upper, or 0."""
    location, idle = found.point.location, ~np.any(np.asarray(found.point.at.jacobian), axis=0)
    low, high = (np.asarray(rim) for rim in parts.chart.rests(parts.chart.coordinates(location)))
    return np.where(idle, high.astype(int) - low.astype(int), 0)


def precision(
    parts: Separation, found: Estimate, effective: float, weighted: np.ndarray, *, free: np.ndarray
) -> tuple[np.ndarray, float, list[str]]:
    """Return the covariance in unconstrained space, the Jacobian's condition number, and what the data leave open.

    Numbers of the location that are not `free` rest on a rim, and have no variance.
    """
    n = parts.observations
    size = parts.location.size + parts.noise.size
    covariance = np.zeros((size, size))
    if not np.isfinite(found.loss):
        return np.full_like(covariance, np.nan), np.nan, []
    if parts.noise.size:  # estimated from what the curve left, it is too small
        weighted = np.concatenate([np.sqrt(max(1 - effective / n, 0.0)) * weighted[:n], weighted[n:]])
    names = [parts.problem.label(name) for name in parts.full.names]
    of_free, condition, warnings = location_covariance(weighted[:, free], [names[i] for i in parts.location[free]])
    of_location = np.full((free.size, free.size), np.nan)
    of_location[np.ix_(free, free)] = of_free
    of_noise, more = noise_covariance(found.hessian, [names[i] for i in parts.noise])
    unknown = parts.noise.size and n <= effective
    covariance[np.ix_(parts.location, parts.location)] = np.nan if unknown else of_location
    covariance[np.ix_(parts.noise, parts.noise)] = of_noise
    return covariance, condition, warnings + more


def residual_array(parts: Separation, found: Estimate) -> np.ndarray:
    """Return the standardised residuals in the shape of the observations, NaN where there is none."""
    seen = parts.problem.observations
    residuals = np.full(seen.values.shape, np.nan)
    if np.isfinite(found.loss):
        residuals[seen.observed] = np.asarray(found.point.at.residuals)[: parts.observations]
    return residuals


def scores(parts: Separation, found: Estimate) -> np.ndarray:
    """Return the residuals as scores, standard normal if the model is right; NaN where nothing was observed."""
    observed = parts.problem.observations.observed
    if not np.isfinite(found.loss):
        return np.full(observed.shape, np.nan)
    each = eqx.filter_jit(parts.scores)(jnp.asarray(found.noise), found.point.at.predictions)
    return np.where(observed, each, np.nan)


def diagnose(parts: Separation, found: Estimate, effective: float) -> dict[str, Any]:
    """Return numbers on the quality of a fit; see `Fit.diagnostics`."""
    n, free = parts.observations, parts.observations - effective
    valid = bool(np.isfinite(found.loss))
    gap = distance(np.asarray(found.point.at.jacobian), np.asarray(found.point.at.residuals)) if valid else np.inf
    residuals = residual_array(parts, found)
    of_priors = float(parts.prior_loss(found.point.location, jnp.asarray(found.noise)))
    minus, parameters = found.loss - of_priors, effective + parts.noise.size
    return {
        "converged": any(bool(found.result == ended) for ended in ENDED) and gap < FAR,
        "distance": gap,
        "observations": n,
        "degrees_of_freedom": free if parts.penalty else int(free),
        "reduced_chi_squared": float(np.nansum(residuals**2) / free) if valid and free > 0 else np.nan,
        "p_chi_squared": p_chi_squared(parts, found, effective) if valid else np.nan,
        "log_likelihood": -minus,
        "aic": 2 * minus + 2 * parameters,
        "bic": 2 * minus + float(np.log(n)) * parameters,
        "residual_tests": residual_tests(parts.problem.fields, residuals, scores(parts, found)),
    }


def p_chi_squared(parts: Separation, found: Estimate, effective: float) -> float:
    """Return the two-sided p-value of the residuals' squares, if the noise is known; NaN if it is estimated."""
    free = parts.observations - effective
    if parts.noise.size or free <= 0:
        return np.nan
    square = float(np.nansum(residual_array(parts, found) ** 2))
    return float(2 * min(st.chi2.sf(square, free), st.chi2.cdf(square, free)))

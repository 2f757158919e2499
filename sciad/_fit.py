"""The verb `fit`: a point estimate with its precision."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree
from scipy import stats as st
from scipy.optimize import brentq

from sciad._errors import InputError
from sciad._fitted import Fit
from sciad._key import as_key
from sciad._precision import warn_if_float32
from sciad._progress import Progress
from sciad._regression import (
    Natural,
    distance,
    location_covariance,
    natural_covariance,
    noise_covariance,
    residual_tests,
)
from sciad._results import RESULTS
from sciad._vector import Vectorized, vectorize
from sciad.problems.easing import gains, horizons
from sciad.problems.matching import gradient_matching, smooth_prediction
from sciad.problems.ode import ODEProblem
from sciad.problems.separation import Separation
from sciad.solvers.least_squares import Estimate, LeastSquares, Path, Way, best_noise

# By the optimiser's rule, or where a solver's rounding lets no step descend any more: the distance then decides.
ENDED = (RESULTS.successful, RESULTS.nonlinear_divergence)
NO_PARAMETER = (
    "The model itself has no inner parameter: only initial values and noise were fitted. Declare parameters as "
    "`rate: sd.Param = sd.param(...)` in an eqx.Module."
)
STOPPED = "Stopped by the user: this is the best of the first descents, of which {} were done."
RIVAL, APART = 2.0, 1.0  # a rival is so near in log-likelihood, and so many standard errors away
LISTED = 12  # values of a rival that are told
ONE_SIDED = 2.706  # rise in deviance at a limit that holds with 95 %, where there is but one side
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
    priors: bool = False,
    key: PRNGKeyArray | int | None = None,
    progress: bool = True,
) -> Fit:
    r"""Estimate a program's inner parameters by maximum likelihood, or by the posterior's mode.

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
    priors
        Whether priors count. The loss then adds, for each number with a prior, how far its log-density is below its
        maximum; the estimate is the mode of the posterior density in natural units. A normal prior on the weights of a
        network is weight decay.
    key
        For drawing them, or a whole number that seeds one. Default: 0, the same starts every time.
    progress
        Whether to show progress on standard error: live on a terminal, elsewhere a line every five seconds.

    Returns
    -------
    Fit
        Also where the optimisation did not converge, or no start could be evaluated: ``fit.message`` then says so, and
        is the first of ``fit.warnings``.

    Raises
    ------
    InputError
        If the program has no inner parameter, or data and program do not fit together; if priors are to count and
        there is none, or one has no maximum or binds several numbers.

    Notes
    -----
    With :math:`G = \partial\mu/\partial u` the Jacobian of the predictions in unconstrained space and :math:`I` the
    expected information of each observation about its prediction, the covariance of the equation's parameters is
    :math:`\tfrac{n}{n-p}(G^\top I G)^{-1}` (the factor where the noise is estimated too); that of the noise's is the
    inverse Hessian of the loss. Both are carried to natural units by :math:`\partial x/\partial u`. Priors serve to
    draw starts; where they count, their residuals' squares join :math:`G^\top I G`, and p is the effective number
    :math:`\operatorname{tr} (I G C G^\top)`. A fit has converged when the optimiser's rule is met, or no step descends
    any more, and the optimum of the linearised problem is less than 0.01 standard errors away.
    Ctrl-C ends the search with the best answer so far, once there is one, and a warning.

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
    parts = Separation(problem, full, priors=priors)
    _check_priors(full, priors=priors)
    locations = parts.starts(solver.starts, as_key(key))
    # --- estimate ---
    noise = _first_noise(parts) if priors else np.asarray(full.vector)[parts.noise]
    constant = parts.about_constants(jnp.asarray(locations[0]), jnp.asarray(noise))[parts.problem.observations.observed]
    # A nudge goes from datum to datum, and knows nothing of what happens between them, nor of what a delay remembers.
    plain = problem.schedule is None and problem.delay is None
    nudges = [Way(parts.nudged, *gains(problem))] if plain else []
    path = Path(
        [*nudges, Way(parts.shortened, *horizons(problem))],
        scatter=float(jnp.sqrt(jnp.mean(constant**2))),
        exact=lambda estimate: estimate is not None and bool(np.all(_unexplained(parts, estimate) < EXACT)),
        doubtful=lambda estimate: estimate is None or _doubtful(parts, estimate),
        shortcuts=lambda: _matched(parts),
    )
    with Progress(quiet=not progress, brief=True) as display:
        found = solver.estimate(
            parts.residuals, parts.noise_loss, locations, noise, forward=parts.forward, path=path,
            chart=parts.chart,
            report=lambda stage, done, total, loss: display.update(stage, done, total, f"least loss {loss:.6g}"),
        )  # fmt: skip
    # --- describe ---
    vector = np.asarray(parts.joined(found.point.location, jnp.asarray(found.noise)))
    effective, weighted = _effective(parts, found), _weighted(parts, found)
    covariance, condition, warnings = _precision(parts, problem, found, effective, weighted)
    natural = Natural(full, problem.label)
    fitted, values, slopes = natural.at(vector)
    diagnostics = _diagnostics(parts, found, effective) | {"condition_number": condition}
    warnings += [STOPPED.format(len(found.others) + 1)] if "interrupted" in found.stats else []
    warnings += [*_hierarchies(parts, found.loss, covariance), *_poisson(parts, found, covariance)]
    warnings += [*_remarks(diagnostics), *_rivals(parts, natural, found)]
    warnings += [] if any(name.startswith("model.") for name in full.names) else [NO_PARAMETER]
    return Fit(
        problem=problem,
        program=fitted,
        names=natural.names,
        values=values,
        covariance=natural_covariance(slopes, covariance),
        residuals=problem.dataset(_residuals(parts, found)),
        diagnostics=diagnostics,
        loss=found.loss,
        result=found.result,
        stats=found.stats,
        warnings=[*_ending(problem, fitted, found, diagnostics), *warnings],
        _natural=natural,
        _parts=parts,
        _vector=vector,
        _covariance=covariance,
        _weighted=weighted[: parts.observations],
        _noise_estimated=bool(noise.size),
    )


def _check_priors(full: Vectorized, *, priors: bool) -> None:
    if priors and not any(site.prior is not None for site in full.sites.values()):
        msg = "fit(priors=True): no inner parameter has a prior. Give priors with `sd.param(prior=...)` or `sd.mark`, "
        msg += "or leave `priors` out."
        raise InputError(msg)


def _first_noise(parts: Separation) -> np.ndarray:
    """Return the noise about smoothed data, where they can be smoothed.

    Priors count by what the noise is taken for: too much of it, and they are all that is heeded.
    """
    given = np.asarray(parts.full.vector)
    try:
        found = given[parts.location], smooth_prediction(parts.problem)
    except InputError:
        return given[parts.noise]
    best = best_noise(parts.noise_loss, given[parts.noise], found)
    return best.noise if best.settled else given[parts.noise]


def _doubtful(parts: Separation, found: Estimate) -> bool:
    """Whether the minimum may be wrong.

    Residuals keep their sign for long, are larger than known noise, or hardly smaller than those about a constant.
    """
    if not np.isfinite(found.loss):
        return True
    residuals = _residuals(parts, found)
    tests = residual_tests(parts.problem.fields, residuals, residuals)
    persistent = np.array([of_field["p_independent"] < DOUBT for of_field in tests.values()])
    ill = _p_chi_squared(parts, found) < DOUBT and np.nanmean(residuals**2) > 1
    unexplained = _unexplained(parts, found)
    return bool(ill or np.any((persistent & (unexplained > EXACT)) | (unexplained > UNEXPLAINED)))


def _unexplained(parts: Separation, found: Estimate) -> np.ndarray:
    """Return, for each field, the squares of the residuals as a share of those about a constant."""
    residuals = _residuals(parts, found)
    constant = np.asarray(parts.about_constants(found.point.location, jnp.asarray(found.noise)))
    return np.nansum(residuals**2, axis=(0, 1)) / np.maximum(np.nansum(constant**2, axis=(0, 1)), 1e-300)


def _matched(parts: Separation) -> list[np.ndarray]:
    """Return where gradient matching leads, if it can be done."""
    try:
        program = gradient_matching(
            parts.problem, parts.full.program(parts.full.vector), priors=parts.penalty is not None
        )
    except InputError:
        return []
    return [np.asarray(vectorize(program).vector)[parts.location]]


def _effective(parts: Separation, found: Estimate) -> float:
    """Return the number of the location's parameters, or, where priors count, of those that the data have a say in.

    It is the sum of the data's leverages: of squares of their rows of Q in J = QR.
    """
    if parts.penalty is None or not np.isfinite(found.loss):
        return float(parts.location.size)
    left, values, _ = np.linalg.svd(np.asarray(found.point.at.jacobian), full_matrices=False)
    return float(np.sum(left[: parts.observations, values > 0] ** 2))


def _weighted(parts: Separation, found: Estimate) -> np.ndarray:
    """Return the Jacobian in unconstrained space, whose rows' squares add up to the expected information.

    Its first rows are of the observations, further ones of priors that count.
    """
    jacobian = np.asarray(found.point.at.jacobian)
    if not np.isfinite(found.loss):
        return np.full_like(jacobian, np.nan)
    weights = np.asarray(eqx.filter_jit(parts.weights)(jnp.asarray(found.noise), found.point.at.predictions))
    return weights[:, None] * jacobian


def _precision(
    parts: Separation, problem: ODEProblem, found: Estimate, effective: float, weighted: np.ndarray
) -> tuple[np.ndarray, float, list[str]]:
    """Return the covariance in unconstrained space, the Jacobian's condition number, and what the data leave open."""
    n = parts.observations
    size = parts.location.size + parts.noise.size
    covariance = np.zeros((size, size))
    if not np.isfinite(found.loss):
        return np.full_like(covariance, np.nan), np.nan, []
    if parts.noise.size:  # estimated from what the curve left, it is too small
        weighted = np.concatenate([np.sqrt(max(1 - effective / n, 0.0)) * weighted[:n], weighted[n:]])
    names = [problem.label(name) for name in parts.full.names]
    of_location, condition, warnings = location_covariance(weighted, [names[i] for i in parts.location])
    of_noise, more = noise_covariance(found.hessian, [names[i] for i in parts.noise])
    unknown = parts.noise.size and n <= effective
    covariance[np.ix_(parts.location, parts.location)] = np.nan if unknown else of_location
    covariance[np.ix_(parts.noise, parts.noise)] = of_noise
    return covariance, condition, warnings + more


def _hierarchies(parts: Separation, loss: float, covariance: np.ndarray) -> list[str]:
    """Say which values of each experiment their prior was to hold together, which a fit does not look at."""
    unknown, places = np.isnan(np.diag(covariance)), parts.full.places
    return [
        f"The data alone do not determine {parts.problem.label(path)}, which has a prior and a value of each "
        "experiment, as in a hierarchical model. Sample that (`sd.sample`); or fit values that no prior holds together."
        for path, site in parts.full.sites.items()
        if site.axis and site.prior is not None and unknown[places[path]].any() and np.isfinite(loss)
    ]


def _poisson(parts: Separation, found: Estimate, covariance: np.ndarray) -> Iterator[str]:
    """Say where counts scatter no more than Poisson's, and how far the dispersion can be from that."""
    for i, place in enumerate(parts.noise):
        name = parts.full.names[place]
        if not (name.endswith(".dispersion") and np.isnan(covariance[place, place])) or not np.isfinite(found.loss):
            continue
        loss = eqx.filter_jit(parts.noise_loss)

        def rise(v: float, i: int = i, loss: Any = loss) -> float:
            noise = jnp.asarray(found.noise).at[i].set(v)
            return 2 * (float(loss(noise, found.point.at.predictions)) - found.loss) - ONE_SIDED

        farther = next((v for v in found.noise[i] + np.arange(1.0, 40.0) if rise(v) > 0), None)
        if farther is not None:
            limit = np.asarray(
                parts.full.sites[name].bijection(jnp.asarray(brentq(rise, found.noise[i], farther, xtol=1e-6)))
            )
            yield (
                f"The counts scatter no more than Poisson's: {parts.problem.label(name)} goes to zero, and its limits "
                f"by standard errors are NaN. With 95 % confidence it is below {float(limit):.3g}."
            )


def _residuals(parts: Separation, found: Estimate) -> np.ndarray:
    seen = parts.problem.observations
    residuals = np.full(seen.values.shape, np.nan)
    if np.isfinite(found.loss):
        residuals[seen.observed] = np.asarray(found.point.at.residuals)[: parts.observations]
    return residuals


def _scores(parts: Separation, found: Estimate) -> np.ndarray:
    observed = parts.problem.observations.observed
    if not np.isfinite(found.loss):
        return np.full(observed.shape, np.nan)
    scores = eqx.filter_jit(parts.scores)(jnp.asarray(found.noise), found.point.at.predictions)
    return np.where(observed, scores, np.nan)


def _diagnostics(parts: Separation, found: Estimate, effective: float) -> dict[str, Any]:
    n, free = parts.observations, parts.observations - effective
    valid = bool(np.isfinite(found.loss))
    gap = distance(np.asarray(found.point.at.jacobian), np.asarray(found.point.at.residuals)) if valid else np.inf
    residuals = _residuals(parts, found)
    of_priors = float(parts.prior_loss(found.point.location, jnp.asarray(found.noise)))
    minus, parameters = found.loss - of_priors, effective + parts.noise.size
    return {
        "converged": any(bool(found.result == ended) for ended in ENDED) and gap < FAR,
        "distance": gap,
        "observations": n,
        "degrees_of_freedom": free if parts.penalty else int(free),
        "reduced_chi_squared": float(np.nansum(residuals**2) / free) if valid and free > 0 else np.nan,
        "p_chi_squared": _p_chi_squared(parts, found) if valid else np.nan,
        "log_likelihood": -minus,
        "aic": 2 * minus + 2 * parameters,
        "bic": 2 * minus + float(np.log(n)) * parameters,
        "residual_tests": residual_tests(parts.problem.fields, residuals, _scores(parts, found)),
    }


def _p_chi_squared(parts: Separation, found: Estimate) -> float:
    """Return the two-sided p-value of the residuals' squares, if the noise is known; NaN if it is estimated."""
    free = parts.observations - _effective(parts, found)
    if parts.noise.size or free <= 0:
        return np.nan
    square = float(np.nansum(_residuals(parts, found) ** 2))
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
        scalars = [(name, value) for name, value in zip(natural.names, values, strict=True) if "[" not in name]
        if not scalars:
            continue  # a network's weights say nothing to people
        numbers = ", ".join(f"{name}={value:.3g}" for name, value in scalars[:LISTED])
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
            f"{n} observations for {n - free:.4g} parameters of the curve, which can follow the data wherever they go: "
            "fix parameters, or add data."
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

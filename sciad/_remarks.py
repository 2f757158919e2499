"""What a fit says of itself in words: how it ended, and what a reader must know."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpyro.distributions.transforms import IdentityTransform
from scipy.optimize import brentq

from sciad._account import scores
from sciad._data_remarks import SUSPECT, other_noise, outliers
from sciad._regression import Natural
from sciad._results import RESULTS
from sciad.problems.separation import Separation
from sciad.solvers.least_squares import Estimate

NO_PARAMETER = (
    "The model itself has no inner parameter: only initial values and noise were fitted. Declare parameters as "
    "`rate: sd.Param = sd.param(...)` in an eqx.Module."
)
STOPPED = "Stopped by the user: this is the best of the first descents, of which {} were done."
RIVAL, APART = 2.0, 2.0  # a rival is so near in log-likelihood, and so many standard errors away
ABSURD = 1e9  # ratio of a rival's number to the answer's that is no answer
LISTED = 12  # values of a rival that are told
ONE_SIDED = 2.706  # rise in deviance at a limit that holds with 95 %, where there is but one side
NEGLIGIBLE = 1e-3  # size of residuals, in standard deviations of the noise, that no longer matter
VAGUE = 10.0  # standard error in unconstrained space, as of a logarithm, that determines nothing


def remarks(
    parts: Separation,
    natural: Natural,
    found: Estimate,
    covariance: np.ndarray,
    rests: np.ndarray,
    diagnostics: dict[str, Any],
) -> Iterator[str]:
    """Yield what a reader of a fit must know, with its covariance in unconstrained space and what rests on a rim."""
    if "interrupted" in found.stats:
        yield STOPPED.format(len(found.others) + 1)
    yield from _rims(parts, found, rests)
    yield from _vague(parts, covariance)
    yield from _hierarchies(parts, found.loss, covariance)
    yield from _poisson(parts, found, covariance)
    yield from _of_residuals(parts, diagnostics, scores(parts, found))
    yield from _rivals(parts, natural, found, covariance)
    if not any(name.startswith("model.") for name in parts.full.names):
        yield NO_PARAMETER


def ending(problem: Any, program: PyTree, found: Estimate, diagnostics: dict[str, Any]) -> list[str]:
    if diagnostics["converged"]:
        return []
    what = problem.impossible(program) if bool(found.result == RESULTS.no_valid_start) else ""
    if what:
        return [
            f"The fit did not converge: {what}, which is impossible for its noise. Is a dose missing, or does a state "
            "begin at zero? Else take a noise model that allows it, such as sd.Normal(), or leave that observation out."
        ]
    reason = RESULTS[found.result] or (
        f"it stopped {diagnostics['distance']:.2g} standard errors from where the loss is flat. Try other starts, or "
        "smaller tolerances of the ODE."
    )
    if problem.resets and bool(found.result == RESULTS.no_valid_start):
        reason += " With resets, more of them than `most` are a failed solve too."
    return [f"The fit did not converge: {reason}"]


def _vague(parts: Separation, covariance: np.ndarray) -> Iterator[str]:
    """Say which numbers have a standard error, in unconstrained space, by which nothing is known of them."""
    errors, names = np.sqrt(np.diag(covariance)), parts.full.names
    lost = []
    for path, place in parts.full.places.items():
        free = isinstance(parts.full.sites[path].bijection, IdentityTransform)  # whose units nobody knows
        here = np.arange(errors.size)[place]
        alone = [i for i in here if i in parts.location and not free and "[" not in names[i]]
        lost += [parts.problem.label(names[i]) for i in alone if np.isfinite(errors[i]) and errors[i] > VAGUE]
    if lost:
        some = ", ".join(lost[:LISTED]) + (", …" if len(lost) > LISTED else "")
        yield (
            f"The data hardly determine {some}, by the standard error. `sd.profile` tells whether there is a limit on "
            "one side. Fix it, or add data."
        )


def _rims(parts: Separation, found: Estimate, rests: np.ndarray) -> Iterator[str]:
    """Say which numbers the data drive against the ends of their intervals."""
    if not np.isfinite(found.loss):
        return
    names, chart = [parts.full.names[i] for i in parts.location], parts.chart
    for name, side, low, high in zip(names, rests, chart.low, chart.high, strict=True):
        if side:
            end = f"upper end {high:g}" if side > 0 else f"lower end {low:g}"
            yield (
                f"{parts.problem.label(name)} rests on the {end} of its interval, and the data would have it beyond: "
                "widen the interval, or accept that. It has no standard error."
            )


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


def _rivals(parts: Separation, natural: Natural, found: Estimate, covariance: np.ndarray) -> list[str]:
    """Say which other optima were met that fit nearly as well, in numbers that differ by more than their errors."""
    here, jacobian = np.asarray(found.point.location), np.asarray(found.point.at.jacobian)
    errors = np.sqrt(np.diag(covariance))[parts.location]
    _, best, _ = natural.at(np.asarray(parts.joined(found.point.location, jnp.asarray(found.noise))))
    told, seen = [], [here]

    def near(one: np.ndarray, other: np.ndarray) -> bool:
        away = np.abs(one - other) / errors
        return bool(np.linalg.norm(jacobian @ (one - other)) < APART or np.nanmax(away, initial=0.0) < APART)

    for other in sorted(found.others, key=lambda t: t.loss):
        there = np.asarray(other.point.location)
        finished = bool(other.result == RESULTS.successful) and other.loss - found.loss <= RIVAL
        if not finished or any(near(there, place) for place in seen):
            continue
        seen.append(there)
        _, values, _ = natural.at(np.asarray(parts.joined(other.point.location, jnp.asarray(other.noise))))
        scalars = [(name, value) for name, value in zip(natural.names, values, strict=True) if "[" not in name]
        absurd = np.abs(values) > ABSURD * np.maximum(np.abs(best), 1.0)
        if not scalars or not np.all(np.isfinite(values)) or absurd.any():
            continue  # a network's weights say nothing to people, nor do numbers that ran away
        numbers = ", ".join(f"{name}={value:.3g}" for name, value in scalars[:LISTED])
        told.append(
            f"Another optimum fits nearly as well, by {other.loss - found.loss:.2g} less in log-likelihood: {numbers}. "
            "The data do not tell which is right: bound the parameters, or add data."
        )
    return told[:3]


def _of_residuals(parts: Separation, diagnostics: dict[str, Any], of_data: np.ndarray) -> list[str]:
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
                f"for outliers{outliers(parts, of_data, field)}{other_noise(parts, field)}."
            )
    return remarks

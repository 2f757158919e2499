"""The verb `fit`: a point estimate with its precision."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, overload

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from sciad._account import (
    diagnose,
    effective_number,
    p_chi_squared,
    precision,
    residual_array,
    resting,
    weighted_jacobian,
)
from sciad._data_remarks import of_data, of_resets
from sciad._errors import InputError, OptionError
from sciad._field import FieldFit
from sciad._fit_field import fit_field
from sciad._fit_lines import LinesFit, fit_lines
from sciad._fitted import Fit
from sciad._key import as_key
from sciad._precision import warn_if_float32
from sciad._progress import Progress
from sciad._regression import Natural, natural_covariance, residual_tests
from sciad._remarks import ending, remarks
from sciad._vector import Vectorized, vectorize
from sciad.problems.easing import gains, horizons
from sciad.problems.lines import MethodOfLines
from sciad.problems.matching import gradient_matching, smooth_prediction
from sciad.problems.ode import ODEProblem
from sciad.problems.pde import PDEProblem
from sciad.problems.separation import Separation
from sciad.solvers.last_layer import LastLayer
from sciad.solvers.least_squares import Estimate, LeastSquares, Path, Way, best_noise
from sciad.solvers.rounds import AbstractRounds

DOUBT = 0.01  # p-value of a test of the residuals below which other ways to a better minimum are tried
UNEXPLAINED = 0.25  # share of the scatter about a constant above which the same is done
TRIES = 4  # places about each minimum on the way of a growing horizon
EXACT = 1e-6  # the same share, below which a curve follows the data beyond doubt, however the rest may look


@overload
def fit(
    problem: PDEProblem,
    program: PyTree,
    *,
    solver: AbstractRounds | Sequence[AbstractRounds] | LastLayer | None = None,
    priors: bool = False,
    key: PRNGKeyArray | int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> FieldFit: ...
@overload
def fit(
    problem: MethodOfLines, program: PyTree, *, solver: LeastSquares | None = None, progress: bool = True
) -> LinesFit: ...
@overload
def fit(
    problem: ODEProblem,
    program: PyTree,
    *,
    solver: LeastSquares | None = None,
    starts: int | None = None,
    priors: bool = False,
    key: PRNGKeyArray | int | None = None,
    progress: bool = True,
) -> Fit: ...
def fit(
    problem: ODEProblem | PDEProblem | MethodOfLines,
    program: PyTree,
    *,
    solver: Any = None,
    starts: int | None = None,
    priors: bool = False,
    key: PRNGKeyArray | int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Fit | FieldFit | LinesFit:
    r"""Estimate a program's inner parameters by maximum likelihood, or by the posterior's mode.

    Parameters
    ----------
    problem
        Data and noise: an `ODEProblem`; or a `PDEProblem`, whose field is fitted with whatever is unknown; or a
        `MethodOfLines`, which simulates it.
    program
        The model (of a field, its equation), or a complete program; its values are the first start.
    solver
        Settings of the optimisation: `LeastSquares`; for a field `Collocation`, `QuasiNewton`, `Descent`, several of
        these in a list, each from where the last ended, or `LastLayer`, which is the default where the equation is
        linear and nothing else unknown.
    starts
        Further starts tried, drawn from the priors; default: the solver's.
    priors
        Whether priors count. The loss then adds, for each number with a prior, how far its log-density is below its
        maximum; the estimate is the mode of the posterior density in natural units. A normal prior on the weights of a
        network is weight decay.
    key
        For drawing them, or a whole number that seeds one. Default: 0, the same starts every time.
    checkpoint
        Of a field: file that the program is kept in as each round begins. If it exists, the fit goes on from it, after
        a killed process too, with the whole budget again. One linear solve needs none.
    progress
        Whether to show progress on standard error: live on a terminal, elsewhere a line every five seconds.

    Returns
    -------
    Fit, FieldFit or LinesFit
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
    >>> import equinox as eqx, jax, sciad as sd, xarray as xr
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
    if isinstance(problem, PDEProblem):
        if starts is not None:
            msg = "fit(starts=...) is of an ODEProblem. A PDEProblem takes solver, priors, key, checkpoint, progress."
            raise OptionError(msg)
        warn_if_float32("fitting a field")
        key = 0 if key is None else key
        asked = {"priors": priors, "key": key, "checkpoint": checkpoint, "progress": progress}
        return fit_field(problem, program, solver=solver, **asked)
    if isinstance(problem, MethodOfLines):
        if starts is not None or priors or key is not None or checkpoint is not None:
            msg = "fit(starts, priors, key, checkpoint): of MethodOfLines only solver and progress can be chosen."
            raise OptionError(msg)
        return fit_lines(problem, program, solver=solver, progress=progress)
    if checkpoint is not None:
        msg = "fit(checkpoint=...) is of a PDEProblem: a fit of an ODEProblem is made again in seconds. Leave it out."
        raise OptionError(msg)
    if not isinstance(problem, ODEProblem):
        msg = f"`problem` is a {type(problem).__name__}; expected an ODEProblem or a PDEProblem."
        raise InputError(msg)
    warn_if_float32("fitting")
    # --- set up ---
    solver = LeastSquares() if solver is None else solver
    if not isinstance(solver, LeastSquares):
        msg = f"fit(solver={type(solver).__name__}): an ODEProblem is fitted by sd.LeastSquares(...)."
        raise OptionError(msg)
    solver = solver if starts is None else dataclasses.replace(solver, starts=starts)
    full = vectorize(problem.complete(program))
    _check_priors(full, priors=priors)
    parts = Separation(problem, full, priors=priors)
    locations = parts.starts(solver.starts, as_key(key))
    # --- estimate ---
    noise = _first_noise(parts) if priors else np.asarray(full.vector)[parts.noise]
    constant = parts.about_constants(jnp.asarray(locations[0]), jnp.asarray(noise))[parts.problem.observations.observed]
    # A nudge goes from datum to datum, and knows nothing of what happens between them, nor of what a delay remembers.
    nudges = [Way(parts.nudged, *gains(problem))] if problem.smooth else []
    path = Path(
        [*nudges, Way(parts.shortened, *horizons(problem), tries=TRIES)],
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
        if display.spoke:
            display.say(f"negative log-likelihood {found.loss:.6g}")
    # --- describe ---
    vector = np.asarray(parts.joined(found.point.location, jnp.asarray(found.noise)))
    effective, weighted, rests = effective_number(parts, found), weighted_jacobian(parts, found), resting(parts, found)
    covariance, condition, warnings = precision(parts, found, effective, weighted, free=rests == 0)
    natural = Natural(full, problem.label)
    fitted, values, slopes = natural.at(vector)
    diagnostics = diagnose(parts, found, effective) | {"condition_number": condition}
    of_what = [*of_data(parts, found, diagnostics), *of_resets(parts, found)]
    told = remarks(parts, natural, found, covariance, rests, diagnostics)
    return Fit(
        problem=problem,
        program=fitted,
        names=natural.names,
        values=values,
        covariance=natural_covariance(slopes, covariance),
        residuals=problem.dataset(residual_array(parts, found)),
        diagnostics=diagnostics,
        loss=found.loss,
        result=found.result,
        stats=found.stats,
        warnings=[*ending(problem, fitted, found, diagnostics), *of_what, *warnings, *told],
        _natural=natural,
        _parts=parts,
        _vector=vector,
        _covariance=covariance,
        _weighted=weighted[: parts.observations],
        _noise_estimated=bool(noise.size),
        _resting=frozenset(parts.location[rests != 0].tolist()),
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
    given, program = np.asarray(parts.full.vector), parts.full.program(parts.full.vector)
    try:
        prediction = smooth_prediction(parts.problem)
    except InputError:
        return given[parts.noise]
    residuals, possible = parts.problem.compared(program, prediction)
    about = parts.about_constants(jnp.asarray(given[parts.location]), jnp.asarray(given[parts.noise]))
    if not np.all(possible.ok) or np.any(jnp.sum(residuals**2, (0, 1)) < EXACT * jnp.sum(about**2, (0, 1))):
        return given[parts.noise]  # splines that no noise allows, or that leave none
    best = best_noise(parts.noise_loss, given[parts.noise], (given[parts.location], prediction))
    return best.noise if best.settled else given[parts.noise]


def _doubtful(parts: Separation, found: Estimate) -> bool:
    """Whether the minimum may be wrong.

    Residuals keep their sign for long, are larger than known noise, or hardly smaller than those about a constant.
    """
    if not np.isfinite(found.loss):
        return True
    residuals = residual_array(parts, found)
    tests = residual_tests(parts.problem.fields, residuals, residuals)
    persistent = np.array([of_field["p_independent"] < DOUBT for of_field in tests.values()])
    ill = p_chi_squared(parts, found, effective_number(parts, found)) < DOUBT and np.nanmean(residuals**2) > 1
    unexplained = _unexplained(parts, found)
    return bool(ill or np.any((persistent & (unexplained > EXACT)) | (unexplained > UNEXPLAINED)))


def _unexplained(parts: Separation, found: Estimate) -> np.ndarray:
    """Return, for each field, the squares of the residuals by those about a constant; infinite without any."""
    residuals = residual_array(parts, found)
    if not np.isfinite(found.loss):
        return np.full(residuals.shape[-1], np.inf)
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

"""`fit` of a partial differential equation by the method of lines."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, ArrayLike, Float, PyTree

from sciad._errors import InputError, counted
from sciad._estimates import Estimates
from sciad._progress import Progress
from sciad._regression import Natural, distance, location_covariance, natural_covariance, noise_covariance
from sciad._results import RESULTS
from sciad._roles import unwrap
from sciad._vector import vectorize
from sciad.problems.collocated import Parted
from sciad.problems.lines import MethodOfLines
from sciad.problems.pde import PDEProgram
from sciad.solvers.least_squares import REJECTED, Estimate, LeastSquares

FAR = 0.01  # standard errors from the optimum, by linearisation, beyond which a fit has not converged


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LinesFit(Estimates):
    """Estimates by simulation on a grid.

    Attributes
    ----------
    problem, program
        The problem on its grid, and the complete program with the estimates in place.
    names, values, covariance
        Unknown numbers of equation, conditions and noise, their estimates, and the covariance of these.
    loss
        Negative log-likelihood.
    stats
        Steps and seconds, and whether it converged.
    warnings
        What a reader must know, in plain words.
    """

    problem: MethodOfLines
    program: PDEProgram
    names: tuple[str, ...]
    values: Float[np.ndarray, " k"]
    covariance: Float[np.ndarray, "k k"]
    loss: float
    stats: dict[str, Any]
    warnings: list[str]

    def __call__(self, **coordinates: ArrayLike | Sequence[float]) -> xr.Dataset:
        """Return the fields on the grid of these coordinates; see `MethodOfLines.solve`."""
        return self.problem.solve(self.program, **coordinates)

    def __repr__(self) -> str:
        told = f", {counted(len(self.warnings), 'warning')}" if self.warnings else ""
        return f"<LinesFit: {', '.join(self.names)}{told}>"

    def __str__(self) -> str:
        lines = [str(self.problem.problem), f"{len(self.problem.grid.nodes)} nodes"]
        return "\n".join([*lines, self.table().to_string(float_format="{:.5g}".format), *self.warnings])


class _Posed(Parted):
    """Residuals of the observations, as a function of the vector's two parts."""

    problem: MethodOfLines = eqx.field(static=True)

    def residuals(self, location: Array, noise: Array) -> tuple[Array, Array]:
        plain = unwrap(self.full.program(self.joined(location, noise)))
        mean, ok = self.problem.predict(plain)
        found = self.problem.problem.standardised(plain, mean)
        ok = ok & jnp.all(jnp.isfinite(found))
        return jnp.where(ok, jnp.where(ok, found, 0.0), REJECTED), mean

    def noise_loss(self, noise: Array, mean: Array) -> Array:
        plain = unwrap(self.full.program(jnp.asarray(self.full.vector).at[self.noisy].set(noise)))
        return -self.problem.problem.log_likelihood(plain, mean)


def fit_lines(
    problem: MethodOfLines, program: PyTree, *, solver: LeastSquares | None = None, progress: bool = True
) -> LinesFit:
    """Fit unknown numbers of an equation to observations, by simulation; see `fit`."""
    if problem.problem.observations is None:
        msg = "There is nothing to fit by MethodOfLines without observations. Call its `solve`, or give `data`."
        raise InputError(msg)
    posed = _Posed(vectorize(problem.complete(program)), problem)
    if not posed.places.size:
        msg = "Nothing is unknown in equation and conditions: declare numbers by sd.param(...), or call `solve`."
        raise InputError(msg)
    settings = LeastSquares(starts=0) if solver is None else solver
    noise = np.asarray(posed.full.vector)[posed.noisy]
    with Progress(quiet=not progress, brief=True) as display:
        found = settings.estimate(
            posed.residuals, posed.noise_loss, np.asarray(posed.start)[None], noise,
            report=lambda stage, done, total, loss: display.update(stage, done, total, f"least loss {loss:.6g}"),
        )  # fmt: skip
    return _described(posed, found)


def _described(posed: _Posed, found: Estimate) -> LinesFit:
    names, size = posed.full.names, len(posed.full.names)
    covariance, told = np.full((size, size), np.nan), []
    jacobian, residuals = (np.asarray(part) for part in found.point.at[:2][::-1])
    valid = bool(np.isfinite(found.loss))
    seen = posed.problem.problem.observations
    assert seen is not None
    free = int(seen.observed.sum()) - posed.places.size
    if valid and free > 0:
        share = free / (free + posed.places.size) if posed.noisy.size else 1.0
        of_location, _, told = location_covariance(
            np.sqrt(share) * jacobian, [posed.problem.label(names[i]) for i in posed.places]
        )
        of_noise, more = noise_covariance(found.hessian, [names[i] for i in posed.noisy])
        covariance = np.zeros((size, size))
        covariance[np.ix_(posed.places, posed.places)] = of_location
        covariance[np.ix_(posed.noisy, posed.noisy)] = of_noise
        told = [*told, *more]
    converged = valid and distance(jacobian, residuals) < FAR
    if not converged:
        reason = RESULTS[found.result] or "the optimum is still away"
        told = [f"The fit did not converge: {reason}. Try another guess, or more points.", *told]
    vector = np.asarray(posed.joined(found.point.location, jnp.asarray(found.noise)))
    natural = Natural(posed.full, posed.problem.label)
    program, values, slopes = natural.at(vector)
    stats = {"steps": found.stats["steps"], "seconds": found.stats["seconds"], "converged": converged}
    return LinesFit(
        problem=posed.problem,
        program=program,
        names=natural.names,
        values=np.asarray(values),
        covariance=natural_covariance(np.asarray(slopes), covariance),
        loss=found.loss,
        stats=stats,
        warnings=told,
    )

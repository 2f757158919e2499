"""Maximum likelihood by alternating nonlinear least squares and noise estimation, from several starts."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import optimistix as optx
from jaxtyping import Array, ArrayLike, Float, PyTree

from sciad._errors import OptionError
from sciad._results import RESULTS
from sciad.solvers.gauss_newton import GaussNewton, descend

Residuals = Callable[[Array, Array], tuple[Array, PyTree]]
NoiseLoss = Callable[[Array, PyTree], Array]

REJECTED = 1e15  # residual where the model cannot be evaluated: any step to there is refused, and it is never an answer
EASED_STEPS = 12  # of each easier problem, which need not be solved to the end
NOISE_STEPS = 50  # of the noise's own minimisation; a dozen is usual
REACH = 2.0  # longest Newton step: a factor of exp(2) for a positive parameter
ROUNDING = 1e-12  # relative error of the loss, by which it may seem to rise
STEP = 1e-4  # of central differences, in units of the unconstrained parameters
FLAT = 1e-6  # slope in log-likelihood for a noise parameter, unconstrained, at which it stands still


class Linearised(NamedTuple):
    """Standardised residuals, their Jacobian, and the predictions behind them."""

    residuals: Float[Array, " n"]
    jacobian: Float[Array, "n p"]
    predictions: PyTree[Array]


class Point(NamedTuple):
    """Where a least-squares solve ended."""

    location: Float[Array, " p"]
    at: Linearised
    result: optx.RESULTS
    steps: Array

    @property
    def misfit(self) -> float:
        """Root mean square of the residuals; infinite where the model cannot be evaluated."""
        r = np.asarray(self.at.residuals)
        return float(np.sqrt(np.mean(r**2))) if np.all(r < REJECTED) else np.inf


class Estimate(NamedTuple):
    """Outcome of an estimation, in unconstrained space; the Hessian is that of the noise's loss."""

    point: Point
    noise: Float[np.ndarray, " q"]
    loss: float
    hessian: Float[np.ndarray, "q q"]
    result: RESULTS
    stats: dict[str, Any]


class Path(NamedTuple):
    """Easier problems on the way to the one at hand, for when its answer is in doubt.

    Attributes
    ----------
    residuals
        ``(location, noise, ease) -> (r, nothing)``; with the last of `eases` close to the problem itself.
    eases
        From the easiest.
    doubtful
        Whether an estimate may be of a wrong minimum.
    """

    residuals: Callable[[Array, Array, Array], tuple[Array, PyTree]]
    eases: Sequence[float]
    doubtful: Callable[["Estimate"], bool]


class LeastSquares(eqx.Module):
    r"""Levenberg-Marquardt on standardised residuals, alternating with the maximum likelihood of the noise.

    With the noise held, :math:`\min_\theta \tfrac12 \lVert r(\theta) \rVert^2` by `GaussNewton`;
    with :math:`\theta` held, the noise's parameters by
    damped Newton steps; in turn, until the noise's move by at most ``rtol * (1 + |v|)``, both in unconstrained
    space.

    Parameters
    ----------
    starts
        How many starts are tried beside the given one: drawn from the priors or, where a parameter has none, normally
        about its unconstrained value. The residuals of all are evaluated, and the best `polished` are optimised, the
        given one in any case.
    polished
        How many of them.
    paths
        Where the best answer is in doubt, from how many starts a path of easier problems is followed at most.
    rtol
        Levenberg-Marquardt ends when a step moves each scaled parameter and each residual ``v`` by less than
        ``rtol * (1 + |v|)``.
    max_steps
        Levenberg-Marquardt steps after which a start is given up.
    rounds
        Alternations at most.

    Raises
    ------
    OptionError
        If a number is out of its range.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> jax.config.update("jax_enable_x64", True)
    >>> def residuals(x, noise):
    ...     return x - jnp.array([1.0, 2.0]), x
    >>> def noise_loss(noise, x):
    ...     return jnp.sum((x - jnp.array([1.0, 2.0])) ** 2) / 2
    >>> found = LeastSquares().estimate(residuals, noise_loss, np.zeros((1, 2)), np.zeros(0))
    >>> found.point.location.round(6).tolist()
    [1.0, 2.0]
    """

    starts: int = eqx.field(static=True, default=128)
    polished: int = eqx.field(static=True, default=12)
    paths: int = eqx.field(static=True, default=4)
    rtol: float = eqx.field(static=True, default=1e-8)
    max_steps: int = eqx.field(static=True, default=256)
    rounds: int = eqx.field(static=True, default=30)

    def __check_init__(self) -> None:
        least = {"starts": 0, "polished": 0, "paths": 0, "max_steps": 1, "rounds": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                msg = f"LeastSquares({name}={getattr(self, name)}): expected at least {smallest}."
                raise OptionError(msg)
        if not 0 < self.rtol < 1:
            msg = f"LeastSquares(rtol={self.rtol}): expected a number between 0 and 1, such as 1e-8."
            raise OptionError(msg)

    def estimate(
        self,
        residuals: Residuals,
        noise_loss: NoiseLoss,
        locations: Float[ArrayLike, "starts p"],
        noise: Float[ArrayLike, " q"],
        *,
        forward: bool = True,
        path: Path | None = None,
    ) -> Estimate:
        """Estimate from the first row of `locations`, the given start, and the others.

        Parameters
        ----------
        residuals
            ``(location, noise) -> (r, predictions)``; `REJECTED` where the model cannot be evaluated.
        noise_loss
            ``(noise, predictions) -> -log-likelihood``, needing no new solve.
        forward
            Whether the Jacobian is taken in forward mode, else in reverse.
        path
            What to do where the best answer is in doubt.
        """
        began = time.perf_counter()
        locations, noise = np.asarray(locations), np.asarray(noise)
        search = _Search(self, residuals, noise_loss, forward=forward)
        misfits = np.array([search.evaluate(location, noise).misfit for location in locations])
        order = [0, *(np.argsort(misfits[1:])[: self.polished] + 1)]
        tries = [search.alternate(locations[i], noise) for i in order if np.isfinite(misfits[i])]
        followed = search.follow(path, tries, locations[order[: self.paths]], noise) if path else []
        tries += followed
        stats = {
            "paths": len(followed),
            "starts": len(locations),
            "starts_failed": int(np.sum(~np.isfinite(misfits))),
            "polished_losses": [t.loss for t in tries],
            "steps": search.steps,
            "seconds": time.perf_counter() - began,
        }
        best = min(tries, key=lambda t: t.loss, default=None)
        if best is None:
            nothing = np.full((noise.size, noise.size), np.nan)
            return Estimate(search.evaluate(locations[0], noise), noise, np.inf, nothing, RESULTS.no_valid_start, stats)
        return best._replace(stats=stats)


class _Search:
    """The compiled parts of an estimation, each compiled once, and the loop about them."""

    def __init__(self, settings: LeastSquares, residuals: Residuals, noise_loss: NoiseLoss, *, forward: bool) -> None:
        self._settings = settings
        self._forward = forward
        self._solve = jax.jit(_solver(residuals, settings.rtol, forward=forward))
        self._noise = jax.jit(jax.value_and_grad(noise_loss))
        self.steps = 0

    def evaluate(self, location: Array | np.ndarray, noise: np.ndarray) -> Point:
        """Return the point at `location`: a solve whose tolerance is met at once, by the function compiled for all."""
        return self._solve(location, 1, noise)

    def alternate(self, location: Array | np.ndarray, noise: np.ndarray) -> Estimate:
        """Minimise over location and noise in turn."""
        rtol, rounds, point = self._settings.rtol, self._settings.rounds, self.evaluate(location, noise)
        while True:
            solved = self._solve(point.location, self._settings.max_steps, noise)
            best = self._best_noise(noise, self.evaluate(solved.location, noise).at.predictions)
            moved = np.max(np.abs(best.noise - noise) / (1 + np.abs(noise)), initial=0.0)
            point, noise = self.evaluate(solved.location, best.noise), best.noise
            self.steps, rounds = self.steps + int(solved.steps), rounds - 1
            steady = best.settled and moved <= rtol
            if steady or not best.settled or rounds == 0:
                break
        result = RESULTS.promote(solved.result) if steady else RESULTS.noise_not_found
        return Estimate(point, noise, best.loss, best.hessian, result, {})

    def follow(
        self, path: Path, tries: list[Estimate], locations: Float[np.ndarray, "starts p"], noise: np.ndarray
    ) -> list[Estimate]:
        """Follow the path from one start after the other, until the best answer is beyond doubt."""
        solve, found = jax.jit(_solver(path.residuals, self._settings.rtol, forward=self._forward)), []
        for location in locations:
            best = min(tries + found, key=lambda t: t.loss, default=None)
            if best is not None and not path.doubtful(best):
                break
            for ease in path.eases:
                point = solve(location, EASED_STEPS, noise, ease)
                if not np.isfinite(point.misfit):
                    break
                self.steps, location = self.steps + int(point.steps), point.location
            if np.isfinite(self.evaluate(location, noise).misfit):
                found.append(self.alternate(location, noise))
        return found

    def _best_noise(self, noise: np.ndarray, predictions: PyTree) -> "_Noise":
        def at(v: np.ndarray) -> tuple[float, np.ndarray]:
            loss, slope = self._noise(v, predictions)
            return float(loss), np.asarray(slope)

        return _minimum(at, noise)


class _Noise(NamedTuple):
    """A minimum of the noise's loss."""

    noise: np.ndarray
    loss: float
    hessian: np.ndarray
    settled: bool


def _minimum(at: Callable[[np.ndarray], tuple[float, np.ndarray]], noise: np.ndarray) -> _Noise:
    """Minimise by Newton steps at most `REACH` long, halved until the loss falls."""
    loss, slope = at(noise)
    for _ in range(NOISE_STEPS):
        curvature = _hessian(at, noise)
        if np.max(np.abs(slope), initial=0.0) <= FLAT:
            return _Noise(noise, loss, curvature, settled=True)
        values, axes = np.linalg.eigh(curvature)
        step = -axes @ (axes.T @ slope / np.maximum(np.abs(values), 1e-8))  # absolute: downhill from saddles too
        step *= min(1.0, REACH / np.linalg.norm(step))
        trials = (noise + step * 0.5**halvings for halvings in range(40))
        found = next(((v, *at(v)) for v in trials if at(v)[0] <= loss + ROUNDING * (1 + abs(loss))), None)
        if found is None:
            break
        noise, loss, slope = found
    return _Noise(noise, loss, _hessian(at, noise), settled=False)


def _hessian(at: Callable[[np.ndarray], tuple[float, np.ndarray]], noise: np.ndarray) -> np.ndarray:
    """Return central differences of slopes: less work than compiling second derivatives of a log-gamma function."""
    slopes = [at(noise + step)[1] - at(noise - step)[1] for step in STEP * np.eye(noise.size, dtype=noise.dtype)]
    rows = np.reshape(slopes, (noise.size, noise.size)) / (2 * STEP)
    return (rows + rows.T) / 2


def _solver(residuals: Callable[..., tuple[Array, PyTree]], rtol: float, *, forward: bool) -> Callable[..., Point]:
    """Return ``(location, max_steps, *rest) -> Point``, which evaluates at `location` if told to make one step."""
    # No acceleration: adaptive solves with and without sensitivities differ by more than it would show near the end.
    engine, options = GaussNewton(rtol, rtol, acceleration=False), {"jac": "fwd" if forward else "bwd"}

    def solve(location: Array, max_steps: Array, *rest: Array) -> Point:
        found = descend(lambda x, rest: residuals(x, *rest), engine, location, rest, options, max_steps)
        at = Linearised(found.at.residuals, found.at.jacobian, found.aux)
        return Point(found.value, at, found.result, found.steps)

    return solve

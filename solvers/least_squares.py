"""Maximum likelihood by alternating nonlinear least squares and noise estimation, from several starts."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from sciad._errors import OptionError
from sciad._results import RESULTS
from sciad.solvers.decades import Decades
from sciad.solvers.gauss_newton import GaussNewton, descend
from sciad.solvers.spread import spread

Residuals = Callable[[Array, Array], tuple[Array, PyTree]]
NoiseLoss = Callable[[Array, PyTree], Array]
Report = Callable[[str, int, int, float], None]  # stage, done, of how many, the least loss so far

REJECTED = 1e15  # residual where the model cannot be evaluated: any step to there is refused, and it is never an answer
ALIKE = 0.01  # difference in log-likelihood of one minimum found twice
TIE = 1e-4  # the same, within which the given start's minimum is taken
MANY, ENOUGH = 6, 3  # so many of so many tries must agree on the best, or it is in doubt
EASED_STEPS = 12  # of each easier problem, which need not be solved to the end
EASED_RTOL = 1e-3  # of their solution
SAME = 1e-3  # relative difference of misfits, within which two solutions of the easiest problem count as one
STAGES = 120  # easier problems at most
LONGEST_STEP, SHORTEST_STEP = 0.5, 0.97  # ratio of one ease to that before
KEPT = 4  # minima on a way with tries
WIDER, NARROWEST = (0.7, 1.4, 2.8), 1e-6  # standard errors of a draw; least singular value by the largest
RISE, UNSEEN = 1.5, 1e-2  # the sum of squares may rise so much in a step; and by this share of all there is to explain
NOISE_STEPS = 50  # of the noise's own minimisation; a dozen is usual
CLOSE = 0.5  # misfit by that of a model that explains nothing, below which a descent from there may well succeed
REACH = 2.0  # longest Newton step: a factor of exp(2) for a positive parameter
ROUNDING = 1e-12  # relative error of the loss, by which it may seem to rise
STEP = 1e-4  # of central differences, in units of the unconstrained parameters
FAR, NEAR = 0.1, 1e-4  # first damping of a descent from far, and of one that begins near its end
TURN, LONG_TURN = 5, 25  # evaluations of a short descent with the noise held
LITTLE = 1e-4  # gain in log-likelihood of such a turn, below which a descent has come near enough to its minimum
GAINLESS = 1e-6  # gain in log-likelihood of a step, at which the loss stands still
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
        return float(np.sqrt(np.mean(r**2))) if np.all(np.abs(r) < REJECTED) else np.inf


class Estimate(NamedTuple):
    """Outcome of an estimation, in unconstrained space; the Hessian is that of the noise's loss.

    `others` are the minima that were met besides.
    """

    point: Point
    noise: Float[np.ndarray, " q"]
    loss: float
    hessian: Float[np.ndarray, "q q"]
    result: RESULTS
    stats: dict[str, Any]
    others: tuple["Estimate", ...] = ()


class Way(NamedTuple):
    """Easier problems on the way to the one at hand.

    Attributes
    ----------
    residuals
        ``(location, noise, ease) -> (r, nothing)``.
    easiest, hardest
        First and last ease; with the last, the problem is close to the one at hand.
    tries
        At each step, descents from places about each of the two best, besides those from the best themselves: drawn
        from their normal laws by linearisation, where the minimum of a slightly harder problem must lie. In chaos there
        are many narrow ones.
    """

    residuals: Callable[[Array, Array, Array], tuple[Array, PyTree]]
    easiest: float
    hardest: float
    tries: int = 0


class Path(NamedTuple):
    """What to do where an answer is in doubt.

    Attributes
    ----------
    ways
        Tried one after the other. Where they begin is found by solving the easiest problem of the first.
    scatter
        Root mean square of the residuals of a model that explains nothing.
    exact
        Whether an estimate is right beyond doubt.
    doubtful
        Whether it may be of a wrong minimum.
    shortcuts
        Locations that the data suggest.
    """

    ways: Sequence[Way]
    scatter: float
    exact: Callable[["Estimate | None"], bool]
    doubtful: Callable[["Estimate | None"], bool]
    shortcuts: Callable[[], Sequence[Float[np.ndarray, " p"]]]


class LeastSquares(eqx.Module):
    r"""Levenberg-Marquardt on standardised residuals, alternating with the maximum likelihood of the noise.

    With the noise held, :math:`\min_\theta \tfrac12 \lVert r(\theta) \rVert^2` by `GaussNewton`;
    with :math:`\theta` held, the noise's parameters by
    damped Newton steps; in turn, until the noise's move by at most ``rtol * (1 + |v|)``, both in unconstrained
    space. Where there is noise to estimate the turns are short at first, so that it keeps pace with the curve: a
    descent on :math:`\min_\eta -\log L(\theta, \eta)`, the profile likelihood. Starts are compared when a turn gains
    less than 1e-4, and the best is taken to the end.

    Parameters
    ----------
    starts
        How many starts are tried beside the given one: drawn from the priors or, where a parameter has none, normally
        about its unconstrained value. The residuals of all are evaluated, and the best `polished` are optimised, the
        given one in any case.
    polished
        How many of them; twice as many where few of these agree on the best, with which nothing else is wrong.
    paths
        Where the best answer is in doubt, or few starts lead to it, how many ways through easier problems are followed
        at most; with 0 no other way is tried.
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
        held: Bool[np.ndarray, " p"] | None = None,
        chart: Decades | None = None,
        report: Report | None = None,
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
        held
            Entries of the location that keep the values of each start.
        chart
            In which coordinates to descend; default: those of the location.
        report
            Called with what is done, as it goes on.

        Notes
        -----
        Where there is a `path`, an interrupt by the keyboard ends the search with the best answer so far, if there is
        one; ``stats["interrupted"]`` then says so.
        """
        began = time.perf_counter()
        locations, noise = np.asarray(locations), np.asarray(noise)
        held = np.zeros(locations.shape[1], bool) if held is None else held
        everywhere = np.full(locations.shape[1], np.inf)
        chart = Decades(-everywhere, everywhere) if chart is None else chart
        search = _Search(self, residuals, noise_loss, (held, chart), report, forward=forward)
        tries, misfits, followed, interrupted = search.tries, [], 0, False
        try:
            # --- what the data suggest, and the given start: two ways that agree need no others ---
            shortcuts = path.shortcuts() if path and self.paths else []
            followed = search.follow_shortcuts(path, shortcuts, noise) if path else 0
            if not (path and path.exact(_best(tries))):
                search.polish(locations[:1], noise, "first descents", first=True)
            misfits += [search.evaluate(locations[0], noise).misfit]
            enough = path and (path.exact(_best(tries)) or (_agreed(tries, 2) and not path.doubtful(_best(tries))))
            if not enough:
                # --- others, and where few of them agree, ways through easier problems ---
                misfits += search.misfits(locations[1:], noise)
                order = np.argsort(misfits[1:]) + 1
                search.polish(locations[order[: self.polished]], noise, "descents")
                if _few(tries) and not (path and path.doubtful(_best(tries))):
                    # Nothing is wrong with the best but that few starts lead there: so may fewer to a better one.
                    search.polish(locations[order[self.polished : 2 * self.polished]], noise, "more descents")
                if path and self.paths:
                    followed += search.follow(path, [*shortcuts, *locations], noise)
        except KeyboardInterrupt:
            if path is None or not tries:
                raise
            interrupted = True
        stats = {
            "paths": followed,
            "starts": len(misfits),
            "starts_failed": int(np.sum(np.isinf(misfits))),
            "polished_losses": [t.loss for t in tries],
            "steps": search.steps,
            "seconds": time.perf_counter() - began,
        } | ({"interrupted": True} if interrupted else {})
        best = next((t for t in tries if t.loss - min(t.loss for t in tries) < TIE), None)  # the given start first
        if best is None:
            nothing = np.full((noise.size, noise.size), np.nan)
            return Estimate(search.evaluate(locations[0], noise), noise, np.inf, nothing, RESULTS.no_valid_start, stats)
        others = tuple(t for t in tries if t is not best)
        return search.finish(best)._replace(stats=stats, others=others)


class _Search:
    """The loops of an estimation about its compiled parts."""

    def __init__(
        self,
        settings: LeastSquares,
        residuals: Residuals,
        noise_loss: NoiseLoss,
        limits: tuple[np.ndarray, Decades],
        report: Report | None,
        *,
        forward: bool,
    ) -> None:
        self._settings = settings
        self._residuals, self._noise_loss = residuals, noise_loss
        self._limits = jax.tree.map(jnp.asarray, limits)
        self._forward, self._report = forward, report
        self.steps = 0
        self.tries: list[Estimate] = []

    def _solve(
        self,
        residuals: Callable[..., Any],
        location: Any,
        max_steps: int,
        *rest: Any,
        rtol: float | None = None,
        damping: float = FAR,
    ) -> Point:
        rtol = self._settings.rtol if rtol is None else rtol
        return _solved(
            residuals, self._forward, jnp.asarray(location), self._limits, (jnp.asarray(rtol), jnp.asarray(damping)),
            jnp.asarray(max_steps), *map(jnp.asarray, rest),
        )  # fmt: skip

    def evaluate(self, location: Array | np.ndarray, noise: np.ndarray) -> Point:
        """Return the point at `location`: a solve whose tolerance is met at once, by the function compiled for all."""
        return self._solve(self._residuals, location, 1, noise)

    def alternate(self, location: Array | np.ndarray, noise: np.ndarray, damping: float = FAR) -> Estimate:
        """Minimise over location and noise in turn."""
        rtol, rounds, steps = self._settings.rtol, self._settings.rounds, 0
        while True:
            solved = self._solve(self._residuals, location, self._settings.max_steps, noise, damping=damping)
            best = best_noise(self._noise_loss, noise, solved.at.predictions)
            moved = np.max(np.abs(best.noise - noise) / (1 + np.abs(noise)), initial=0.0)
            location, noise = solved.location, best.noise
            steps, rounds = steps + int(solved.steps), rounds - 1
            steady = best.settled and moved <= rtol
            if steady or not best.settled or rounds == 0:
                break
        result = RESULTS.promote(solved.result) if steady else RESULTS.noise_not_found
        point = self.evaluate(location, noise)
        return Estimate(point, noise, best.loss, best.hessian, result, {"steps": steps})

    def approach(self, location: Array | np.ndarray, noise: np.ndarray) -> Estimate:
        """Minimise over location and noise in short turns, until even a longer turn gains little."""
        point, before, steps, turn = self.evaluate(location, noise), np.inf, 0, TURN
        while True:
            best = best_noise(self._noise_loss, noise, point.at.predictions)
            little, before = before - best.loss < LITTLE, best.loss
            noise, ended = best.noise, not bool(point.result == optx.RESULTS.nonlinear_max_steps_reached)
            over = little and (ended or turn == LONG_TURN)
            if not best.settled or over or steps >= self._settings.max_steps:
                break
            turn = LONG_TURN if little else TURN  # a short turn may be spent on finding the damping
            point = self._solve(self._residuals, point.location, turn, noise, rtol=EASED_RTOL)
            steps += int(point.steps)
        ended = optx.RESULTS.successful if over else optx.RESULTS.nonlinear_max_steps_reached
        result = RESULTS.promote(ended) if best.settled else RESULTS.noise_not_found
        return Estimate(point, noise, best.loss, best.hessian, result, {"steps": steps})

    def misfits(self, locations: np.ndarray, noise: np.ndarray) -> list[float]:
        """Return the misfit at each location."""
        found = []
        with closing(spread(lambda location: self.evaluate(location, noise), locations)) as points:
            for point in points:
                found.append(point.misfit)
                self._tell("starts", len(found), len(locations))
        return found

    def finish(self, found: Estimate) -> Estimate:
        """Minimise to the end."""
        return self.alternate(found.point.location, found.noise, NEAR) if found.noise.size else found

    def polish(
        self, locations: Sequence[np.ndarray] | np.ndarray, noise: np.ndarray, stage: str = "", *, first: bool = False
    ) -> None:
        """Minimise from each location where the model can be evaluated, roughly if the noise is estimated too.

        What comes `first` of all tries wins a tie. Where it is interrupted, what has ended by then counts.
        """
        self._tell(stage, 0, len(locations))
        possible = [location for location in locations if np.isfinite(self.evaluate(location, noise).misfit)]
        descent, ended = self.approach if noise.size else self.alternate, {}

        def descended(numbered: tuple[int, np.ndarray]) -> None:
            number, location = numbered
            ended[number] = descent(location, noise)

        try:
            with closing(spread(descended, enumerate(possible))) as calls:
                for done, _ in enumerate(calls, 1):
                    self._tell(stage, done, len(possible), [*ended.values()])
        finally:
            found = [ended[number] for number in sorted(ended)]
            self.tries[:] = [*found, *self.tries] if first else [*self.tries, *found]
            self.steps += sum(each.stats["steps"] for each in found)

    def _tell(self, stage: str, done: int, total: int, more: Sequence[Estimate] = ()) -> None:
        if self._report is not None and stage:
            self._report(stage, done, total, min((t.loss for t in [*self.tries, *more]), default=np.inf))

    def follow_shortcuts(self, path: Path, shortcuts: Sequence[np.ndarray], noise: np.ndarray) -> int:
        """Add what shortcuts lead to; return how many ways through easier problems that took."""
        followed = 0
        for shortcut in shortcuts:
            if self.evaluate(shortcut, noise).misfit < CLOSE * path.scatter:
                self.polish([shortcut], noise, "first descents")
            else:  # the slopes match, and the curve goes astray: chaos, often, where only an easier way leads on
                followed += self.follow(path._replace(ways=path.ways[:1]), [shortcut], noise)
        return followed

    def follow(self, path: Path, locations: Sequence[np.ndarray], noise: np.ndarray) -> int:
        """Add what ways through easier problems lead to, until the best answer is beyond doubt; return their number."""
        tries, before, most = self.tries, len(self.tries), self._settings.paths * len(path.ways)

        def doubtful() -> bool:
            return _few(tries) or path.doubtful(_best(tries))

        if not doubtful():
            return 0
        self._tell("easier ways", 0, most)
        begins = [self._begins(way, locations, noise) for way in path.ways]
        for round_ in itertools.zip_longest(*begins):
            for way, begin in zip(path.ways, round_, strict=True):
                if begin is None:
                    continue
                self.polish(self._ends(way, begin.location, noise, path.scatter), noise)
                self._tell("easier ways", len(tries) - before, most)
                if not doubtful():
                    return len(tries) - before
        return len(tries) - before

    def _begins(self, way: Way, locations: Sequence[np.ndarray], noise: np.ndarray) -> Iterator[Point]:
        """Yield solutions of the easiest problem, the best first: from the given location, and the best of all."""

        def easiest(location: Array | np.ndarray, steps: int) -> Point:
            return self._eased(way, location, steps, noise, way.easiest)

        misfits = [easiest(location, 1).misfit for location in locations]
        best = [i for i in np.argsort(misfits)[: self._settings.polished] if np.isfinite(misfits[i])]
        solved = sorted((easiest(locations[i], EASED_STEPS) for i in best), key=lambda point: point.misfit)
        last = 0.0
        for point in solved[: self._settings.paths]:
            if point.misfit > (1 + SAME) * last:
                yield point
            last = point.misfit

    def _eased(self, way: Way, location: Array | np.ndarray, steps: int, noise: np.ndarray, ease: float) -> Point:
        point = self._solve(way.residuals, location, steps, noise, ease, rtol=EASED_RTOL)
        self.steps += int(point.steps)
        return point

    def _ends(self, way: Way, location: Array, noise: np.ndarray, scatter: float) -> list[np.ndarray]:
        """Return the ends of the way from a location: a step that raises the misfit much is made again, shorter.

        Where the problem is chaotic the way is narrow, and only short steps stay on it.
        """
        ease, ratio, rng = way.easiest, LONGEST_STEP, np.random.default_rng(0)
        kept = [self._eased(way, location, EASED_STEPS, noise, ease)]
        for _ in range(STAGES):
            if ease <= way.hardest or not np.isfinite(kept[0].misfit):
                break
            harder = max(ratio * ease, way.hardest)
            further = self._further(way, kept, noise, harder, rng)
            lost = further[0].misfit ** 2 > RISE * kept[0].misfit ** 2 + UNSEEN * scatter**2
            if lost and ratio < SHORTEST_STEP:
                ratio = ratio**0.5
                continue
            if not np.isfinite(further[0].misfit):
                break
            kept, ease, ratio = further, harder, max(ratio**1.5, LONGEST_STEP)
        return [np.asarray(point.location) for point in kept]

    def _further(
        self, way: Way, kept: Sequence[Point], noise: np.ndarray, ease: float, rng: np.random.Generator
    ) -> list[Point]:
        """Return the best one or two of a harder problem, from those of an easier one."""
        starts = [np.asarray(point.location) for point in kept]
        starts += [_about(point, rng) for point in kept for _ in range(way.tries)]
        with closing(spread(lambda start: self._eased(way, start, EASED_STEPS, noise, ease), starts)) as descents:
            found = sorted(descents, key=lambda point: point.misfit)
        kept = found[:1]
        for point in found[1:]:
            if way.tries and len(kept) < KEPT and point.misfit > (1 + SAME) * kept[-1].misfit:
                kept.append(point)
        return kept


def _about(point: Point, rng: np.random.Generator) -> np.ndarray:
    """Draw from a law about a minimum that is a few times as wide as that by linearisation."""
    _, values, right = np.linalg.svd(np.asarray(point.at.jacobian), full_matrices=False)
    drawn = rng.standard_normal(len(values)) * rng.choice(WIDER) * point.misfit
    step = right.T @ (drawn / np.maximum(values, NARROWEST * values.max(initial=1.0)))
    return np.asarray(point.location) + step * min(1.0, REACH / max(float(np.linalg.norm(step)), 1e-300))


def _best(tries: Sequence[Estimate]) -> Estimate | None:
    return min(tries, key=lambda t: t.loss, default=None)


def _agreed(tries: Sequence[Estimate], number: int) -> bool:
    """Whether so many tries ended at the best."""
    best = _best(tries)
    return best is not None and sum(t.loss - best.loss < ALIKE for t in tries) >= number


def _few(tries: Sequence[Estimate]) -> bool:
    """Whether few of many tries ended at the best."""
    return len(tries) >= MANY and not _agreed(tries, ENOUGH)


class Noise(NamedTuple):
    """A minimum of the noise's loss, if it is `settled`."""

    noise: Float[np.ndarray, " q"]
    loss: float
    hessian: Float[np.ndarray, "q q"]
    settled: bool


def best_noise(noise_loss: NoiseLoss, noise: Float[np.ndarray, " q"], predictions: PyTree) -> Noise:
    """Minimise ``noise_loss(noise, predictions)`` over the noise."""

    def at(v: np.ndarray) -> tuple[float, np.ndarray]:
        loss, slope = _noise_slope(noise_loss, jnp.asarray(v), predictions)
        return float(loss), np.asarray(slope)

    return _minimum(at, noise)


def _minimum(at: Callable[[np.ndarray], tuple[float, np.ndarray]], noise: np.ndarray) -> Noise:
    """Minimise by Newton steps at most `REACH` long, halved until the loss falls."""
    loss, slope = at(noise)
    gains = [np.inf, np.inf]
    for _ in range(NOISE_STEPS):
        curvature = _hessian(at, noise)
        # Where two steps in a row gain nothing, the loss has a limit in that direction: Poisson's, say.
        if np.max(np.abs(slope), initial=0.0) <= FLAT or max(gains[-2:]) <= GAINLESS:
            return Noise(noise, loss, curvature, settled=True)
        values, axes = np.linalg.eigh(curvature)
        step = -axes @ (axes.T @ slope / np.maximum(np.abs(values), 1e-8))  # absolute: downhill from saddles too
        step *= min(1.0, REACH / np.linalg.norm(step))
        trials = (noise + step * 0.5**halvings for halvings in range(40))
        found = next(((v, *at(v)) for v in trials if at(v)[0] <= loss + ROUNDING * (1 + abs(loss))), None)
        if found is None:
            break
        gains.append(loss - found[1])
        noise, loss, slope = found
    return Noise(noise, loss, _hessian(at, noise), settled=False)


def _hessian(at: Callable[[np.ndarray], tuple[float, np.ndarray]], noise: np.ndarray) -> np.ndarray:
    """Return central differences of slopes: less work than compiling second derivatives of a log-gamma function."""
    slopes = [at(noise + step)[1] - at(noise - step)[1] for step in STEP * np.eye(noise.size, dtype=noise.dtype)]
    rows = np.reshape(slopes, (noise.size, noise.size)) / (2 * STEP)
    return (rows + rows.T) / 2


@eqx.filter_jit
def _solved(
    residuals: Callable[..., Any],
    forward: bool,
    location: Array,
    limits: tuple[Array, Decades],
    settings: tuple[Array, Array],
    max_steps: Array,
    *rest: Array,
) -> Point:
    """Descend from `location`, or evaluate there if told to make one step.

    Compiled once for each function: a method of an `equinox.Module` is the same function for all values of its arrays.
    """
    held, chart = limits
    start, (low, high) = chart.coordinates(location), chart.bounds
    low, high = jnp.where(held, start, low), jnp.where(held, start, high)
    # No acceleration: adaptive solves with and without sensitivities differ by more than it would show near the end.
    rtol, damping = settings
    engine = GaussNewton(acceleration=False)
    engine = eqx.tree_at(lambda e: (e.rtol, e.atol, e.damping), engine, (rtol, rtol, damping))
    options = {"lower": low, "upper": high, "reach": chart.reach, "jac": "fwd" if forward else "bwd"}

    def function(z: Array, rest: tuple[Array, ...]) -> tuple[Array, PyTree]:
        return residuals(chart.unconstrained(z), *rest)

    found = descend(function, engine, start, rest, options, max_steps)
    z, r, jacobian = found.value, found.at.residuals, found.at.jacobian
    # On a rim, at infinity in unconstrained space, nothing moves the residuals.
    slope = r @ jacobian
    below, above = chart.rests(z)
    rests = ~held & ((below & (slope > 0)) | (above & (slope < 0)))
    jacobian = jnp.where(rests[None], 0.0, jacobian * chart.slopes(z)[None])
    return Point(chart.unconstrained(z), Linearised(r, jacobian, found.aux), found.result, found.steps)


@eqx.filter_jit
def _noise_slope(noise_loss: NoiseLoss, noise: Array, predictions: PyTree) -> tuple[Array, Array]:
    return jax.value_and_grad(noise_loss)(noise, predictions)

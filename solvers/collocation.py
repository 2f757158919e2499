"""Least squares on points that are exchanged now and then, judged on points that are never trained on."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, PyTree

from sciad._errors import OptionError
from sciad.solvers.gauss_newton import GaussNewton, Reached

Report = Callable[[int, float, float, float], None]  # steps, seconds, residuals trained on and least of those held out
STALLED = 0.98  # of the least residual held out: rounds that do not fall below it have gained nothing


@runtime_checkable
class Posed(Protocol):
    """What a problem must offer; all of it is compiled by the solver."""

    def residuals(self, location: Any, setting: Any) -> Any:
        """Return residuals and None."""
        ...

    def linearised(self, location: Any, setting: Any) -> Any:
        """Return their Jacobian, and residuals and None."""
        ...

    def root_mean_squares(self, location: Any, setting: Any) -> Any:
        """Return the root mean square of each group's residuals."""
        ...


class Outcome(NamedTuple):
    """Where a collocation ended: the location of the least residual on points held out, and how it came there.

    `history` has a row for each round: steps, seconds, root mean squares of the residuals trained on and held out.
    """

    location: Float[Array, " p"]
    held_out: dict[str, float]
    history: Float[np.ndarray, "rounds 4"]
    stats: dict[str, Any]


class Collocation(eqx.Module):
    """Damped Gauss-Newton on quasi-random points, held for a while and then drawn anew.

    Parameters
    ----------
    points
        How many inside the domain.
    hold
        Accepted steps with the same points. Points that change at every step leave nothing to converge to.
    budget
        Seconds, compilation included, after which it ends.
    max_steps
        Steps after which it ends.
    adaptive
        Whether new points are drawn by the size of the residual, from eight times as many candidates.
    growing
        Parts of the span of time, where there are initial values, that are taken in one after the other: the next when
        the residual of the equation on those before has fallen to a thousandth. Equations that carry things far have
        wrong solutions of small residual, and right ones begin at the beginning.
    tolerance
        Root mean square of all residuals on points held out, at which it ends.
    patience
        Rounds without gain on the points held out, after which it ends.
    watch
        Called with the program as each round begins: to draw it, or to keep it.
    engine
        The least-squares solver of the steps.
    """

    points: int = eqx.field(static=True)
    hold: int = eqx.field(static=True)
    budget: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    adaptive: bool = eqx.field(static=True)
    growing: int = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)
    patience: int = eqx.field(static=True)
    watch: Callable[[Any], object] | None = eqx.field(static=True)
    engine: GaussNewton

    def __init__(
        self,
        *,
        points: int = 3000,
        hold: int = 60,
        budget: float = 120.0,
        max_steps: int = 20_000,
        adaptive: bool = True,
        growing: int = 0,
        tolerance: float = 0.0,
        patience: int = 5,
        watch: Callable[[Any], object] | None = None,
        engine: GaussNewton | None = None,
    ) -> None:
        if growing < 0:
            msg = f"Collocation(growing={growing}): expected a number of parts, or 0."
            raise OptionError(msg)
        counts = {"points": points, "hold": hold, "max_steps": max_steps, "patience": patience}
        for name, value in {**counts, "budget": budget}.items():
            if not value > 0:
                msg = f"Collocation({name}={value}): expected a positive number."
                raise OptionError(msg)
        self.points, self.hold, self.budget, self.max_steps = points, hold, float(budget), max_steps
        self.growing, self.watch = growing, watch
        self.adaptive, self.tolerance, self.patience = adaptive, float(tolerance), patience
        self.engine = GaussNewton(1e-15, 1e-15, form="normal", scaled=False) if engine is None else engine

    def solve(
        self,
        posed: Posed,
        location: Float[Array, " p"],
        settings: Callable[[int, Float[Array, " p"]], PyTree],
        report: Report | None = None,
        *,
        rising: Callable[[], bool] = lambda: False,
        settled: Callable[[Array], bool] = lambda _: True,
    ) -> Outcome:
        """Descend from `location`; ``settings(round, location)`` gives new points, round -1 those held out.

        As long as the setting is `rising`, that is, becomes harder from round to round, the last is the best. Rounds
        without gain end it only where the best is `settled`. Ctrl-C ends it with the best so far.
        """
        search = _Search(self, posed, settings, location, (rising, settled))
        try:
            while not search.over:
                search.round(report)
        except KeyboardInterrupt:
            search.interrupted = True
            search.judge()
        return search.outcome()


class _Search:
    """The loop about the compiled steps."""

    def __init__(
        self, settings: Collocation, posed: Posed, draw: Callable[..., PyTree], location: Array, asked: Any
    ) -> None:
        self._settings, self._posed, self._draw = settings, posed, draw
        self._began = time.perf_counter()
        self._location, self._best, self._damping = (
            location,
            location,
            jnp.asarray(settings.engine.damping, location.dtype),
        )
        self._least, self._held_out, self._trained, self._of_best = np.inf, {}, np.inf, np.inf
        self._steps = self._rounds = self._idle = 0
        self._rising, self._settled = asked
        self._compiling, self._ended = 0.0, ""
        self._history: list[tuple[float, ...]] = []
        self.interrupted = False
        self.judge()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._began

    @property
    def over(self) -> bool:
        """Whether to stop; why is kept."""
        settings = self._settings
        if self._idle >= settings.patience and not self._settled(self._best):
            self._idle = 0
        reasons = {
            "The residual on points held out is below the tolerance.": self._least <= settings.tolerance,
            "No round gained anything on points held out.": self._idle >= settings.patience,
            "The budget of seconds was spent.": self.seconds >= settings.budget,
            "The greatest number of steps was made.": self._steps >= settings.max_steps,
        }
        self._ended = next((reason for reason, true in reasons.items() if true), "")
        return bool(self._ended)

    def round(self, report: Report | None) -> None:
        """Descend on new points for as long as they are held."""
        settings, engine = self._settings, self._settings.engine
        setting = self._draw(self._rounds, self._location)
        state = _begun(engine, self._posed, self._location, setting, self._damping)
        hold = max(settings.hold // 2, 1) if self._rising() else settings.hold
        limit = self._steps + 4 * hold
        while not bool(state.done) and int(state.accepted) <= hold and self._steps < limit:
            self._location, state = _stepped(engine, self._posed, self._location, setting, state)
            self._steps += 1
            if self._steps == 1:
                self._compiling = self.seconds
            if report is not None:
                report(self._steps, self.seconds, _root(state), self._least)
            if self.seconds >= settings.budget:
                break
        self._damping = jnp.minimum(state.damping, engine.damping)
        self._trained = _root(state)
        self._rounds += 1
        self.judge()

    def judge(self) -> None:
        """Hold the location against points never trained on."""
        setting = self._draw(-1, self._location)
        found = {name: float(value) for name, value in judged(self._posed, self._location, setting).items()}
        now = float(np.sqrt(sum((float(setting.weights[name]) * value) ** 2 for name, value in found.items())))
        self._history.append((self._steps, self.seconds, self._trained, now))
        rising = self._rising()
        self._idle = 0 if rising or now < STALLED * self._least else self._idle + 1
        if rising or now < self._least:
            self._best, self._least, self._held_out, self._of_best = self._location, now, found, self._trained

    def outcome(self) -> Outcome:
        """Return the best."""
        ended = "Interrupted." if self.interrupted else self._ended
        stats = {
            "steps": self._steps,
            "rounds": self._rounds,
            "seconds": self.seconds,
            "compile_seconds": self._compiling,
            "rising": self._rising(),
            "trained": self._of_best,
            "held_out": self._least,
            "ended": ended,
            **({"interrupted": True} if self.interrupted else {}),
        }
        return Outcome(self._best, self._held_out, np.array(self._history), stats)


def _root(state: Any) -> float:
    return float(np.sqrt(2 * float(state.at.cost)))


@eqx.filter_jit
def _begun(engine: GaussNewton, posed: Posed, location: Array, setting: PyTree, damping: Array) -> Any:
    options = {"jac": posed.linearised}
    residuals, nothing = jax.eval_shape(posed.residuals, location, setting)
    state = engine.init(posed.residuals, location, setting, options, residuals, nothing, frozenset())
    return eqx.tree_at(lambda s: s.damping, state, damping)


def _stepped(engine: GaussNewton, posed: Posed, location: Array, setting: PyTree, state: Any) -> tuple[Array, Any]:
    """Return the next location and state.

    This is the engine's step in three parts, each compiled, of which the second costs most and is made only where a
    step gains: `GaussNewton.step` as a whole cannot know that before.
    """
    reached, (ratio, gain) = Reached(location, state.model, state.aux), _gained(engine, posed, location, setting, state)
    if gain:
        tried = _linearised(engine, posed, location, setting, state)
        gain = gain & tried.model.finite
        reached = _squared(tried) if gain and engine.form == "normal" else tried if gain else reached
    return reached.flat, _advanced(engine, posed, setting, state, reached, (ratio, gain))


@eqx.filter_jit
def _gained(engine: GaussNewton, posed: Posed, location: Array, setting: PyTree, state: Any) -> tuple[Array, Array]:
    residuals, _ = posed.residuals(engine.tried(location, {}, state), setting)
    return engine.gained(state, residuals)


@eqx.filter_jit
def _linearised(engine: GaussNewton, posed: Posed, location: Array, setting: PyTree, state: Any) -> Reached:
    return engine.linearise(posed.residuals, location, setting, {"jac": posed.linearised}, state, product=False)


def _squared(reached: Reached) -> Reached:
    """Return the point with ``JᵀJ``: on processors from BLAS, which makes one half of it, in half of XLA's time."""
    jacobian = reached.model.at.jacobian
    if jacobian.devices() == {jax.devices("cpu")[0]}:
        rows = np.asarray(jacobian)
        (syrk,) = scipy.linalg.blas.get_blas_funcs(("syrk",), (rows,))
        product = jnp.asarray(syrk(1.0, rows.T).T)
    else:
        product = jacobian.T @ jacobian
    return reached._replace(model=reached.model._replace(product=product))


@eqx.filter_jit
def _advanced(
    engine: GaussNewton, posed: Posed, setting: PyTree, state: Any, reached: Reached, judged: tuple[Array, Array]
) -> Any:
    return engine.advance(posed.residuals, reached.flat, setting, {}, state, reached, judged)


@eqx.filter_jit
def judged(posed: Posed, location: Array, setting: PyTree) -> PyTree:
    """Return the root mean square of each group's residuals."""
    return posed.root_mean_squares(location, setting)

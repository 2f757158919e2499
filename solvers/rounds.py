"""Rounds of steps on points that are exchanged between them, judged on points that are never trained on."""

import abc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PyTree

from sciad._errors import OptionError

Report = Callable[[int, float, float, float], None]  # steps, seconds, residuals trained on and least of those held out
INTERRUPTED = "Interrupted."
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

    def parts(self, location: Any, setting: Any) -> Any:
        """Return the residuals of each group by name; one after the other, they are the residuals."""
        ...

    def leaves(self, location: Any) -> Any:
        """Return the location as a dictionary of arrays, one for each leaf of the program."""
        ...

    def flat(self, leaves: Any) -> Any:
        """Return the location that such a dictionary stands for."""
        ...

    def times(self, setting: Any) -> Any:
        """Return the times of the points of the group ``"equation"``, from 0 to 1, or None."""
        ...

    def root_mean_squares(self, location: Any, setting: Any) -> Any:
        """Return the root mean square of each group's residuals."""
        ...


class Outcome(NamedTuple):
    """Where the rounds ended: the location of the least residual on points held out, and how it came there.

    `history` has a row for each round: steps, seconds, root mean squares of the residuals trained on and held out.
    """

    location: Float[Array, " p"]
    held_out: dict[str, float]
    history: Float[np.ndarray, "rounds 4"]
    stats: dict[str, Any]


class Made(NamedTuple):
    """Where steps of a round have led.

    Attributes
    ----------
    location
        Where they led.
    trained
        Root mean square of the residuals trained on.
    steps
        How many were made in this round.
    kept
        What the next round begins with, beside the location.
    """

    location: Float[Array, " p"]
    trained: float
    steps: int
    kept: Any


class AbstractRounds(eqx.Module):
    """A solver that makes steps on given points, again and again on new ones: see `Collocation` for the settings."""

    points: int = eqx.field(static=True)
    hold: int = eqx.field(static=True)
    budget: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    adaptive: bool = eqx.field(static=True)
    growing: int = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)
    patience: int = eqx.field(static=True)
    watch: Callable[[Any], object] | None = eqx.field(static=True)

    @abc.abstractmethod
    def descend(
        self, posed: Posed, location: Float[Array, " p"], setting: PyTree, steps: tuple[int, int], kept: Any
    ) -> Iterator[Made]:
        """Make the steps of one round, and say now and then where they led.

        `steps` are those that points are held for, and those left altogether; `kept` is what the last round said was to
        be kept, None in the first.
        """

    @abc.abstractmethod
    def memory(self, rows: int, parameters: int) -> float:
        """Return the bytes that its matrices take, with so many residuals."""

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


def check_settings(solver: str, positive: Mapping[str, float | int], growing: int) -> None:
    """Refuse settings that are not positive, and a number of parts that is negative."""
    if growing < 0:
        msg = f"{solver}(growing={growing}): expected a number of parts, or 0."
        raise OptionError(msg)
    for name, value in positive.items():
        if not value > 0:
            msg = f"{solver}({name}={value}): expected a positive number."
            raise OptionError(msg)


class _Search:
    """The loop about the compiled steps."""

    def __init__(
        self, settings: AbstractRounds, posed: Posed, draw: Callable[..., PyTree], location: Array, asked: Any
    ) -> None:
        self._settings, self._posed, self._draw = settings, posed, draw
        self._began = time.perf_counter()
        self._location, self._best, self._kept = location, location, None
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
    def _sound(self) -> bool:
        return bool(np.isfinite(self._trained))

    @property
    def over(self) -> bool:
        """Whether to stop; why is kept."""
        settings = self._settings
        if self._idle >= settings.patience and not self._settled(self._best):
            self._idle = 0
        reasons = {
            "The residuals are not finite any more: take shorter steps.": self._steps > 0 and not self._sound,
            "The residual on points held out is below the tolerance.": self._least <= settings.tolerance,
            "No round gained anything on points held out.": self._idle >= settings.patience,
            "The budget of seconds was spent.": self.seconds >= settings.budget,
            "The greatest number of steps was made.": self._steps >= settings.max_steps,
        }
        self._ended = next((reason for reason, true in reasons.items() if true), "")
        return bool(self._ended)

    def round(self, report: Report | None) -> None:
        """Descend on new points for as long as they are held."""
        settings, before = self._settings, self._steps
        setting = self._draw(self._rounds, self._location)
        hold = max(settings.hold // 2, 1) if self._rising() else settings.hold
        steps = hold, settings.max_steps - before
        for made in settings.descend(self._posed, self._location, setting, steps, self._kept):
            self._location, self._trained, self._kept = made.location, made.trained, made.kept
            self._steps = before + made.steps
            self._compiling = self._compiling or self.seconds
            if report is not None:
                report(self._steps, self.seconds, made.trained, self._least)
            if self.seconds >= settings.budget:
                break
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
        ended = INTERRUPTED if self.interrupted else self._ended
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


@eqx.filter_jit
def judged(posed: Posed, location: Array, setting: PyTree) -> PyTree:
    """Return the root mean square of each group's residuals."""
    return posed.root_mean_squares(location, setting)


ADDED = ("steps", "rounds", "seconds", "compile_seconds")


def one_after_the_other(solvers: Sequence[AbstractRounds], outcomes: Sequence[Outcome]) -> Outcome:
    """Return what several solvers came to, each from where the last ended: histories joined, times and steps added."""
    last, rows, before = outcomes[-1], [outcomes[0].history], outcomes[0].history[-1, :2]
    for outcome in outcomes[1:]:
        rows.append(outcome.history[1:] + np.append(before, [0.0, 0.0]))  # the first row is the last one of the former
        before = before + outcome.history[-1, :2]
    told = [f"{type(s).__name__}: {outcome.stats['ended']}" for s, outcome in zip(solvers, outcomes, strict=False)]
    added = {name: sum(outcome.stats[name] for outcome in outcomes) for name in ADDED}
    words = last.stats["ended"] if len(outcomes) == 1 else " ".join(told)
    return last._replace(history=np.concatenate(rows), stats=last.stats | added | {"ended": words})

"""What changes from round to round while a field is fitted: points, noise, and the equation's weight beside data."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sciad._field_errors import Linearised, linearised, unsettled
from sciad.problems.collocated import Collocated, Setting
from sciad.problems.pde import PDEProblem, PDEProgram, Rows
from sciad.solvers.collocation import HEAVY
from sciad.solvers.least_squares import best_noise
from sciad.solvers.points import by_residual
from sciad.solvers.rounds import AbstractRounds, judged
from sciad.solvers.step_forms import bytes_of

HELD = 1_000_003  # seed of the points held out, beyond all that are trained on
SEEDS = 1000  # from one round to the next: each group of points takes one
CANDIDATES = 8  # for each point, when points are drawn by the residual
WEIGHTS = (0.1, 0.1, 0.3, 1.0, 3.0, 10.0)  # of the equation beside data, both by their sizes, from round to round
FIRM, ENOUGH = 10.0, 4  # in the covariance: the equation's weight by the last one, points by the network's weights
MET = 1e-3  # of the equation's residual without a solution: what is left where the span of time may grow
PATIENCE = 10  # rounds after which it grows all the same
SETTLED = 0.3  # standard errors that estimates may still be away from the solution of the linear problem
LEAST_FREE = 0.1  # of the observations: what is left for the noise at least
FIRST_NOISE = 0.1  # of the scatter of the data


class Course:
    """What changes from round to round: points, the noise's numbers, and how much the equation weighs beside the data.

    An equation is exact, and data are not: beside data its weight rises until what it is missed by no longer matters.
    The weight compares the equation's residual, by that at the start, with the misfit of the data by the size of the
    field, whatever the noise: were it to fall as the noise does, a network could follow the data alone, and all noise
    would be taken for signal. The start is that of the problem posed with a network that is `untrained`: one that has
    been fitted before says nothing of how large residuals are. As each round begins, the program is handed to the
    solver's `watch`, and to `keep`.
    """

    def __init__(
        self,
        problem: PDEProblem,
        posed: Collocated,
        solver: AbstractRounds,
        untrained: Collocated,
        keep: Callable[[PDEProgram], object] | None = None,
    ) -> None:
        self._problem, self._posed, self._solver = problem, posed, solver
        self._keep, self._before = keep, 0
        self.noise = _first_noise(problem, posed)
        rows = problem.design(solver.points, HELD)
        self.units = dict.fromkeys(rows, 1.0)
        found = judged(untrained, untrained.start, self._at(rows, 1.0))
        self.unsolved = {name: float(size) for name, size in found.items()}
        self.units = {name: size if name != "data" and size > 0 else 1.0 for name, size in self.unsolved.items()}
        self.weight = 1.0
        self._share = 1.0 if not solver.growing or problem.time is None else 1.0 / solver.growing
        self._patience = PATIENCE
        self.rising = self._share < 1.0 or problem.observations is not None

    def hand_over(self, solver: AbstractRounds, rounds: int) -> None:
        """Go on with another solver, after so many rounds of the last."""
        self._solver, self._before = solver, self._before + rounds
        if not solver.growing:
            self._share = 1.0

    def final(self, location: Array) -> tuple[Setting, Linearised | None]:
        """Return the setting that errors are taken by, and what it is like about the location; None without data.

        A field follows the data the more closely the freer it is; the noise is what is left for those observations
        that were not used up by that.
        """
        self.noise = self._best_noise(location)
        if self._problem.observations is None or self.too_large:
            return self._at(self._problem.observed, 1.0), None
        if self.noise.size:
            as_found = linearised(self._posed, location, self._fresh(location, 1.0))
            self.noise = self._best_noise(location, as_found.effective)
        setting = self._fresh(location, FIRM)
        return setting, linearised(self._posed, location, setting)

    @property
    def too_large(self) -> bool:
        """Whether the network has too many weights for a dense Jacobian, and so for errors."""
        size = self._posed.places.size
        return bytes_of("normal", max(self._solver.points, ENOUGH * size), size) > HEAVY

    def settled(self, location: Array) -> bool:
        """Whether the estimates beside data have come to rest, as far as the linear problem about them tells."""
        if self._problem.observations is None or self.too_large:
            return True
        self.noise = self._best_noise(location)
        about = linearised(self._posed, location, self._fresh(location, FIRM))
        return max(unsettled(self._posed, about).values(), default=0.0) < SETTLED

    def _fresh(self, location: Array, firm: float) -> Setting:
        """Return a setting of new points, with an equation so much firmer.

        The weight that an estimate was found with leaves room for the equation to be missed, which is no error of the
        data; so would fewer points than the network has weights.
        """
        points = max(self._solver.points, ENOUGH * location.size)
        return self._at(self._problem.design(points, SEEDS - 1), firm * self.weight)

    def setting(self, number: int, location: Array) -> Setting:
        """Return the setting of a round; -1: with points that are held out."""
        problem, solver = self._problem, self._solver
        if number < 0:
            return self._at(problem.design(solver.points, HELD), self.weight)
        number += self._before
        for watch in (solver.watch, self._keep):
            if watch is not None:
                watch(self._posed.full.program(self._posed.joined(location, jnp.asarray(self.noise))))
        if number > 0 and self._share < 1.0:
            self._grow(location)
        rows = self._until_now(problem.design(solver.points, number * SEEDS))
        if number > 0 and solver.adaptive:
            many = problem.until(self._share, problem.domain.interior(CANDIDATES * solver.points, number))
            at_many = self._at({"equation": Rows(many, None)}, 1.0)
            sizes = np.asarray(eqx.filter_jit(self._posed.magnitudes)(location, at_many))
            rows["equation"] = Rows(many[by_residual(sizes, solver.points, number)], None)
        if problem.observations is not None:
            self.noise = self._best_noise(location) if number > 0 else self.noise
            precision = eqx.filter_jit(self._posed.precision)(location, self._at(problem.observed, 1.0))
            self.weight = WEIGHTS[min(number, len(WEIGHTS) - 1)] * float(precision)
        tightening = problem.observations is not None and number < len(WEIGHTS)
        self.rising = self._share < 1.0 or tightening
        return self._at(rows, self.weight)

    def _grow(self, location: Array) -> None:
        """Let the span of time grow by a part if the equation is met in it, or if more rounds have not helped."""
        rows = self._until_now({"equation": self._problem.design(self._solver.points, HELD)["equation"]})
        found = judged(self._posed, location, self._at(rows, 1.0))
        met = float(found["equation"]) <= MET * self.unsolved["equation"]
        self._patience = PATIENCE if met else self._patience - 1
        if met or not self._patience:
            self._share = min(self._share + 1.0 / self._solver.growing, 1.0)
            self._share = 1.0 if self._share > 1.0 - 0.5 / self._solver.growing else self._share
            self._patience = PATIENCE

    def _until_now(self, rows: dict[str, Rows]) -> dict[str, Rows]:
        """Return rows with their points moved into the span of time that is looked at."""
        return {
            name: group
            if name == "data"
            else Rows(self._problem.until(self._share, np.asarray(group.points)), group.beside)
            for name, group in rows.items()
        }

    def _best_noise(self, location: Array, effective: np.ndarray | None = None) -> np.ndarray:
        if not self.noise.size or self._problem.observations is None:
            return self.noise
        predictions = eqx.filter_jit(self._posed.predictions)(location, self._at(self._problem.observed, 1.0))
        if effective is not None:
            predictions = jnp.asarray(_freed(self._problem, np.asarray(predictions), effective))
        best = best_noise(self._posed.noise_loss, self.noise, predictions)
        return best.noise if best.settled else self.noise

    def _at(self, rows: dict[str, Rows], weight: float) -> Setting:
        weights = {name: jnp.asarray(1.0 if name == "data" else weight / self.units[name]) for name in rows}
        return Setting(jax.tree.map(jnp.asarray, rows), jnp.asarray(self.noise), weights)


def _freed(problem: PDEProblem, predictions: np.ndarray, effective: np.ndarray) -> np.ndarray:
    """Return predictions as far from the observations as if these had not been used up: by √(n / (n - effective))."""
    seen, freed = problem.observations, predictions.copy()
    assert seen is not None
    fields = [number for number, field in enumerate(problem.fields) if field in problem.noise]
    for number, used in zip(fields, effective, strict=True):
        there = seen.observed[:, number]
        factor = np.sqrt(there.sum() / max(there.sum() - used, LEAST_FREE * there.sum()))
        y, mean = seen.values[there, number], predictions[there, number]
        positive = problem.noise[problem.fields[number]].positive
        freed[there, number] = y * (mean / y) ** factor if positive else y + factor * (mean - y)
    return freed


def _first_noise(problem: PDEProblem, posed: Collocated) -> np.ndarray:
    """Return the noise about predictions that are off by a tenth of the data's scatter, for the fit to begin at them.

    Were all scatter taken for noise, a constant would explain the data, and solve many an equation.
    """
    noise, seen = np.asarray(posed.full.vector)[posed.noisy], problem.observations
    if not noise.size or seen is None:
        return noise
    values = np.where(seen.observed, seen.values, 1.0)
    columns = zip(seen.values.T, seen.observed.T, strict=True)
    scatter = [np.std(column[there]) if there.any() else 0.0 for column, there in columns]
    signs = np.where(np.arange(len(values)) % 2 == 0, 1.0, -1.0)[:, None]
    off = values + FIRST_NOISE * signs * np.array(scatter)
    positive = [field in problem.noise and problem.noise[field].positive for field in problem.fields]
    off = np.where(np.array(positive)[None] & (off <= 0), values, off)
    best = best_noise(posed.noise_loss, noise, jnp.asarray(off))
    return best.noise if best.settled else noise

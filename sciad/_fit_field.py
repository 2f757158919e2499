"""`fit` of a partial differential equation."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, PRNGKeyArray, PyTree

from sciad._errors import InputError, OptionError
from sciad._field import FieldFit
from sciad._progress import Progress
from sciad._regression import Natural
from sciad._vector import Vectorized, vectorize
from sciad.models.networks import RandomFeatures
from sciad.problems.collocated import Collocated, Setting
from sciad.problems.pde import PDEProblem, Rows
from sciad.solvers.collocation import Collocated as Found
from sciad.solvers.collocation import Collocation, judged
from sciad.solvers.last_layer import LastLayer
from sciad.solvers.least_squares import best_noise
from sciad.solvers.points import by_residual

HELD = 1_000_003  # seed of the points held out, beyond all that are trained on
CANDIDATES = 8  # for each point, when points are drawn by the residual
FEW, PROBES, LINEAR = 3, 16, 1e-9  # features and points by which linearity is tested, and the departure from it
FINE = 1e-6  # of the equation's residual without any solution: what a linear solve must reach to be taken
WEIGHTS = (1.0, 1.0, 3.0, 10.0, 30.0, 100.0)  # of the equation beside data, from round to round
FIRST_NOISE = 0.1  # of the scatter of the data
SEEDS = 1000  # from one round to the next: each group of points takes one
WIDE = 2.0  # error of a number in unconstrained units (of a logarithm, as a rule) that leaves it undetermined
LOOSE = 1e-12  # of the largest singular value: what the data say nothing of is as wide as that
POOR, BENT = 1e-3, 1e-5  # residuals on points held out by those at the start, that are told; and if they are also
APART = 10.0  # times larger than those trained on
HEAVY = 4e9  # bytes of a Jacobian that a dense engine may hold


def fit_field(
    problem: PDEProblem,
    program: PyTree,
    *,
    solver: Collocation | LastLayer | None = None,
    key: PRNGKeyArray | int = 0,
    progress: bool = True,
) -> FieldFit:
    """Fit a field, and the unknown numbers of its equation, conditions and noise; see `fit`."""
    if not isinstance(solver, Collocation | LastLayer | None):
        msg = f"fit(solver={type(solver).__name__}): a PDEProblem is solved by sd.Collocation or sd.LastLayer."
        raise OptionError(msg)
    with Progress(quiet=not progress, brief=True) as display:
        if isinstance(solver, Collocation):
            return _by_steps(problem, program, solver, key, display)
        linear = _linear(problem, program, key)
        if solver is not None and not linear:
            msg = "sd.LastLayer solves what is linear in the field, with nothing else unknown, noise included, and "
            msg += "this is not. Take sd.Collocation()."
            raise InputError(msg)
        if linear:
            solved = _by_last_layer(problem, program, LastLayer() if solver is None else solver, key, display)
            if solver is not None or solved.held_out["equation"] < FINE * solved.stats["unsolved"]:
                return solved
        return _by_steps(problem, program, Collocation(), key, display)


def _by_steps(
    problem: PDEProblem, program: PyTree, solver: Collocation, key: PRNGKeyArray | int, display: Progress
) -> FieldFit:
    full = vectorize(problem.complete(program, key))
    posed = Collocated(full, problem)
    _check_size(problem, solver.points, len(posed.places))
    _check_determined(problem, full)
    course = _Course(problem, posed, solver)
    found = solver.solve(
        posed, jnp.asarray(full.vector)[posed.places], course.setting,
        lambda steps, seconds, trained, least: display.update(
            "Gauss-Newton", int(min(seconds, solver.budget)), int(solver.budget),
            f"step {steps}, residual {trained:.3g}, held out {least:.3g}"),
        ramp=course.ramp,
    )  # fmt: skip
    return _described(problem, posed, found, course.setting(course.ramp + found.stats["rounds"], found.location))


class _Course:
    """What changes from round to round: points, the noise's numbers, and how much the equation weighs beside the data.

    An equation is exact, and data are not: beside data its weight, in units of its residual at the start, rises until
    what it is missed by no longer matters.
    """

    def __init__(self, problem: PDEProblem, posed: Collocated, solver: Collocation) -> None:
        self._problem, self._posed, self._solver = problem, posed, solver
        start = jnp.asarray(posed.full.vector)[posed.places]
        self.noise = _first_noise(problem, posed)
        rows, self.units = problem.design(solver.points, HELD), dict.fromkeys(problem.design(1, 0), 1.0)
        found = judged(posed, start, self._at(rows, 1.0))
        self.units = {name: float(v) if name != "data" and v > 0 else 1.0 for name, v in found.items()}
        self.ramp = len(WEIGHTS) if problem.observations is not None else 0
        self.weight = 1.0

    def setting(self, number: int, location: Array) -> Setting:
        """Return the setting of a round; -1: with points that are held out."""
        problem, solver = self._problem, self._solver
        if number < 0:
            return self._at(problem.design(solver.points, HELD), self.weight)
        rows = problem.design(solver.points, number * SEEDS)
        if number > 0 and solver.adaptive:
            many = problem.domain.interior(CANDIDATES * solver.points, number)
            sizes = np.asarray(_magnitudes(self._posed, location, self._at({"equation": Rows(many, None)}, 1.0)))
            rows["equation"] = Rows(many[by_residual(sizes, solver.points, number)], None)
        if problem.observations is not None:
            self.weight = WEIGHTS[min(number, len(WEIGHTS) - 1)]
            self.noise = self._best_noise(location) if number > 0 else self.noise
        return self._at(rows, self.weight)

    def _best_noise(self, location: Array) -> np.ndarray:
        if not self.noise.size:
            return self.noise
        predictions = _predictions(self._posed, location, self._at(self._problem.design(1, 0), 1.0))
        best = best_noise(self._posed.noise_loss, self.noise, predictions)
        return best.noise if best.settled else self.noise

    def _at(self, rows: dict[str, Rows], weight: float) -> Setting:
        weights = {name: jnp.asarray(1.0 if name == "data" else weight / self.units[name]) for name in rows}
        return Setting(jax.tree.map(jnp.asarray, rows), jnp.asarray(self.noise), weights)


def _first_noise(problem: PDEProblem, posed: Collocated) -> np.ndarray:
    """Return the noise about predictions that are off by a tenth of the data's scatter, for the fit to begin at them.

    Were all scatter taken for noise, a constant would explain the data, and solve many an equation.
    """
    noise, seen = np.asarray(posed.full.vector)[posed.noisy], problem.observations
    if not noise.size or seen is None:
        return noise
    values = np.where(seen.observed, seen.values, 1.0)
    signs = np.where(np.arange(len(values)) % 2 == 0, 1.0, -1.0)[:, None]
    off = values + FIRST_NOISE * signs * np.nanstd(np.where(seen.observed, seen.values, np.nan), axis=0)
    positive = [field in problem.noise and problem.noise[field].positive for field in problem.fields]
    off = np.where(np.array(positive)[None] & (off <= 0), values, off)
    best = best_noise(posed.noise_loss, noise, jnp.asarray(off))
    return best.noise if best.settled else noise


@eqx.filter_jit
def _predictions(posed: Collocated, location: Array, setting: Setting) -> Array:
    return posed.predictions(location, setting)


def _by_last_layer(
    problem: PDEProblem, program: PyTree, solver: LastLayer, key: PRNGKeyArray | int, display: Progress
) -> FieldFit:
    _check_size(problem, solver.points, solver.width)
    noise = np.zeros(0)

    def pose(scales: np.ndarray, width: int) -> tuple[Collocated, Array]:
        posed = _featured(problem, program, width, scales, key)
        return posed, jnp.asarray(posed.full.vector)[posed.places]

    posed, found = solver.solve(
        len(problem.domain.coordinates),
        pose,
        lambda number, points: _setting(problem.design(points, HELD if number < 0 else 0), noise),
        lambda done, least: display.update("scales tried", done, done, f"residual held out {least:.3g}"),
    )
    assert isinstance(posed, Collocated)
    return _described(problem, posed, found)


def _featured(
    problem: PDEProblem, program: PyTree, width: int, scales: np.ndarray, key: PRNGKeyArray | int
) -> Collocated:
    """Pose the problem with random features for a network."""
    scale = jnp.asarray(scales[problem.coordinate_of_input])
    network = functools.partial(RandomFeatures, width=width, scale=scale)
    return Collocated(vectorize(problem.complete(program, key, network=network)), problem)


def _linear(problem: PDEProblem, program: PyTree, key: PRNGKeyArray | int) -> bool:
    """Whether residuals are linear in the field, and nothing else is unknown.

    Then ``r(a + b) - r(a) - r(b) + r(0)`` vanishes.
    """
    posed = _featured(problem, program, FEW, np.ones(len(problem.domain.coordinates)), key)
    start = jnp.asarray(posed.full.vector)[posed.places]
    if start.size > FEW * len(problem.fields) or posed.noisy.size:
        return False
    setting = _setting(problem.design(PROBES, 0), np.zeros(0))
    a, b = (jax.random.normal(k, start.shape) for k in jax.random.split(jax.random.key(0)))
    at = [np.asarray(_residuals(posed, c, setting)) for c in (a + b, a, b, start)]
    return bool(np.linalg.norm(at[0] - at[1] - at[2] + at[3]) <= LINEAR * np.linalg.norm(at[0]))


def _setting(rows: dict[str, Rows], noise: np.ndarray) -> Setting:
    weights = {name: jnp.ones(()) for name in rows}
    return Setting(jax.tree.map(jnp.asarray, rows), jnp.asarray(noise), weights)


@eqx.filter_jit
def _residuals(posed: Collocated, location: Array, setting: Setting) -> Array:
    return posed.residuals(location, setting)[0]


def _check_determined(problem: PDEProblem, full: Vectorized) -> None:
    unknown = [path for path in full.sites if not path.startswith("network.")]
    if unknown and problem.observations is None and not problem.soft:
        msg = f"{', '.join(unknown)} are unknown, and there are no data to tell them: any value fits. Give `data`, or "
        msg += "make them known by sd.frozen."
        raise InputError(msg)


@eqx.filter_jit
def _magnitudes(posed: Collocated, location: Array, setting: Setting) -> Array:
    return posed.magnitudes(location, setting)


def _check_size(problem: PDEProblem, points: int, parameters: int) -> None:
    rows = sum(len(rows.points) for rows in problem.design(points, 0).values())
    needed = 8.0 * parameters * (rows + 2 * parameters)
    if needed > HEAVY:
        msg = f"{parameters} parameters at {rows} points need {needed / 1e9:.0f} GB for dense Gauss-Newton. Take a "
        msg += "smaller network, or fewer points: `points` of the solver."
        raise InputError(msg)


def _described(problem: PDEProblem, posed: Collocated, found: Found, setting: Setting | None = None) -> FieldFit:
    noise = jnp.zeros(0) if setting is None else setting.noise
    vector = np.asarray(posed.joined(found.location, noise))
    natural = Natural(posed.full, lambda path: path.removeprefix("equation."))
    program, values, slopes = natural.at(vector)
    known = [i for i, name in enumerate(natural.names) if not name.startswith("network.")]
    covariance, told = np.full((len(known), len(known)), np.nan), _warnings(found, setting)
    names, slopes = tuple(natural.names[i] for i in known), np.asarray(slopes)[known]
    if setting is not None and known and problem.observations is not None:
        whole = _covariance(posed, found.location, setting, np.concatenate([slopes, np.eye(vector.size)]))
        covariance = whole[: len(known), : len(known)]
        told += _undetermined(names, slopes, np.sqrt(np.diag(whole)[len(known) :]))
    return FieldFit(
        problem=problem,
        program=program,
        names=names,
        values=np.asarray(values)[known],
        covariance=covariance,
        held_out=found.held_out,
        history=pd.DataFrame(found.history, columns=["steps", "seconds", "trained", "held_out"]),
        stats=found.stats,
        warnings=told,
    )


def _undetermined(names: tuple[str, ...], slopes: np.ndarray, errors: np.ndarray) -> list[str]:
    """Return a warning for each number whose error, in unconstrained units, is a factor of e² or more."""
    wide = [name for name, slope in zip(names, slopes, strict=True) if errors[np.argmax(np.abs(slope))] > WIDE]
    return [f"The data do not determine {name}: fix it, add data, or bound it." for name in wide]


def _covariance(posed: Collocated, location: Array, setting: Setting, slopes: np.ndarray) -> np.ndarray:
    """Return the covariance of natural numbers by Laplace's approximation, with `slopes` their derivatives.

    The network is integrated out, and the equation holds up to its weight; the noise's numbers are independent.
    """
    jacobian = np.asarray(_slopes(posed, location, setting)) * np.sqrt(len(setting.rows["data"].points))
    lengths = np.linalg.norm(jacobian, axis=0)
    lengths = np.where(lengths > 0, lengths, 1.0)
    _, values, right = np.linalg.svd(np.linalg.qr(jacobian / lengths, mode="r"))
    spread = (right / np.maximum(values, LOOSE * values.max())[:, None]).T / lengths[:, None]
    of_location = slopes[:, posed.places] @ spread
    curvature = np.asarray(_curvature(posed, location, setting)) if posed.noisy.size else np.zeros((0, 0))
    of_noise = slopes[:, posed.noisy]
    return of_location @ of_location.T + of_noise @ np.linalg.pinv(curvature) @ of_noise.T


@eqx.filter_jit
def _slopes(posed: Collocated, location: Array, setting: Setting) -> Array:
    return posed.linearised(location, setting)[0]


@eqx.filter_jit
def _curvature(posed: Collocated, location: Array, setting: Setting) -> Array:
    return jax.hessian(posed.noise_loss)(setting.noise, posed.predictions(location, setting))


def _warnings(found: Found, setting: Setting | None) -> list[str]:
    """Return what makes the answer doubtful."""
    told = []
    rounds, ended = len(found.history), found.history[-1]
    started = found.stats.get("unsolved", found.history[0][-1])
    ended = ended if setting is not None else np.array([*ended[:3], found.held_out["equation"]])
    if setting is not None and rounds <= len(WEIGHTS) and "data" in found.held_out:
        told.append(
            "The equation was still being tightened when the fit ended: estimates lean on the data too much, and their "
            "errors are too small. Give more time: sd.Collocation(budget=...)."
        )
    if "data" not in found.held_out and ended[-1] > POOR * started:
        told.append(
            f"The equation is not solved: residuals on points held out fell only from {started:.2g} to "
            f"{ended[-1]:.2g}. Give more time (sd.Collocation(budget=...)), a wider network, or more points."
        )
    if "data" not in found.held_out and ended[-1] > max(APART * ended[-2], BENT * started):
        told.append(
            f"Residuals are {ended[-1] / ended[-2]:.0f} times larger on points held out than on those trained on: the "
            "network bends between the points. Give more of them: sd.Collocation(points=...)."
        )
    return told

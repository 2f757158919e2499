"""`fit` of a partial differential equation."""

import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from sciad._errors import InputError, OptionError
from sciad._field import FieldFit
from sciad._field_account import described, least_met
from sciad._field_course import HELD, Course
from sciad._penalty import Penalty
from sciad._progress import Progress
from sciad._stored import load, save, stored_at
from sciad._vector import Vectorized, vectorize
from sciad.models.networks import RandomFeatures
from sciad.problems.collocated import Collocated, Setting
from sciad.problems.pde import PDEProblem, PDEProgram, Rows
from sciad.problems.pde_checks import check_smooth
from sciad.solvers.collocation import HEAVY, Collocation
from sciad.solvers.last_layer import LastLayer
from sciad.solvers.rounds import AbstractRounds, Outcome, one_after_the_other

FEW, PROBES, LINEAR = 3, 16, 1e-9  # features and points by which linearity is tested, and the departure from it
FINE = 1e-6  # of residuals without any solution: what a linear solve must reach to be taken


class Asked(NamedTuple):
    """What a caller asks for, the solver apart."""

    key: PRNGKeyArray | int
    priors: bool
    checkpoint: str | os.PathLike[str] | None


def fit_field(
    problem: PDEProblem,
    program: PyTree,
    *,
    solver: AbstractRounds | Sequence[AbstractRounds] | LastLayer | None = None,
    priors: bool = False,
    key: PRNGKeyArray | int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> FieldFit:
    """Fit a field, and the unknown numbers of its equation, conditions and noise; see `fit`."""
    rounds = _rounds(solver)
    if priors and problem.observations is None:
        msg = "fit(priors=True): priors count beside data, and there are none. Give `data`, or leave `priors` out."
        raise OptionError(msg)
    with Progress(quiet=not progress, brief=True) as display:
        if rounds:
            return _by_steps(problem, program, rounds, Asked(key, priors, checkpoint), display)
        assert isinstance(solver, LastLayer | None)
        linear = _linear(problem, program, key)
        if solver is not None and not linear:
            msg = "sd.LastLayer solves what is linear in the field, with no data and nothing else unknown, and this is "
            msg += "not. Take sd.Collocation()."
            raise InputError(msg)
        if linear:
            solved = _by_last_layer(problem, program, LastLayer() if solver is None else solver, key, display)
            if solver is not None or least_met(solved.held_out, solved.unsolved)[1] < FINE:
                return solved
        return _by_steps(problem, program, [Collocation()], Asked(key, priors, checkpoint), display)


def _rounds(solver: Any) -> list[AbstractRounds]:
    """Return the solvers that work in rounds, in their order; none for a linear solve, or where none is given."""
    if isinstance(solver, LastLayer | None):
        return []
    found = [*solver] if isinstance(solver, list | tuple) else [solver]
    wrong = [type(each).__name__ for each in found if not isinstance(each, AbstractRounds)]
    if wrong or not found:
        msg = f"fit(solver={wrong[0] if wrong else solver}): a PDEProblem is solved by sd.Collocation or sd.LastLayer, "
        msg += "by sd.Descent or sd.QuasiNewton, or by a list of these (sd.LastLayer apart), one after the other."
        raise OptionError(msg)
    return found


def _by_steps(
    problem: PDEProblem,
    program: PyTree,
    solvers: list[AbstractRounds],
    asked: Asked,
    display: Progress,
) -> FieldFit:
    key, file = asked.key, asked.checkpoint
    whole = problem.complete(program, key)
    if file is not None and stored_at(file).exists():
        display.say(f"going on from {file}")
        program = whole = load(file, whole)
    check_smooth(problem, whole)
    full = vectorize(whole)
    posed = Collocated(full, problem, _counting(full) if asked.priors else None)
    for solver in solvers:
        _check_size(problem, solver, len(posed.places))
    _check_determined(problem, posed.full)
    untrained = posed
    if isinstance(program, PDEProgram) and program.network is not None:
        bare = PDEProgram(program.equation, None, program.values, program.noise)
        untrained = Collocated(vectorize(problem.complete(bare, key)), problem)
    course = Course(problem, posed, solvers[0], untrained, None if file is None else lambda now: save(now, file))
    found = _one_after_the_other(posed, course, solvers, display)
    fit = described(problem, posed, found, course.unsolved, course.final(found.location))
    if file is not None:
        save(fit.program, file)
    return fit


def _one_after_the_other(
    posed: Collocated, course: Course, solvers: list[AbstractRounds], display: Progress
) -> Outcome:
    outcomes: list[Outcome] = []
    for solver in solvers:
        if outcomes:
            course.hand_over(solver, outcomes[-1].stats["rounds"])
        outcomes.append(solver.solve(
            posed, outcomes[-1].location if outcomes else posed.start, course.setting,
            lambda steps, seconds, trained, least, solver=solver: display.update(
                f"{type(solver).__name__}, seconds", int(min(seconds, solver.budget)), int(solver.budget),
                f"step {steps}, residual {trained:.3g}, held out {least:.3g}"),
            rising=lambda: course.rising,
            settled=course.settled,
        ))  # fmt: skip
        if "interrupted" in outcomes[-1].stats:
            break
    return one_after_the_other(solvers, outcomes)


def _counting(full: Vectorized) -> Penalty:
    if all(site.prior is None for site in full.sites.values()):
        msg = "fit(priors=True): nothing that is unknown has a prior. Give one: sd.param(1.0, prior=dist.Normal(...))."
        raise InputError(msg)
    return Penalty(full)


def _by_last_layer(
    problem: PDEProblem, program: PyTree, solver: LastLayer, key: PRNGKeyArray | int, display: Progress
) -> FieldFit:
    _check_size(problem, solver, solver.width)
    noise = np.zeros(0)

    def pose(scales: np.ndarray, width: int) -> tuple[Collocated, Array]:
        posed = _featured(problem, program, width, scales, key)
        return posed, posed.start

    posed, found = solver.solve(
        problem.directions,
        pose,
        lambda number, points: _setting(problem.design(points, HELD if number < 0 else 0), noise),
        lambda done, least: display.update("scales tried", done, done, f"residual held out {least:.3g}"),
    )
    assert isinstance(posed, Collocated)
    return described(problem, posed, found, found.stats.pop("unsolved"))


def _featured(
    problem: PDEProblem, program: PyTree, width: int, scales: np.ndarray, key: PRNGKeyArray | int
) -> Collocated:
    """Pose the problem with random features for a network."""
    scale = jnp.asarray(scales[problem.direction_of_input])
    network = functools.partial(RandomFeatures, width=width, scale=scale)
    return Collocated(vectorize(problem.complete(program, key, network=network)), problem)


def _linear(problem: PDEProblem, program: PyTree, key: PRNGKeyArray | int) -> bool:
    """Whether residuals are linear in the field, and nothing else is unknown: ``r(a + b) - r(a) - r(b) + r(0) = 0``.

    Beside data no single solve will do, however well their noise is known: the equation's weight must rise first.
    """
    if problem.observations is not None:
        return False
    posed = _featured(problem, program, FEW, np.ones(problem.directions), key)
    start = posed.start
    if start.size > FEW * len(problem.fields):
        return False
    setting = _setting(problem.design(PROBES, 0), np.zeros(0))
    a, b = (jax.random.normal(k, start.shape) for k in jax.random.split(jax.random.key(0)))
    residuals = eqx.filter_jit(posed.residuals)
    at = [np.asarray(residuals(c, setting)[0]) for c in (a + b, a, b, start)]
    return bool(np.linalg.norm(at[0] - at[1] - at[2] + at[3]) <= LINEAR * np.linalg.norm(at[0]))


def _setting(rows: dict[str, Rows], noise: np.ndarray) -> Setting:
    weights = {name: jnp.ones(()) for name in rows}
    return Setting(jax.tree.map(jnp.asarray, rows), jnp.asarray(noise), weights)


def _check_determined(problem: PDEProblem, full: Vectorized) -> None:
    unknown = [path for path in full.sites if not path.startswith("network.")]
    if unknown and problem.observations is None and not problem.soft:
        msg = f"{', '.join(unknown)} are unknown, and there are no data to tell them: any value fits. Give `data`, or "
        msg += "make them known by sd.frozen."
        raise InputError(msg)


def _check_size(problem: PDEProblem, solver: AbstractRounds | LastLayer, parameters: int) -> None:
    rows = sum(len(rows.points) for rows in problem.design(solver.points, 0).values())
    needed = solver.memory(rows, parameters)
    if needed > HEAVY:
        msg = f"{parameters} parameters at {rows} points need {needed / 1e9:.0f} GB of matrices for "
        msg += f"sd.{type(solver).__name__}. Take a smaller network, fewer `points`, sd.Collocation() with its own "
        msg += "engine, which forms no matrix that is too large, or sd.Descent()."
        raise InputError(msg)

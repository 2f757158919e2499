"""What a fitted field says of itself: unknown numbers and their errors, and what makes the answer doubtful."""

import jax.numpy as jnp
import numpy as np
import pandas as pd

from sciad._field import FieldFit
from sciad._field_errors import Linearised, named, spread_of, unsettled
from sciad._regression import Natural
from sciad.problems.collocated import Collocated, Setting
from sciad.problems.pde import PDEProblem
from sciad.solvers.rounds import Outcome

WIDE = 2.0  # error of a number in unconstrained units (of a logarithm, as a rule) that leaves it undetermined
POOR, BENT = 1e-3, 1e-5  # residuals on points held out by those at the start, that are told; and if they are also
APART = 10.0  # times larger than those trained on
MISSED = 0.1  # a residual beside data, by that at the start, that is told
TIGHTENING = (
    "The equation was still being tightened when the fit ended: estimates lean on the data too much, and their errors "
    "are too small. Give more time: sd.Collocation(budget=...)."
)
MOVING = 0.5  # standard errors that an estimate is away from the linear problem's solution, from which it is told
RESTLESS = "Estimates would still move if the fit went on"
LONGER = "Give more time (sd.Collocation(budget=...)), or more points."
ERRORLESS = "The network has too many weights for standard errors, which need a dense Jacobian: take a smaller one."
UNMET = "The equation or a condition is not met beside the data"
CONTRADICTION = (
    "Either the two contradict each other, so that the equation, a condition or a unit is wrong, or the fit needs more "
    "time: sd.Collocation(budget=...)."
)
MORE = (
    "Give more time (sd.Collocation(budget=...)), a wider network, or more points; if the equation carries things far "
    "in time, let the span of time grow: sd.Collocation(growing=10)."
)


def described(
    problem: PDEProblem,
    posed: Collocated,
    found: Outcome,
    unsolved: dict[str, float],
    final: tuple[Setting, Linearised | None] | None = None,
) -> FieldFit:
    """Return what was found, with the covariance of unknown numbers, and what a reader must know.

    `unsolved` are the residuals of each group without any solution; `final` is the setting that errors are taken by, if
    there are rounds, and what it is like about the solution, beside data.
    """
    setting, about = (None, None) if final is None else final
    noise = jnp.zeros(0) if setting is None else setting.noise
    vector = np.asarray(posed.joined(found.location, noise))
    natural = Natural(posed.full, lambda path: path.removeprefix("equation."))
    known = named(posed)
    program, values, slopes = natural.at(vector, known)
    away = {} if about is None else {n: share for n, share in unsettled(posed, about).items() if share > MOVING}
    covariance, told, spread = np.full((len(known), len(known)), np.nan), _warnings(found, unsolved, away), None
    if problem.observations is not None and setting is not None and about is None:
        told.append(ERRORLESS)
    names = tuple(natural.names[i] for i in known)
    if setting is not None and about is not None:
        spread = spread_of(posed, about, found.location, setting)
        covariance = slopes @ spread.root @ spread.root.T @ slopes.T
        told += _undetermined(names, slopes, spread.errors_of(np.eye(vector.size)))
    return FieldFit(
        problem=problem,
        program=program,
        names=names,
        values=np.asarray(values)[known],
        covariance=covariance,
        spread=spread,
        held_out=found.held_out,
        unsolved=unsolved,
        history=pd.DataFrame(found.history, columns=["steps", "seconds", "trained", "held_out"]),
        stats=found.stats | {"solved": not away and _solved(found, unsolved)},
        warnings=told,
    )


def least_met(held_out: dict[str, float], unsolved: dict[str, float]) -> tuple[str, float]:
    """Return the group, data apart, whose residual fell least from that without a solution, and the share left of it.

    Groups that are met without any solution tell nothing.
    """
    shares = {name: held_out[name] / size for name, size in unsolved.items() if name != "data" and size > 0}
    worst = max(shares, key=lambda name: shares[name], default="equation")
    return worst, shares.get(worst, 0.0)


def _solved(found: Outcome, unsolved: dict[str, float]) -> bool:
    beside_data = "data" in found.held_out
    share = least_met(found.held_out, unsolved)[1]
    return share <= MISSED and not found.stats.get("rising", False) if beside_data else share <= POOR


def _undetermined(names: tuple[str, ...], slopes: np.ndarray, errors: np.ndarray) -> list[str]:
    """Return a warning for each number whose error, in unconstrained units, is a factor of e² or more."""
    wide = [name for name, slope in zip(names, slopes, strict=True) if errors[np.argmax(np.abs(slope))] > WIDE]
    return [f"The data do not determine {name}: fix it, add data, or bound it." for name in wide]


def _warnings(found: Outcome, unsolved: dict[str, float], away: dict[str, float]) -> list[str]:
    """Return what makes the answer doubtful; some estimates may be `away` from rest, by so many standard errors."""
    stats = found.stats
    worst, share = least_met(found.held_out, unsolved)
    fell = f"{worst}: residuals on points held out fell only from {unsolved[worst]:.2g} to {found.held_out[worst]:.2g}"
    if "data" in found.held_out:
        moving = ", ".join(f"{name} by {share:.1f} of its standard errors" for name, share in away.items())
        told = [TIGHTENING] if stats.get("rising", False) else [f"{RESTLESS}: {moving}. {LONGER}"] if away else []
        return told + [f"{UNMET}, {fell}. {CONTRADICTION}"] * (share > MISSED)
    told = [f"The problem is not solved, {fell}. {MORE}"] * (share > POOR)
    apart = stats["held_out"] / stats["trained"] if stats["trained"] > 0 else 0.0
    if share > BENT and apart > APART:
        told.append(
            f"Residuals are {apart:.0f} times larger on points held out than on those trained on: the network bends "
            "between the points. Give more of them: sd.Collocation(points=...)."
        )
    return told

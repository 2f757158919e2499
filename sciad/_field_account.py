"""What a fitted field says of itself: unknown numbers and their errors, and what makes the answer doubtful."""

import jax.numpy as jnp
import numpy as np
import pandas as pd

from sciad._field import FieldFit
from sciad._field_errors import spread_of
from sciad._regression import Natural
from sciad.problems.collocated import Collocated, Setting
from sciad.problems.pde import PDEProblem
from sciad.solvers.rounds import Outcome

WIDE = 2.0  # error of a number in unconstrained units (of a logarithm, as a rule) that leaves it undetermined
MANY = 20  # numbers of one array in the equation, from which it is a function, and not told number by number
POOR, BENT = 1e-3, 1e-5  # residuals on points held out by those at the start, that are told; and if they are also
APART = 10.0  # times larger than those trained on
MISSED = 0.1  # a residual beside data, by that at the start, that is told
TIGHTENING = (
    "The equation was still being tightened when the fit ended: estimates lean on the data too much, and their errors "
    "are too small. Give more time: sd.Collocation(budget=...)."
)
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
    setting: Setting | None = None,
) -> FieldFit:
    """Return what was found, with the covariance of unknown numbers, and what a reader must know.

    `unsolved` are the residuals of each group without any solution; `setting` is that of the last round, if there are
    rounds.
    """
    noise = jnp.zeros(0) if setting is None else setting.noise
    vector = np.asarray(posed.joined(found.location, noise))
    natural = Natural(posed.full, lambda path: path.removeprefix("equation."))
    program, values, slopes = natural.at(vector)
    told_apart = {path for path, site in posed.full.sites.items() if np.prod(site.shape) <= MANY}
    known = [i for i, path in enumerate(_paths(posed)) if not path.startswith("network.") and path in told_apart]
    covariance, told, spread = np.full((len(known), len(known)), np.nan), _warnings(found, unsolved), None
    names, slopes = tuple(natural.names[i] for i in known), np.asarray(slopes)[known]
    if setting is not None and problem.observations is not None:
        spread = spread_of(posed, found.location, setting)
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
        stats=found.stats,
        warnings=told,
    )


def _paths(posed: Collocated) -> list[str]:
    """Return the path of the leaf that each natural number belongs to."""
    return [path for path, site in posed.full.sites.items() for _ in range(int(np.prod(site.shape)))]


def least_met(held_out: dict[str, float], unsolved: dict[str, float]) -> tuple[str, float]:
    """Return the group, data apart, whose residual fell least from that without a solution, and the share left of it.

    Groups that are met without any solution tell nothing.
    """
    shares = {name: held_out[name] / size for name, size in unsolved.items() if name != "data" and size > 0}
    worst = max(shares, key=lambda name: shares[name], default="equation")
    return worst, shares.get(worst, 0.0)


def _undetermined(names: tuple[str, ...], slopes: np.ndarray, errors: np.ndarray) -> list[str]:
    """Return a warning for each number whose error, in unconstrained units, is a factor of e² or more."""
    wide = [name for name, slope in zip(names, slopes, strict=True) if errors[np.argmax(np.abs(slope))] > WIDE]
    return [f"The data do not determine {name}: fix it, add data, or bound it." for name in wide]


def _warnings(found: Outcome, unsolved: dict[str, float]) -> list[str]:
    """Return what makes the answer doubtful."""
    stats = found.stats
    worst, share = least_met(found.held_out, unsolved)
    fell = f"{worst}: residuals on points held out fell only from {unsolved[worst]:.2g} to {found.held_out[worst]:.2g}"
    if "data" in found.held_out:
        return [TIGHTENING] * stats.get("rising", False) + [f"{UNMET}, {fell}. {CONTRADICTION}"] * (share > MISSED)
    told = [f"The problem is not solved, {fell}. {MORE}"] * (share > POOR)
    apart = stats["held_out"] / stats["trained"] if stats["trained"] > 0 else 0.0
    if share > BENT and apart > APART:
        told.append(
            f"Residuals are {apart:.0f} times larger on points held out than on those trained on: the network bends "
            "between the points. Give more of them: sd.Collocation(points=...)."
        )
    return told

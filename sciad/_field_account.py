"""What a fitted field says of itself: unknown numbers and their errors, and what makes the answer doubtful."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array

from sciad._field import FieldFit
from sciad._regression import Natural
from sciad.problems.collocated import Collocated, Setting
from sciad.problems.pde import PDEProblem
from sciad.solvers.collocation import Outcome

WIDE = 2.0  # error of a number in unconstrained units (of a logarithm, as a rule) that leaves it undetermined
LOOSE = 1e-12  # of the largest singular value: what the data say nothing of is as wide as that
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
    known = [i for i, name in enumerate(natural.names) if not name.startswith("network.")]
    covariance, told = np.full((len(known), len(known)), np.nan), _warnings(found, unsolved)
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
        unsolved=unsolved,
        history=pd.DataFrame(found.history, columns=["steps", "seconds", "trained", "held_out"]),
        stats=found.stats,
        warnings=told,
    )


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


def _covariance(posed: Collocated, location: Array, setting: Setting, slopes: np.ndarray) -> np.ndarray:
    """Return the covariance of natural numbers by Laplace's approximation, with `slopes` their derivatives.

    The network is integrated out, and the equation holds up to its weight; the noise's numbers are independent.
    """
    slopes_of_all, _ = eqx.filter_jit(posed.linearised)(location, setting)
    jacobian = np.asarray(slopes_of_all) * np.sqrt(len(setting.rows["data"].points))
    lengths = np.linalg.norm(jacobian, axis=0)
    lengths = np.where(lengths > 0, lengths, 1.0)
    _, values, right = np.linalg.svd(np.linalg.qr(jacobian / lengths, mode="r"))
    values = np.pad(values, (0, len(right) - len(values)))  # fewer rows than columns say nothing of some directions
    spread = (right / np.maximum(values, LOOSE * values.max())[:, None]).T / lengths[:, None]
    of_location = slopes[:, posed.places] @ spread
    curvature = np.zeros((0, 0))
    if posed.noisy.size:
        curvature = np.asarray(eqx.filter_jit(posed.noise_curvature)(location, setting))
    of_noise = slopes[:, posed.noisy]
    return of_location @ of_location.T + of_noise @ np.linalg.pinv(curvature) @ of_noise.T


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

"""What a fitted field says of itself: unknown numbers and their errors, and what makes the answer doubtful."""

import equinox as eqx
import jax
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
MISSED = 0.1  # the equation's residual beside data, by that at the start, that is told


def described(problem: PDEProblem, posed: Collocated, found: Outcome, setting: Setting | None = None) -> FieldFit:
    """Return what was found, with the covariance of unknown numbers, and what a reader must know."""
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
    values = np.pad(values, (0, len(right) - len(values)))  # fewer rows than columns say nothing of some directions
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


def _warnings(found: Outcome, setting: Setting | None) -> list[str]:
    """Return what makes the answer doubtful."""
    told = []
    stats, ended = found.stats, found.history[-1]
    started = stats["unsolved"] if setting is None else found.history[0][-1]
    ended = ended if setting is not None else np.array([*ended[:3], found.held_out["equation"]])
    if setting is not None and stats["rounds"] <= stats["ramp"] and "data" in found.held_out:
        told.append(
            "The equation was still being tightened when the fit ended: estimates lean on the data too much, and their "
            "errors are too small. Give more time: sd.Collocation(budget=...)."
        )
    if "data" in found.held_out and found.held_out["equation"] > MISSED * stats["unsolved"]:
        told.append(
            f"The equation is not met beside the data: its residual fell only from {stats['unsolved']:.2g} to "
            f"{found.held_out['equation']:.2g}. Either the two contradict each other, so that the equation, a condition"
            " or a unit is wrong, or the fit needs more time: sd.Collocation(budget=...)."
        )
    if "data" not in found.held_out and ended[-1] > POOR * started:
        told.append(
            f"The equation is not solved: residuals on points held out fell only from {started:.2g} to "
            f"{ended[-1]:.2g}. Give more time (sd.Collocation(budget=...)), a wider network, or more points; if the "
            "equation carries things far in time, let the span of time grow: sd.Collocation(growing=10)."
        )
    if "data" not in found.held_out and ended[-1] > max(APART * ended[-2], BENT * started):
        told.append(
            f"Residuals are {ended[-1] / ended[-2]:.0f} times larger on points held out than on those trained on: the "
            "network bends between the points. Give more of them: sd.Collocation(points=...)."
        )
    return told

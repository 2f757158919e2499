"""What a fit says of its data: of another size than predicted, never changing, at a reset, or far off."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from sciad._roles import unwrap
from sciad.models.probability import LogNormal, Normal, StudentT
from sciad.problems.separation import Separation
from sciad.solvers.least_squares import Estimate

UNITS = "Are the data, the initial values and the parameters in the same units?"
OTHER_UNITS, FAR_APART = 100.0, 1000.0  # ratios from which units are in doubt: if the fit is bad; in any case
CONSTANT = 5  # data of one size that are no chance
ALL_NOISE = {LogNormal: 1.5, Normal: 0.9}  # an estimated noise, of a logarithm or of the data's size, that explains all
SUSPECT = 1e-3  # p-value of a test of the residuals below which the reader is told
OUTLYING, FEW = 4.0, 3  # scores of observations that are named, and how many
AT_RESET = 1e-4  # of the whole time: an observation so near to a reset is on both sides of it


def of_data(parts: Separation, found: Estimate, diagnostics: dict[str, Any]) -> Iterator[str]:
    """Say which data are all alike, of another size than predictions or initial values, or taken for noise."""
    seen = parts.problem.observations
    for i, field in enumerate(parts.problem.fields):
        data = seen.values[..., i][seen.observed[..., i]]
        if data.size >= CONSTANT and np.ptp(data) == 0 and not parts.problem.inputs:
            scatter = ", and no scatter from which its errors could" if parts.noise.size else ""
            yield (
                f"All {data.size} observations of {field} are {data[0]:g}: they hold no change from which an equation "
                f"could be learnt{scatter}."
            )
        if np.isfinite(found.loss) and np.any(data):
            yield from _of_size(parts, found, i, data, diagnostics)


def _of_size(
    parts: Separation, found: Estimate, i: int, data: np.ndarray, diagnostics: dict[str, Any]
) -> Iterator[str]:
    field = parts.problem.fields[i]
    lost, independent = _all_noise(parts, found, field, data), diagnostics["residual_tests"][field]["p_independent"]
    start = _against_start(parts, i)
    if start is not None and max(start, 1 / start) > (OTHER_UNITS if lost else FAR_APART):
        yield f"The data of {field} begin at about {start:.1g} times the initial value that is given. {UNITS}"
        return
    _, prediction = found.point.at.predictions
    predicted = np.abs(np.asarray(prediction.mean)[..., i][parts.problem.observations.observed[..., i]])
    ratio = np.sqrt(np.mean(data**2) / np.mean(predicted**2)) if np.any(predicted) else 1.0
    each = np.median(np.abs(data)) / max(np.median(predicted), np.finfo(float).tiny)
    limit = OTHER_UNITS if independent < SUSPECT else FAR_APART
    if ratio > 0 and min(abs(np.log(ratio)) / np.log(limit), abs(np.log(max(each, 1e-300)))) > 1:
        yield f"The data of {field} are about {ratio:.1g} times what the equation predicts. {UNITS}"
    elif lost:
        yield f"The noise of {field} is estimated as large as the data: the equation explains nothing of them. {UNITS}"


def _all_noise(parts: Separation, found: Estimate, field: str, data: np.ndarray) -> bool:
    """Whether the noise of a field was estimated, and came out as large as the data themselves."""
    names = [name for name in parts.full.names if name.startswith(f"noise.{field}.")]
    program = parts.full.program(parts.joined(found.point.location, jnp.asarray(found.noise)))
    noise = unwrap(program).noise[field]
    if not names or type(noise) not in ALL_NOISE:
        return False
    size = 1.0 if isinstance(noise, LogNormal) else float(np.sqrt(np.mean(data**2)))
    scale = noise.sigma if isinstance(noise, LogNormal) else noise.scale
    return bool(np.median(np.asarray(scale)) > ALL_NOISE[type(noise)] * size)


def _against_start(parts: Separation, i: int) -> float | None:
    """Return the ratio of the data at the initial time to the known initial value behind them; None without both."""
    problem, seen = parts.problem, parts.problem.observations
    state = next((s for s, column in problem.columns.items() if column == i), None)
    known = problem.steady is None and state is not None and f"initial.{state}" not in parts.full.sites
    if not known or seen.times[0] > problem.t0 or not seen.observed[:, 0, i].any():
        return None
    initial = np.abs(np.asarray(unwrap(parts.full.program(parts.full.vector)).initial[state]))
    first = np.abs(seen.values[:, 0, i][seen.observed[:, 0, i]])
    if not (np.median(initial) > 0 and np.median(first) > 0):
        return None
    return float(np.median(first) / np.median(initial))


def of_resets(parts: Separation, found: Estimate) -> Iterator[str]:
    """Say which observations lie at a reset, where the likelihood jumps; and where no reset happens."""
    problem, seen = parts.problem, parts.problem.observations
    if not problem.resets or not np.isfinite(found.loss):
        return
    program = parts.full.program(parts.joined(found.point.location, jnp.asarray(found.noise)))
    resets = np.asarray(problem.reset_times(program))
    if not np.isfinite(resets).any():
        yield "No reset happens in this fit. Look at the condition, its sign (`falling`), and the parameters' values."
    span = seen.times[-1] - problem.t0
    for experiment, times in enumerate(resets):
        near = np.abs(seen.times[:, None] - times[None]) < AT_RESET * span
        for k in np.flatnonzero(near.any(axis=1) & seen.observed[experiment].any(axis=1)):
            yield (
                f"The observation at {seen.time} {seen.times[k]:g}{_where(parts, experiment)} lies at a reset, before "
                "or after which the prediction is another: the likelihood jumps there, and the fit may have stopped "
                "at the jump. Fit once without that observation, or with sd.StudentT(), and go on from there."
            )


def _where(parts: Separation, experiment: int) -> str:
    axis = parts.problem.experiments
    return f" of {axis.labels[experiment]}" if len(axis.labels) > 1 else ""


def outliers(parts: Separation, scores: np.ndarray, field: str) -> str:
    """Return the observations that are farthest off, in words; nothing where none is far."""
    of_field = np.nan_to_num(scores[..., parts.problem.fields.index(field)])
    order = np.argsort(-np.abs(of_field), axis=None)[:FEW]
    seen, told = parts.problem.observations, []
    for experiment, k in zip(*np.unravel_index(order, of_field.shape), strict=True):
        if abs(of_field[experiment, k]) > OUTLYING:
            value = seen.values[experiment, k, parts.problem.fields.index(field)]
            told.append(f"{value:.4g} at {seen.time} {seen.times[k]:g}{_where(parts, int(experiment))}")
    return f" ({'; '.join(told)})" if told else ""


def other_noise(parts: Separation, field: str) -> str:
    """Return the advice to take a law of heavier tails, unless it is taken already."""
    noise = parts.full.program(parts.full.vector).noise[field]
    return "" if isinstance(noise, StudentT) else ", or take another noise model, such as sd.StudentT()"

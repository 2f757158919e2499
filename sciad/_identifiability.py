"""Which combinations of parameters the data determine, how well, and where they are seen."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from sciad._errors import InputError
from sciad._regression import LOOSE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sciad._fitted import Fit

Status: TypeAlias = Literal["known", "weak", "structural"]
NEAR_ZERO = 10.0  # standard errors: a number nearer to zero than that is measured in these, not in its own size
WEAK = float(np.log(2.0))  # standard error of a logarithm beyond which a combination is hardly known
MINOR = 0.1  # share of the greatest part of a combination, below which a part is not named
MOST = 4  # parts that are named


class _Coordinate(NamedTuple):
    """A parameter as the analysis takes it: a change of one is a change by `size`."""

    name: str
    size: float
    relative: bool  # a change of one is a factor of e
    positive: bool


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Identifiability:
    """What the data of a fit say of combinations of its parameters; made by `Fit.identifiability`.

    Attributes
    ----------
    table
        A row for each direction, from the best known to the least: the ``combination`` in words; ``known_to``, its
        standard error in words; ``standard_error``, of the combination's logarithm if it is a product or a quotient, of
        itself if a sum; ``singular_value``; the ``status``; and where it is ``seen`` best, with that observation's
        share. The status is ``"known"``; ``"weak"``, to no better than a factor of 2 by one standard error; or
        ``"structural"``, where the singular value is zero to the precision of the solve, at this point.
    directions
        The directions, a row each, with a column for each parameter, in relative changes.
    information
        By field, the share of each observation in what is known of each ``direction``; NaN for structural ones.
    advice
        In plain words; empty if every combination is known.
    """

    table: pd.DataFrame
    directions: pd.DataFrame
    information: xr.Dataset
    advice: list[str]

    def plot(self) -> "Axes":
        """Draw the directions as a heat map over parameters, each with what it is known to; returns the axes."""
        import matplotlib.pyplot as plt

        parts = self.directions.to_numpy()
        rows, columns = parts.shape
        right_words = [
            f"{known}   σ = {value:.2g}"
            for known, value in zip(self.table["known_to"], self.table["singular_value"], strict=True)
        ]
        longest = max(map(len, self.table["combination"])) + max(map(len, right_words))
        size = 0.085 * longest + 0.55 * columns + 0.4, 0.36 * rows + 1.3
        _, axes = plt.subplots(figsize=size, layout="constrained")
        axes.imshow(parts, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        for (i, j), part in np.ndenumerate(parts):
            if abs(part) >= MINOR and columns <= 12:
                ink = "k" if abs(part) < 0.7 else "w"
                axes.text(j, i, f"{part:.2f}", ha="center", va="center", fontsize=8, color=ink)
        axes.set_xticks(range(columns), self.directions.columns, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(rows), self.table["combination"])
        axes.tick_params(length=0)
        right = axes.secondary_yaxis("right")
        right.set_yticks(range(rows), right_words)
        right.tick_params(length=0)
        axes.set_title("combinations, best known first", fontsize="medium")
        return axes

    def __str__(self) -> str:
        words = pd.DataFrame(self.table, columns=["combination", "known_to", "singular_value", "status", "seen"])
        return "\n".join([words.to_string(float_format="{:.2g}".format), *self.advice])

    def __repr__(self) -> str:
        counts = self.table["status"].value_counts().to_dict()
        return f"<Identifiability: {len(self.table)} combinations, {', '.join(f'{n} {s}' for s, n in counts.items())}>"


def identify(fit: "Fit") -> Identifiability:
    """Return what `Fit.identifiability` does."""
    if not np.isfinite(fit.loss):
        msg = f"There is nothing to identify: {fit.message}"
        raise InputError(msg)
    jacobian, coordinates = _relative(fit)
    if not coordinates:
        msg = "There is nothing to identify: only parameters of the noise were fitted."
        raise InputError(msg)
    n, p = jacobian.shape
    free = fit.diagnostics["degrees_of_freedom"]
    spread = 1.0 if not fit._noise_estimated else np.sqrt(n / free) if free > 0 else np.nan
    directions, values, free = _directions(jacobian, _level(fit))
    rows = []
    shares = np.full((p, *fit.problem.observations.observed.shape), np.nan)
    for k, (direction, value) in enumerate(zip(directions, values, strict=True)):
        structural = k >= p - free
        error = np.inf if structural else spread / value
        text, scale, product = _named(direction, coordinates, moves=structural)
        status = "structural" if structural else "weak" if not error / np.abs(direction).max() <= WEAK else "known"
        if not structural:
            shares[k][fit.problem.observations.observed] = (jacobian @ direction / value) ** 2
        rows.append(
            {
                "combination": text,
                "known_to": _known_to(error * scale, product=product),
                "standard_error": error * scale,
                "singular_value": value,
                "status": status,
                "seen": "" if structural else _seen(fit, shares[k]),
            }
        )
    table = pd.DataFrame(rows, index=range(1, p + 1))
    found = pd.DataFrame(directions, index=table.index, columns=[c.name for c in coordinates])
    information = fit.problem.dataset(np.nan_to_num(shares) if not free else shares, lead=("direction",))
    advice = list(_advice(table, directions, coordinates))
    return Identifiability(table, found, information.assign_coords(direction=table.index), advice)


def _relative(fit: "Fit") -> tuple[Float[np.ndarray, "n p"], list[_Coordinate]]:
    """Return the weighted Jacobian in relative changes of the equation's parameters, whatever their units."""
    full, natural = fit._parts.full, fit._natural
    _, values, slopes = natural.at(fit._vector)
    name_of = {entry: name for name, entry in natural.entries.items()}
    site_of = {e: full.sites[path] for path, place in full.places.items() for e in range(place.start, place.stop)}
    columns, coordinates = [], []
    where = (e for e, name in enumerate(full.names) if not name.startswith("noise."))
    for e, column in zip(where, fit._weighted.T, strict=True):
        if e in fit._resting:  # on an end of its interval, where the data hold it
            continue
        if e not in name_of:  # one of a constrained array: as it is in unconstrained space
            columns.append(column)
            coordinates.append(_Coordinate(fit.problem.label(full.names[e]), 1.0, relative=False, positive=False))
            continue
        place = natural.names.index(name_of[e])
        slope, value = slopes[place, e], values[place]
        lower = getattr(site_of[e].bijection.codomain, "lower_bound", -np.inf)
        positive = bool(np.all(np.asarray(lower) >= 0) and value > 0)
        natural_column = column / slope if slope else column
        length = float(np.linalg.norm(natural_column))
        near = NEAR_ZERO / length if length else 1.0 if not value else 0.0
        relative = positive or abs(value) >= near
        size = float(abs(value) if relative else near)
        columns.append(natural_column * size)
        coordinates.append(_Coordinate(name_of[e], size, relative, positive))
    return np.stack(columns, axis=1) if columns else np.zeros((len(fit._weighted), 0)), coordinates


def _level(fit: "Fit") -> float:
    """Return the relative size of a singular value that is error of the solves."""
    rtol = getattr(fit.problem.solver.controller, "rtol", LOOSE)
    return float(np.max(np.maximum(np.asarray(rtol, float), LOOSE)))


def _directions(
    jacobian: Float[np.ndarray, "n p"], level: float
) -> tuple[Float[np.ndarray, "p p"], Float[np.ndarray, " p"], int]:
    """Return unit directions, singular values, and how many, the last, change nothing to the precision of the solve.

    That is looked at with columns of unit length, since the error of each column is relative to its length.
    """
    lengths = np.linalg.norm(jacobian, axis=0)
    lengths = np.where(lengths > 0, lengths, 1.0)
    _, values, right = np.linalg.svd(np.linalg.qr(jacobian / lengths, mode="r"), full_matrices=True)
    values = np.concatenate([values, np.zeros(len(right) - values.size)])
    lost = right[values <= level * values.max(initial=0.0)] / lengths
    basis, _ = np.linalg.qr(lost.T, mode="complete")
    rest = basis[:, len(lost) :]
    _, values, right = np.linalg.svd(jacobian @ rest, full_matrices=False)
    lost = _sparse(lost)
    nothing = np.linalg.norm(jacobian @ lost.T, axis=0)
    found = np.concatenate([right @ rest.T, lost])
    found *= np.array([np.sign(direction[_parts(direction)[0]]) for direction in found])[:, None]
    return found, np.concatenate([values, nothing]), len(lost)


def _sparse(basis: Float[np.ndarray, "k p"]) -> Float[np.ndarray, "k p"]:
    """Return a basis of the same space with few parameters in each row, by elimination with the greatest pivots."""
    basis = basis.copy()
    for i in range(len(basis)):
        row, column = np.unravel_index(int(np.argmax(np.abs(basis[i:]))), basis[i:].shape)
        basis[[i, i + row]] = basis[[i + row, i]]
        basis[i] /= basis[i, column]
        others = np.arange(len(basis)) != i
        basis[others] -= np.outer(basis[others, column], basis[i])
    return basis / np.linalg.norm(basis, axis=1, keepdims=True)


def _parts(direction: Float[np.ndarray, " p"]) -> list[int]:
    """Return which parameters take part in a direction, the greatest first, equals in their order."""
    size = np.abs(direction)
    order = np.argsort(-np.round(size / size.max(), 1), kind="stable")
    return [int(i) for i in order if size[i] > MINOR * size.max()]


def _named(
    direction: Float[np.ndarray, " p"], coordinates: Sequence[_Coordinate], *, moves: bool = False
) -> tuple[str, float, bool]:
    """Return a combination in words; the factor from the direction's standard error to its own; whether a product.

    Products and quotients where the parts have a size of their own; sums where all are numbers that may be negative,
    or one is near zero. With `moves`, a sum is named by how its parts move, not by how they are weighed.
    """
    parts = _parts(direction)
    first = parts[0]
    chosen = [coordinates[i] for i in parts]
    product = all(c.relative for c in chosen) and any(c.positive for c in chosen)
    if product:
        text = _product([(c.name, direction[i] / direction[first]) for i, c in zip(parts, chosen, strict=True)])
        return text, 1.0 / abs(direction[first]), True
    sizes = np.array([1.0 if c.positive else c.size for c in chosen])
    weights = direction[parts] * sizes if moves else direction[parts] / sizes
    names = [f"log {c.name}" if c.positive else c.name for c in chosen]
    weights /= weights[0]
    order = sorted(range(len(parts)), key=lambda k: (-round(abs(weights[k]), 1), parts[k]))
    text = _sum([(names[k], float(weights[k] * np.sign(weights[order[0]]))) for k in order])
    return text, sizes[0] / abs(direction[first]), coordinates[first].positive and len(parts) == 1


def _product(parts: Sequence[tuple[str, float]]) -> str:
    def power(name: str, exponent: float) -> str:
        size = abs(exponent)
        return name if abs(size - 1) < MINOR else f"{name}^{size:.1f}"

    above = [power(name, exponent) for name, exponent in parts[:MOST] if exponent > 0]
    below = [power(name, exponent) for name, exponent in parts[:MOST] if exponent < 0]
    text = " · ".join(above) + "".join(f" / {name}" for name in below)
    return text + (" · …" if len(parts) > MOST else "")


def _sum(parts: Sequence[tuple[str, float]]) -> str:
    def term(name: str, weight: float) -> str:
        size = abs(weight)
        return name if abs(size - 1) < MINOR else f"{size:.2g} {name}"

    first, *rest = parts[:MOST]
    text = term(*first) + "".join(f" {'+' if weight > 0 else '-'} {term(name, weight)}" for name, weight in rest)
    return text + (" + …" if len(parts) > MOST else "")


def _known_to(error: float, *, product: bool) -> str:
    if not np.isfinite(error):
        return "not at all" if np.isinf(error) else "unknown"
    if not product:
        return f"± {error:.2g}"
    if error < 0.1:
        return f"± {100 * error:.2g} %"
    return f"a factor of {np.exp(error):.2f}" if error < 1 else f"a factor of {np.exp(min(error, 700.0)):.2g}"


def _seen(fit: "Fit", share: Float[np.ndarray, "e t f"]) -> str:
    """Name the observation of the greatest share."""
    seen, (e, t, f) = fit.problem.observations, np.unravel_index(int(np.nanargmax(share)), share.shape)
    text = f"{fit.problem.fields[f]} at {seen.time}={seen.times[t]:g}"
    if seen.experiment:
        labels = fit.problem.data[seen.experiment].to_numpy()
        text += f", {seen.experiment} {labels[e]}"
    return f"{text} ({share[e, t, f]:.0%})"


def _advice(
    table: pd.DataFrame, directions: Float[np.ndarray, "p p"], coordinates: Sequence[_Coordinate]
) -> Iterator[str]:
    for row, direction in zip(table.to_dict(orient="records"), directions, strict=True):
        parts = _parts(direction)
        names = [coordinates[i].name for i in parts]
        if row["status"] == "structural":
            yield _structural(direction, parts, names, coordinates)
        elif row["status"] == "weak" and len(parts) == 1:
            yield f"The data hardly show {names[0]} (known to {row['known_to']}): fix it, measure it, or add data."
        elif row["status"] == "weak":
            yield (
                f"The data hardly show {row['combination']} (known to {row['known_to']}): fix or measure {names[0]}, "
                f"say, or add data where {' and '.join(names[:MOST])} act differently."
            )


def _structural(
    direction: Float[np.ndarray, " p"], parts: list[int], names: list[str], coordinates: Sequence[_Coordinate]
) -> str:
    if len(parts) == 1:
        return f"{names[0]} does not show in what was observed: fix it, or observe what it acts on."
    if len(parts) == 2:
        other = np.zeros_like(direction)
        i, j = sorted(parts)
        other[[i, j]] = direction[j], -direction[i]
        text, *_ = _named(other * np.sign(other[i]), coordinates)
        return f"{names[0]} and {names[1]} act through {text} alone: fix one of them, or make that one parameter."
    return (
        f"{', '.join(names[:-1])} and {names[-1]} can change together without any change of what was observed: fix one "
        "of them, or observe more."
    )

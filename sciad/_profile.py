"""Profile likelihoods: how far each parameter can go while the others make up for it."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import stats as st
from scipy.interpolate import PchipInterpolator

from sciad._errors import InputError, OptionError, check_names, counted
from sciad.solvers.least_squares import Estimate, LeastSquares

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sciad._fitted import Fit

STRIDE = 0.25  # of the threshold: the rise in deviance that the next step aims at
FURTHEST = 25.0  # distance in unconstrained space, beyond which a side is open: a factor of 10^10
CAREFUL = 0.1  # shortest step that is made again, shorter, where the deviance rises by more than the threshold
MOST = 60  # steps to each side
LONGER, SHORTER = 2.0, 0.25  # limits of the ratio of successive steps


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Profile:
    r"""Profile likelihoods of scalar parameters.

    Attributes
    ----------
    curves
        For each parameter, a table with a row for each value tried, ascending: the ``value``, the ``deviance``
        :math:`2(\ell(\hat\theta) - \max_{\theta: \theta_i = v} \ell(\theta))`, and all other parameters, where they
        went.
    intervals
        A row for each parameter: ``value``, ``lower``, ``upper``; infinite where the deviance never reaches the
        threshold: the data leave that side open, as far as the parameter's own bounds.
    threshold
        Quantile of the χ² law with one degree of freedom at `level`.
    level
        Confidence level.
    warnings
        In plain words.
    """

    curves: dict[str, pd.DataFrame]
    intervals: pd.DataFrame
    threshold: float
    level: float
    warnings: list[str]

    def plot(self) -> "np.ndarray":
        """Draw the deviance of each parameter and the threshold; returns Matplotlib's axes."""
        import matplotlib.pyplot as plt

        columns = min(3, len(self.curves))
        rows = -(-len(self.curves) // columns)
        _, axes = plt.subplots(rows, columns, squeeze=False, figsize=(3.6 * columns, 2.6 * rows), layout="constrained")
        for axis, (name, curve) in zip(axes.flat, self.curves.items(), strict=False):
            self._draw(axis, name, curve)
        for axis in axes.flat[len(self.curves) :]:
            axis.set_axis_off()
        return axes

    def __str__(self) -> str:
        return "\n".join([self.intervals.to_string(float_format="{:.4g}".format), *self.warnings])

    def __repr__(self) -> str:
        told = f", {counted(len(self.warnings), 'warning')}" if self.warnings else ""
        return f"<Profile: {self.level:.0%} intervals of {', '.join(self.curves)}{told}>"

    def _draw(self, axis: "Axes", name: str, curve: pd.DataFrame) -> None:
        axis.plot(curve["value"], curve["deviance"], marker=".", label="profile")
        axis.axhline(self.threshold, color="grey", linestyle="--", label=f"{self.level:.0%} threshold")
        axis.plot([self.intervals.loc[name, "value"]], [0.0], "k|", markersize=12)
        axis.set(xlabel=name, ylabel="deviance", ylim=(-0.3, 1.6 * self.threshold))


def profile(
    fit: "Fit", names: str | Sequence[str] | None = None, *, level: float = 0.95, solver: LeastSquares | None = None
) -> Profile:
    r"""Follow the likelihood's ridge along each parameter, to both sides of its estimate.

    .. math:: \left\{v : 2\left(\ell(\hat\theta) - \max_{\theta:\, \theta_i = v} \ell(\theta)\right)
              \le \chi^2_{1,\,\text{level}}\right\}

    is a confidence interval that, unlike one from standard errors, bends with the likelihood, and that ends nowhere on
    a side which the data leave open.

    Parameters
    ----------
    fit
        What `sciad.fit` found.
    names
        Scalar parameters, of those in ``fit.names`` that are no noise and no part of a constrained array, as a simplex
        is; default: all of them.
    level
        Confidence level.
    solver
        Settings of the optimisation of the others, each from where the step before left them.

    Raises
    ------
    InputError
        If a name is unknown, or cannot be moved alone, or the fit found no valid point.

    Notes
    -----
    Where a better point than the fit's is met, a warning says so, and its deviance is negative.

    Source: A. Raue et al., *Structural and practical identifiability analysis of partially observed dynamical models by
    exploiting the profile likelihood*, Bioinformatics 25 (2009).

    Examples
    --------
    >>> import equinox as eqx, jax, sciad as sd, xarray as xr
    >>> jax.config.update("jax_enable_x64", True)
    >>> data = xr.Dataset({"y": ("t", [1.1, 0.9, 1.2, 0.8])}, coords={"t": [0.0, 1.0, 2.0, 3.0]})
    >>> rest = lambda t, y: 0.0 * y
    >>> problem = sd.ODEProblem(data, noise=sd.Normal(0.5), initial={"y": sd.param(0.7)})
    >>> found = profile(sd.fit(problem, rest, starts=0))
    >>> found.intervals.round(3).values.tolist()  # 1 ± 1.96 · 0.5/√4
    [[1.0, 0.51, 1.49]]
    """
    if not hasattr(fit, "_parts"):
        msg = f"profile({type(fit).__name__}): expected what `sd.fit` returns of an ODEProblem: "
        msg += "sd.profile(sd.fit(problem, model))."
        raise InputError(msg)
    if not 0 < level < 1:
        msg = f"profile(level={level}): expected a probability between 0 and 1, such as 0.95."
        raise OptionError(msg)
    if not np.isfinite(fit.loss):
        msg = f"There is nothing to profile: {fit.message}"
        raise InputError(msg)
    walker = _Walker(fit, LeastSquares() if solver is None else solver, float(st.chi2.ppf(level, 1)))
    movable = walker.movable
    names = [names] if isinstance(names, str) else names
    check_names("names", names or (), movable, "no parameter that can be moved alone")
    curves = {name: walker.curve(movable[name]) for name in (movable if names is None else names)}
    intervals = {name: _interval(curve, fit, name, walker.threshold) for name, curve in curves.items()}
    table = pd.DataFrame.from_dict(intervals, orient="index", columns=["value", "lower", "upper"])
    return Profile(curves, table, walker.threshold, level, list(_remarks(curves, table)))


class _Walker:
    """Steps along one parameter while the others follow."""

    def __init__(self, fit: "Fit", solver: LeastSquares, threshold: float) -> None:
        self._parts = fit._parts
        self._fit, self._solver = fit, dataclasses.replace(solver, starts=0)
        self.threshold = threshold

    @property
    def movable(self) -> dict[str, int]:
        """Place in the location of each scalar that can be moved alone."""
        place_of = {int(v): i for i, v in enumerate(self._parts.location)}
        return {name: place_of[entry] for name, entry in self._fit._natural.entries.items() if entry in place_of}

    def curve(self, place: int) -> pd.DataFrame:
        """Return the table of one parameter."""
        down, up = list(self._side(place, -1.0)), list(self._side(place, 1.0))
        middle = {"deviance": 0.0} | dict(zip(self._fit.names, self._fit.values, strict=True))
        table = pd.DataFrame([*reversed(down), middle, *up])
        name = next(name for name, at in self.movable.items() if at == place)
        columns = ["value", "deviance", *(other for other in self._fit.names if other != name)]
        return table.rename(columns={name: "value"}).reindex(columns=columns)

    def _side(self, place: int, sign: float) -> Iterator[dict[str, float]]:
        """Yield points on one side until the threshold is passed, or the side is open."""
        vector, parts = self._fit._vector, self._parts
        location, noise = vector[parts.location], vector[parts.noise]
        held = np.arange(location.size) == place
        variance = self._fit._covariance[parts.location[place], parts.location[place]]
        error = np.sqrt(variance) if np.isfinite(variance) and variance > 0 else 1.0
        step, deviance, direction = min((STRIDE * self.threshold) ** 0.5 * error, 1.0), 0.0, held * sign
        for _ in range(MOST):
            found = self._solver.estimate(
                parts.residuals, parts.noise_loss, (location + step * direction)[None], noise, forward=parts.forward,
                held=held, chart=parts.chart.without(held),
            )  # fmt: skip
            if 2 * (found.loss - self._fit.loss) - deviance > self.threshold and step > CAREFUL:
                step /= 2  # too far at once to know the curve between
                continue
            if not np.isfinite(found.loss):
                return  # the model cannot be evaluated beyond: the side ends there
            moved = np.asarray(found.point.location) - location
            location, noise = np.asarray(found.point.location), np.asarray(found.noise)
            before, deviance = deviance, 2 * (found.loss - self._fit.loss)
            yield {"deviance": deviance} | self._natural(found)
            if deviance > self.threshold or abs(location[place] - vector[parts.location[place]]) > FURTHEST:
                return
            # The others go on as they went; the step is that for which the rise would be as wished.
            direction = moved / abs(moved[place])
            wanted = STRIDE * self.threshold / max(deviance - before, 1e-12)
            step = abs(moved[place]) * float(np.clip(wanted, SHORTER, LONGER))

    def _natural(self, found: Estimate) -> dict[str, float]:
        vector = np.asarray(self._parts.joined(found.point.location, jnp.asarray(found.noise)))
        _, values, _ = self._fit._natural.at(vector)
        return dict(zip(self._fit.names, values.tolist(), strict=True))


def _interval(curve: pd.DataFrame, fit: "Fit", name: str, threshold: float) -> list[float]:
    """Return value and limits: where the root of the deviance, nearly straight, crosses that of the threshold."""
    values, roots = curve["value"].to_numpy(), np.sqrt(np.maximum(curve["deviance"].to_numpy(), 0.0))
    middle = int(np.argmin(np.abs(values - fit.values[fit.names.index(name)])))
    limits = []
    for side, open_end in ((slice(middle, None, -1), -np.inf), (slice(middle, None), np.inf)):
        v, r = values[side], roots[side]
        beyond = np.flatnonzero(r > threshold**0.5)
        if not beyond.size:
            limits.append(open_end)
            continue
        v, r = v[: beyond[0] + 1], r[: beyond[0] + 1]
        smooth = PchipInterpolator(r, v) if np.all(np.diff(r) > 0) else lambda root, v=v, r=r: np.interp(root, r, v)
        limits.append(float(smooth(threshold**0.5)))
    return [float(values[middle]), *limits]


def _remarks(curves: dict[str, Any], table: pd.DataFrame) -> Iterator[str]:
    for name, (_, lower, upper) in zip(table.index, table.to_numpy(), strict=True):
        if np.isinf(lower) or np.isinf(upper):
            side = "on both sides" if np.isinf(lower) and np.isinf(upper) else "below" if np.isinf(lower) else "above"
            yield f"The data leave {name} open {side}: fix what it is traded against, or add data."
        if curves[name]["deviance"].min() < -0.01:
            yield (
                f"Along {name} a better fit was met, by {-curves[name]['deviance'].min() / 2:.3g} in log-likelihood: "
                "the estimate is not the best. Fit again from there, or with more starts."
            )

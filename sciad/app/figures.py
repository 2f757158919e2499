"""Pictures of the report, as SVG that takes its colours from the page, so that they suit light and dark alike."""

import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import scipy.stats
import xarray as xr
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sciad._waterfall import draw_waterfall

Axes = Any
Margins = tuple[float, float, float, float]
_INK, _FAINT, _LINE = "#1b1f24", "#6b7480", "#d3d8de"
_SERIES = ("#2462a7", "#c2571a", "#2f7d4f", "#8446a3", "#a8324a", "#4e7f8c", "#7c6a1d", "#5a5fc0")
_NAMED = {_INK: "--ink", _FAINT: "--faint", _LINE: "--line"} | {c: f"--c{i}" for i, c in enumerate(_SERIES)}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "sciad", "font.family": "DejaVu Sans", "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": _FAINT, "axes.linewidth": 0.7,
    "axes.labelcolor": _INK, "axes.titlecolor": _INK, "axes.titlesize": 9.5, "axes.labelsize": 9, "text.color": _INK,
    "xtick.color": _FAINT, "ytick.color": _FAINT, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "lines.linewidth": 1.3,
}  # fmt: skip
_counter = re.compile(r'(\bid="|href="#|url\(#)')


def draw(paint: Callable[[Axes], None], *, name: str, size: tuple[float, float], margins: Margins) -> str:
    """Draw one picture and give it as inline SVG.

    Parameters
    ----------
    paint : callable
        Draws on the axes that it is given.
    name : str
        Put before every identifier in the SVG, so that pictures on one page do not take each other's parts.
    size : tuple of float
        Width and height in inches, of 96 pixels each.
    margins : tuple of float
        Room left, right, below and above the axes, in inches. Finding it by measuring text takes half of the time.

    Returns
    -------
    str
        An ``<svg>`` element, hidden from screen readers: the page gives the words.
    """
    with mpl.rc_context(_STYLE):  # pyright: ignore[reportArgumentType]
        figure = Figure(figsize=size)
        (width, height), (left, right, below, above) = size, margins
        box = (left / width, below / height, 1 - (left + right) / width, 1 - (below + above) / height)
        paint(figure.add_axes(box))
        stream = io.StringIO()
        figure.savefig(stream, format="svg", dpi=110, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\n\s*", "\n", text)
    text = _counter.sub(rf"\g<1>{name}-", text)
    for colour, variable in _NAMED.items():
        text = text.replace(colour, f"var({variable})")
    return text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def prediction(
    axes: Axes,
    field: str,
    *,
    observed: xr.DataArray | None,
    bands: xr.DataArray | None,
    curve: xr.DataArray | None,
    colour: int = 0,
) -> None:
    """Draw data of one field, the 50 % and 90 % bands of the posterior predictive, and the fit's curve.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    field : str
        Name of the field.
    observed, bands, curve : xarray.DataArray, optional
        Data and curve over one dimension; ``bands`` has ``quantile`` (5, 25, 50, 75, 95 %) before it.
    colour : int
        Which colour of the series.
    """
    hue = _SERIES[colour % len(_SERIES)]
    if bands is not None:
        times = _axis(bands)
        axes.fill_between(times, bands[0], bands[4], color=hue, alpha=0.16, lw=0, label="90 % of predictions")
        axes.fill_between(times, bands[1], bands[3], color=hue, alpha=0.26, lw=0, label="50 %")
        axes.plot(times, bands[2], color=hue, lw=1.1, label="median")
    if curve is not None:
        axes.plot(_axis(curve), curve, color=_INK, lw=1, ls=(0, (4, 2)), label="best fit")
    if observed is not None:
        axes.plot(_axis(observed), observed, "o", ms=4.2, mfc=_INK, mec="none", label="data")
    source = next(array for array in (observed, bands, curve) if array is not None)
    _whole_ticks(axes, _axis(source))
    axes.set_xlabel(_label(source[source.dims[-1]], str(source.dims[-1])))
    axes.set_ylabel(_label(source, field))
    axes.legend(loc="upper left", bbox_to_anchor=(-0.01, 1.17), ncols=5, frameon=False, fontsize=8, handlelength=1.4)


def marginal(
    axes: Axes,
    draws: Float[np.ndarray, " n"],
    *,
    prior: tuple[np.ndarray, np.ndarray] | None = None,
    value: float | None = None,
    reference: Mapping[str, float] | None = None,
) -> None:
    """Draw the histogram of one parameter's draws, its prior density, the fit's value and the published interval."""
    axes.hist(draws, bins=36, density=True, color=_SERIES[0], alpha=0.55, lw=0)
    low, high = axes.get_xlim()
    top = axes.get_ylim()[1]
    if prior is not None:
        axes.plot(*prior, color=_SERIES[1], lw=1.4)
    if value is not None:
        axes.plot([value], [0], marker="^", ms=7, mfc=_INK, mec="none", clip_on=False, zorder=5)
    if reference is not None:
        spread = 1.645 * reference["sd"]
        ends = reference.get("q5", reference["mean"] - spread), reference.get("q95", reference["mean"] + spread)
        axes.plot(ends, [1.06 * top] * 2, color=_SERIES[2], lw=2.4, solid_capstyle="butt")
        axes.plot([reference["mean"]], [1.06 * top], "|", ms=9, mew=1.6, color=_SERIES[2])
    axes.set(xlim=(low, high), ylim=(0, 1.15 * top), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)


def ranks(axes: Axes, draws: Float[np.ndarray, "chain draw"], *, bins: int = 20) -> None:
    """Draw for each chain the histogram of the ranks of its draws among all; level lines mean that the chains agree."""
    chains, length = draws.shape
    order = scipy.stats.rankdata(draws, method="average").reshape(draws.shape)
    edges = np.linspace(0.5, draws.size + 0.5, bins + 1)
    expected = length / bins
    band = 2.576 * np.sqrt(expected * (1 - 1 / bins))
    axes.axhspan(expected - band, expected + band, color=_FAINT, alpha=0.16, lw=0)
    for chain in range(chains):
        counts = np.histogram(order[chain], edges)[0]
        axes.stairs(counts, edges, baseline=None, color=_SERIES[chain % len(_SERIES)], lw=1)
    axes.set(ylim=(0, None), xlim=(edges[0], edges[-1]), xticks=[])
    axes.locator_params(axis="y", nbins=4)


def trace(axes: Axes, draws: Float[np.ndarray, "chain draw"], *, diverging: np.ndarray | None = None) -> None:
    """Draw every chain's draws in their order, thinned to 250 points a chain; ticks below mark divergences."""
    step = max(1, draws.shape[1] // 250)
    where = np.arange(0, draws.shape[1], step)
    for chain, values in enumerate(draws):
        axes.plot(where, values[::step], color=_SERIES[chain % len(_SERIES)], lw=0.5, alpha=0.8)
    if diverging is not None and diverging.any():
        at = np.nonzero(diverging)[1]
        axes.plot(at, np.full(at.shape, draws.min()), "|", color=_SERIES[4], ms=7)
    axes.set_xlim(0, draws.shape[1])
    axes.locator_params(nbins=4)


def pairs(
    axes: Axes, names: Sequence[str], draws: Float[np.ndarray, "d n"], *, diverging: np.ndarray | None = None
) -> None:
    """Draw every two parameters against each other, all panels on one axes, each scaled to the middle 99 % of draws."""
    count = len(names)
    low, high = np.quantile(draws, [0.005, 0.995], axis=1, keepdims=True)
    unit = (draws - low) / np.where(high > low, high - low, 1.0) * 0.88 + 0.06
    keep = np.linspace(0, draws.shape[1] - 1, min(1200, draws.shape[1])).astype(int)
    for row, column in itertools.combinations(range(count), 2):
        x, y = unit[row], unit[column]
        inside = (x > 0) & (x < 1) & (y > 0) & (y < 1)
        shown = keep[inside[keep]]
        at = count - 1 - column
        axes.plot(row + x[shown], at + y[shown], ".", ms=2.6, mec="none", color="#4b8dd0", alpha=0.5, rasterized=True)
        if diverging is not None and diverging.any():
            marked = np.nonzero(diverging & inside)[0]
            axes.plot(row + x[marked], at + y[marked], "x", ms=4, color=_SERIES[4])
        axes.plot([row, row + 1, row + 1, row, row], [at, at, at + 1, at + 1, at], color=_LINE, lw=0.7)
        shade = np.corrcoef(draws[row], draws[column])[0, 1]
        axes.text(row + 0.95, at + 0.93, f"{shade:+.2f}", fontsize=8, ha="right", va="top", color=_INK)
    for index, name in enumerate(names):
        axes.text(index + 0.04, count - 1 - index + 0.36, _broken(name), fontsize=10, ha="left", va="center")
        span = f"{low[index, 0]:.3g} to {high[index, 0]:.3g}"
        axes.text(index + 0.04, count - 1 - index + 0.08, span, fontsize=8.5, color=_FAINT, ha="left", va="center")
    axes.set(xlim=(-0.02, count + 0.35), ylim=(-0.02, count - 0.3))
    axes.set_axis_off()


def residual_trend(axes: Axes, times: np.ndarray, residuals: np.ndarray, label: str) -> None:
    """Draw standardised residuals over the coordinate, with the range that holds 95 % of normal ones."""
    axes.axhspan(-1.96, 1.96, color=_FAINT, alpha=0.14, lw=0)
    axes.axhline(0, color=_FAINT, lw=0.7)
    axes.vlines(times, 0, residuals, color=_SERIES[0], lw=1)
    axes.plot(times, residuals, "o", ms=3.4, color=_SERIES[0])
    axes.set(xlabel=label, ylabel="standardised residual")
    _whole_ticks(axes, times)


def residual_quantiles(axes: Axes, residuals: np.ndarray) -> None:
    """Draw the residuals' quantiles against those of the standard normal; points on the line mean a fitting noise."""
    ordered = np.sort(residuals)
    theory = scipy.stats.norm.ppf((np.arange(ordered.size) + 0.5) / ordered.size)
    ends = [min(theory[0], ordered[0]), max(theory[-1], ordered[-1])]
    axes.plot(ends, ends, color=_FAINT, lw=0.8)
    axes.plot(theory, ordered, "o", ms=3.4, color=_SERIES[0])
    axes.set(xlabel="normal quantile", ylabel="residual")


def residual_memory(axes: Axes, correlations: np.ndarray, size: int) -> None:
    """Draw the autocorrelation of residuals by lag, with the range that holds 95 % of independent ones."""
    limit = 1.96 / np.sqrt(size)
    axes.axhspan(-limit, limit, color=_FAINT, alpha=0.16, lw=0)
    axes.axhline(0, color=_FAINT, lw=0.7)
    lags = np.arange(1, correlations.size + 1)
    axes.vlines(lags, 0, correlations, color=_SERIES[0], lw=3)
    axes.set(xlabel="lag", ylabel="autocorrelation", ylim=(-1, 1))


def waterfall(axes: Axes, losses: Sequence[float]) -> None:
    """Draw where the descents of a fit ended, the best first; the band holds those that fit nearly as well."""
    draw_waterfall(axes, losses, best=_SERIES[0], rest=_SERIES[1], faint=_FAINT)


def _axis(array: Any) -> np.ndarray:
    return np.asarray(array[array.dims[-1]])


def _whole_ticks(axes: Axes, times: np.ndarray) -> None:
    """Put ticks at whole numbers where the data are at whole numbers, so that no year is 1902.5."""
    if times.size and np.issubdtype(times.dtype, np.number) and np.all(times == np.round(times)):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _label(array: xr.DataArray, name: str) -> str:
    unit = array.attrs.get("units", "")
    return f"{name} ({unit})" if unit else name


def _broken(name: str) -> str:
    head, dot, tail = name.rpartition(".")
    return f"{head}{dot}\n{tail}" if len(name) > 12 else name

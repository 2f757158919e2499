"""The pictures of a report, each with the words that stand for it."""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import markupsafe
import numpy as np
import pandas as pd
import xarray as xr

from sciad._posterior import scalars
from sciad._waterfall import waterfall_words
from sciad.app import figures
from sciad.app.contents import Contents

_MOST_PARAMETERS = 24
_MOST_PAIRED = 8
_MOST_CURVES = 6
_FRAMED: figures.Margins = (0.62, 0.08, 0.46, 0.34)
_BARE: figures.Margins = (0.62, 0.08, 0.46, 0.08)
_SMALL: figures.Margins = (0.5, 0.05, 0.22, 0.06)


class Picture(NamedTuple):
    """A drawing with the words that stand for it."""

    svg: markupsafe.Markup
    alt: str
    caption: str = ""


def predictions(contents: Contents, names: Iterator[int]) -> Iterator[Picture]:
    """Draw data, predictive bands and the fit's curve of every field, and of each of its first experiments."""
    source = contents.group("posterior_predictive")
    source = contents.data if source is None else source
    if source is None or contents.field:
        return
    for colour, field in enumerate(map(str, source.data_vars)):
        bands = contents.bands(field)
        fine = _named(contents.predicted, field)
        observed = _named(contents.data, field)
        curve = _named(contents.curve, field)
        for place in _places(bands if bands is not None else observed):
            data, band, smooth, line = (_at(array, place) for array in (observed, bands, fine, curve))
            words_of = f"Data and predictions of {field}{_place_words(place)}"
            caption = " ".join(part for part in (_place_words(place).strip(), _coverage(data, band)) if part)
            paint = functools.partial(
                figures.prediction,
                field=field,
                observed=data,
                bands=band if smooth is None else smooth,
                curve=line,
                colour=colour,
            )
            svg = drawn(names, paint, size=(7.4, 2.9), margins=_FRAMED)
            yield Picture(svg, f"{words_of}. {caption}", caption)


def _coverage(data: xr.DataArray | None, bands: xr.DataArray | None) -> str:
    if data is None or bands is None:
        return ""
    seen = np.isfinite(data.to_numpy())
    inside = seen & (data.to_numpy() >= bands[0].to_numpy()) & (data.to_numpy() <= bands[4].to_numpy())
    return f"{inside.sum()} of {seen.sum()} observations lie in the 90 % band of predictions."


def marginals(contents: Contents, names: Iterator[int]) -> Iterator[Picture]:
    """Draw the posterior of every parameter beside its prior, the best fit and the published interval."""
    published = contents.reference["parameters"] if contents.reference else {}
    fitted = contents.fit["table"] if contents.fit else {}
    for name, values in _shown(contents):
        prior = None
        if contents.priors is not None and name in contents.priors:
            prior = contents.priors[f"{name}@at"].to_numpy(), contents.priors[name].to_numpy()
        value = fitted.get(name, {}).get("value")
        low, high = np.quantile(values, [0.05, 0.95])
        paint = functools.partial(
            figures.marginal, draws=values.ravel(), prior=prior, value=value, reference=published.get(name)
        )
        svg = drawn(names, paint, size=(2.7, 1.6), margins=(0.12, 0.12, 0.27, 0.05))
        words_of = f"Posterior of {name}: 90 % of draws between {low:.4g} and {high:.4g}."
        yield Picture(svg, words_of, _with_unit(contents, name))


def chains(contents: Contents, names: Iterator[int]) -> Iterator[tuple[str, Picture, Picture]]:
    """Draw for every parameter the ranks and the traces of its chains, under its name."""
    diverging = _diverging(contents)
    for name, values in _shown(contents):
        order = drawn(names, lambda axes, v=values: figures.ranks(axes, v), size=(3.0, 1.25), margins=_SMALL)
        path = drawn(
            names, lambda axes, v=values: figures.trace(axes, v, diverging=diverging), size=(4.2, 1.25), margins=_SMALL
        )
        yield (
            name,
            Picture(order, f"Rank histograms of {name}, one line a chain."),
            Picture(path, f"Traces of {name}, one line a chain."),
        )


def pairs(contents: Contents, names: Iterator[int]) -> Picture | None:
    """Draw every two parameters against each other; None when there are fewer than two."""
    chosen = dict(_shown(contents))
    if len(chosen) < 2:
        return None
    keys = list(chosen)
    if len(keys) > _MOST_PAIRED and contents.summary is not None:
        keys = _least_mixed(contents.summary.loc[keys], _MOST_PAIRED)
    draws = np.stack([chosen[key].ravel() for key in keys])
    diverging = _diverging(contents)
    flat = None if diverging is None else diverging.ravel()
    correlation = np.abs(np.corrcoef(draws) - np.eye(len(keys)))
    first, second = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    tie = f"The strongest correlation is {np.corrcoef(draws)[first, second]:+.2f}, of {keys[first]} and {keys[second]}."
    side = 1.15 * len(keys) + 0.4
    svg = drawn(
        names,
        lambda axes: figures.pairs(axes, keys, draws, diverging=flat),
        size=(side, 0.92 * side),
        margins=(0, 0, 0, 0),
    )
    omitted = "" if len(keys) == _scalar_count(contents) else f" Shown are the {len(keys)} that mix least."
    return Picture(svg, f"Scatter of every two parameters. {tie}", tie + omitted)


def residuals(contents: Contents, names: Iterator[int]) -> Iterator[tuple[str, str, list[Picture]]]:
    """Draw for every field its residuals three ways, after its label and the figures in words."""
    if contents.residuals is None:
        return
    for field in map(str, contents.residuals.data_vars):
        whole = contents.residuals[field]
        for place in _places(whole):
            series = _at(whole, place)
            assert series is not None
            values = series.to_numpy()
            seen = np.isfinite(values)
            if seen.sum() < 3:
                continue
            yield _residual_row(field + _place_words(place), series, values[seen], seen, names)


def _residual_row(
    label: str, series: xr.DataArray, values: np.ndarray, seen: np.ndarray, names: Iterator[int]
) -> tuple[str, str, list[Picture]]:
    dim = str(series.dims[-1])
    times = np.asarray(series[dim])[seen]
    memory = _autocorrelations(values)
    outside = int((np.abs(values) > 1.96).sum())
    verdict = (
        f"Mean {round(float(values.mean()), 2) + 0.0:+.2f}, standard deviation {values.std(ddof=1):.2f} (1 expected), "
        f"{outside} of {values.size} beyond ±1.96 (about {0.05 * values.size:.0f} expected), "
        f"autocorrelation at lag 1 {memory[0]:+.2f}."
    )
    trend = drawn(names, lambda axes: figures.residual_trend(axes, times, values, dim), size=(3.6, 1.9), margins=_BARE)
    quantiles = drawn(names, lambda axes: figures.residual_quantiles(axes, values), size=(2.4, 1.9), margins=_BARE)
    lags = drawn(names, lambda axes: figures.residual_memory(axes, memory, values.size), size=(2.4, 1.9), margins=_BARE)
    pictures = [
        Picture(trend, f"Residuals of {label} over {dim}."),
        Picture(quantiles, f"Normal quantiles of the residuals of {label}."),
        Picture(lags, f"Autocorrelation of the residuals of {label}."),
    ]
    return label, verdict, pictures


def _autocorrelations(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    lags = range(1, min(10, values.size - 1) + 1)
    power = float(centred @ centred) or 1.0
    return np.array([centred[lag:] @ centred[:-lag] / power for lag in lags])


def _shown(contents: Contents) -> list[tuple[str, np.ndarray]]:
    """Give the parameters that get pictures: all of them, or where they are many those that mix least."""
    draws = contents.group("posterior")
    if draws is None or contents.summary is None:
        return []
    found = dict(scalars(draws))
    every = [(str(name), found[str(name)]) for name in contents.summary.index if name in found]
    if len(every) <= _MOST_PARAMETERS:
        return every
    worst = _least_mixed(contents.summary.loc[[name for name, _ in every]], _MOST_PARAMETERS)
    return [(name, values) for name, values in every if name in worst]


def _least_mixed(summary: pd.DataFrame, count: int) -> list[str]:
    order = np.argsort(summary["ess_bulk"].to_numpy(float), kind="stable")
    return [str(summary.index[row]) for row in order[:count]]


def _scalar_count(contents: Contents) -> int:
    return 0 if contents.summary is None else len(contents.summary)


def _diverging(contents: Contents) -> np.ndarray | None:
    stats = contents.group("sample_stats")
    if stats is None or "diverging" not in stats:
        return None
    return stats["diverging"].transpose("chain", "draw").to_numpy().astype(bool)


def waterfall(contents: Contents, names: Iterator[int]) -> Picture | None:
    """Draw where the fit's descents ended; None where there was one alone."""
    losses = (contents.fit or {"stats": {}})["stats"].get("polished_losses", [])
    losses = [np.inf if loss is None else loss for loss in losses]  # as JSON has it
    if len(losses) < 2 or not np.isfinite(losses).any():
        return None
    caption = waterfall_words(losses)
    svg = drawn(names, lambda axes: figures.waterfall(axes, losses), size=(4.6, 2.3), margins=_BARE)
    return Picture(svg, f"Waterfall of the fit: the losses of its descents, sorted. {caption}", caption)


def _with_unit(contents: Contents, name: str) -> str:
    unit = contents.units.get(name.partition("[")[0])
    return f"{name} ({unit})" if unit else name


def _named(data: xr.Dataset | None, field: str) -> xr.DataArray | None:
    return None if data is None or field not in data else data[field]


def _places(array: xr.DataArray | None) -> list[dict[str, Any]]:
    """Give the coordinates of the curves in an array: one, or one for each experiment, the first few of many."""
    if array is None:
        return []
    dims: Sequence[str] = [str(dim) for dim in array.dims if dim != "quantile"][:-1]
    ranges = [array[dim].to_numpy().tolist() for dim in dims]  # names where there are any, else numbers
    return [dict(zip(dims, index, strict=True)) for index in itertools.islice(itertools.product(*ranges), _MOST_CURVES)]


def _place_words(place: Mapping[str, Any]) -> str:
    return f" ({', '.join(f'{dim} {index}' for dim, index in place.items())})" if place else ""


def _at(array: xr.DataArray | None, place: Mapping[str, Any]) -> xr.DataArray | None:
    return None if array is None else array.sel({d: i for d, i in place.items() if d in array.dims})


def drawn(
    names: Iterator[int], paint: Any, *, size: tuple[float, float], margins: figures.Margins
) -> markupsafe.Markup:
    """Draw one picture, with a name of its own on the page."""
    return markupsafe.Markup(figures.draw(paint, name=f"f{next(names)}", size=size, margins=margins))

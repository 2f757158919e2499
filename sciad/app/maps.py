"""The pictures of a fitted field in a report."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sciad._field_pictures import draw_field, draw_history
from sciad.app import figures
from sciad.app.contents import Contents
from sciad.app.fields import residual_words
from sciad.app.pictures import Picture, drawn

_MAP: figures.Margins = (0.62, 0.15, 0.46, 0.12)
_MISSED = "equation missed by"


def pictures_of(contents: Contents, names: Iterator[int]) -> Iterator[Picture]:
    """Draw each field with its data, its standard errors, what the equation is missed by, and the descent."""
    if not contents.field:
        return
    field, seen = contents.field["field"], contents.field.get("seen")
    fields = [str(name) for name in field if name != _MISSED and not str(name).startswith("error of ")]
    for name in fields:
        data = None if seen is None or name not in seen else seen[name]
        words = f"{name}{'' if data is None else ', and where it was observed'}"
        caption = "" if data is None else residual_words(data.to_numpy())
        yield _map(names, field[name], words, caption, data)
        if f"error of {name}" in field:
            yield _map(names, field[f"error of {name}"], f"standard error of {name}")
    yield _map(names, field[_MISSED], "what the equation is missed by")
    rounds = pd.DataFrame(contents.field["rounds"].to_dataframe())
    svg = drawn(names, lambda axes: draw_history(axes, rounds), size=(4.6, 2.9), margins=_MAP)
    yield Picture(svg, "How the residuals fell while the field was fitted.", "residuals over the seconds of the fit")


def _map(
    names: Iterator[int], values: xr.DataArray, words: str, caption: str = "", data: xr.DataArray | None = None
) -> Picture:
    def paint(axes: Any) -> None:
        draw_field(axes, values)
        if data is not None and values.ndim == 2:
            there = np.isfinite(data.to_numpy())
            across, up = axes.get_xlabel(), axes.get_ylabel()
            axes.plot(data[across].to_numpy()[there], data[up].to_numpy()[there], "k.", ms=1.5, alpha=0.5)

    svg = drawn(names, paint, size=(4.6, 2.9), margins=_MAP)
    low, high = float(values.min()), float(values.max())
    told = f"{words}. {caption}" if caption else words
    return Picture(svg, f"Map of {words}, between {low:.3g} and {high:.3g}. {caption}".strip(), told)

"""Pictures of a fitted field."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FINE = 201  # points along an axis of a picture


def shown_grid(domain: Any, fine: int = FINE) -> dict[str, Any]:
    """Return coordinates of a picture: two of them fine, the others in the middle; t, where there is one, across."""
    spans = dict(zip(domain.coordinates, domain.bounds, strict=True))
    seen = ("t", "x") if {"t", "x"} <= set(spans) else domain.coordinates[:2]
    return {n: np.linspace(low, high, fine) if n in seen else (low + high) / 2 for n, (low, high) in spans.items()}


def draw_field(axes: "Axes", values: xr.DataArray, **style: Any) -> None:
    """Draw what was evaluated on the grid of `shown_grid`, as a map; over one coordinate, as a curve."""
    values = values.squeeze(drop=True)
    if values.ndim == 1:
        (across,) = map(str, values.dims)
        axes.plot(values[across], values)
        axes.set_ylabel(str(values.name))
    else:
        across, up = ("t", "x") if {"t", "x"} == set(values.dims) else map(str, values.dims)
        shown = values.transpose(up, across)
        mesh = axes.pcolormesh(shown[across], shown[up], shown, shading="auto", rasterized=True, **style)
        axes.figure.colorbar(mesh, ax=axes, label=str(values.name))
        axes.set_ylabel(up)
    axes.set_xlabel(across)


def draw_history(axes: "Axes", history: pd.DataFrame) -> None:
    """Draw root mean squares of the residuals, trained on and held out, over the seconds."""
    axes.semilogy(history["seconds"], history["trained"], ".-", label="points trained on")
    axes.semilogy(history["seconds"], history["held_out"], ".-", label="points held out")
    axes.set_xlabel("seconds")
    axes.set_ylabel("root mean square of the residuals")
    axes.legend()

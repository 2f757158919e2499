"""Pictures of a fitted field."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FINE = 201  # points along an axis of a picture


def draw_field(axes: "Axes", fit: Any, field: str) -> None:
    """Draw a field over its first two coordinates, the others in the middle; over one, as a curve."""
    domain = fit.problem.domain
    spans = dict(zip(domain.coordinates, domain.bounds, strict=True))
    seen = ("t", "x") if {"t", "x"} <= set(spans) else domain.coordinates[:2]
    at = {n: np.linspace(low, high, FINE) if n in seen else (low + high) / 2 for n, (low, high) in spans.items()}
    values = fit(**at)[field].squeeze()
    if len(seen) == 1:
        axes.plot(values[seen[0]], values)
        axes.set_ylabel(field)
    else:
        shown = values.transpose(seen[1], seen[0])
        mesh = axes.pcolormesh(shown[seen[0]], shown[seen[1]], shown, shading="auto", rasterized=True)
        axes.figure.colorbar(mesh, ax=axes, label=field)
        axes.set_ylabel(seen[1])
    axes.set_xlabel(seen[0])


def draw_history(axes: "Axes", history: pd.DataFrame) -> None:
    """Draw root mean squares of the residuals, trained on and held out, over the seconds."""
    axes.semilogy(history["seconds"], history["trained"], ".-", label="points trained on")
    axes.semilogy(history["seconds"], history["held_out"], ".-", label="points held out")
    axes.set_xlabel("seconds")
    axes.set_ylabel("root mean square of the residuals")
    axes.legend()

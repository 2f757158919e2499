"""Films of a fitted field."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from sciad._atomic import replacing
from sciad._errors import InputError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FINE, COARSE = 201, 81  # points along a curve, and along each side of a map
PACE = 15  # frames in a second


def write_film(fit: Any, path: str | os.PathLike[str], over: str, field: str, frames: int) -> Path:
    """Write what `FieldFit.animate` describes, whole or not at all."""
    from matplotlib.animation import FuncAnimation, PillowWriter
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix != ".gif":
        msg = f"animate({str(path)!r}): expected a name that ends in .gif."
        raise InputError(msg)
    values, missed = _pictured(fit, over, field, frames)
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    size = float(np.nanmax(missed.to_numpy()))
    show_left = _painter(left, values, (float(values.min()), float(values.max())))
    show_right = _painter(right, missed, (0.0, size if size > 0 else 1.0))

    def show(number: int) -> None:
        show_left(number)
        show_right(number)
        figure.suptitle(f"{over} = {float(values[over][number]):.3g}")

    film = FuncAnimation(figure, show, frames=frames)  # pyright: ignore[reportArgumentType]
    with replacing(path) as scratch:
        film.save(str(scratch), writer=PillowWriter(fps=PACE), dpi=80)
    return path


def _pictured(fit: Any, over: str, field: str, frames: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the field and the residual over the coordinate that passes, then one or two others."""
    domain = fit.problem.domain
    spans = dict(zip(domain.coordinates, domain.bounds, strict=True))
    others = [name for name in domain.coordinates if name != over]
    if over not in spans or not others:
        msg = f"animate(over={over!r}): expected a coordinate of the domain that leaves others to show. "
        msg += did_you_mean(over, spans)
        raise InputError(msg)
    if frames < 2:
        msg = f"animate(frames={frames}): expected two or more."
        raise InputError(msg)
    fine = {over: frames} | dict.fromkeys(others[:2], FINE if len(others) == 1 else COARSE)
    at = {
        name: np.linspace(low, high, fine[name]) if name in fine else (low + high) / 2
        for name, (low, high) in spans.items()
    }
    pictured = fit(**at)[field], fit.equation_residual(**at).rename("equation missed by")
    values, missed = (array.squeeze(drop=True).transpose(over, ...) for array in pictured)
    return values, missed


def _painter(axes: "Axes", values: xr.DataArray, limits: tuple[float, float]) -> Any:
    """Draw the first frame, and return what shows another."""
    names = [str(name) for name in values.dims[1:]]
    axes.set_xlabel(names[0])
    if len(names) == 1:
        (line,) = axes.plot(values[names[0]], values[0])
        room = 0.05 * (limits[1] - limits[0]) or 1.0
        axes.set(ylabel=str(values.name), ylim=(limits[0] - room, limits[1] + room))
        return lambda number: line.set_ydata(values[number])
    shown = values.transpose(..., names[1], names[0])
    mesh = axes.pcolormesh(shown[names[0]], shown[names[1]], shown[0], shading="auto", vmin=limits[0], vmax=limits[1])
    axes.set_ylabel(names[1])
    axes.figure.colorbar(mesh, ax=axes, label=str(values.name))
    return lambda number: mesh.set_array(shown[number].to_numpy())

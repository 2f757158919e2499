"""Burgers' equation from scattered measurements: two coefficients, and a front that steepens between the sensors.

A velocity u(x, t) is carried by itself and smoothed by viscosity, u_t + advection u u_x = viscosity u_xx. It was
observed at 400 scattered points, with noise of 1 % of its scatter; both coefficients are unknown, and so are the
noise and the field. Nothing is told of initial and boundary values. The points and values are computed from the exact
solution by Cole and Hopf's formula, for -sin(pi x) at the beginning; the truth is an advection of 1 and a viscosity of
0.01 / pi = 0.003183. Of data of your own the columns are x, t and u.
"""

import importlib.resources
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import xarray as xr
from jaxtyping import Array
from numpyro.distributions import constraints

import sciad as sd

settings = {"advection": 0.5, "viscosity": 0.02, "points": 4000, "budget": 150.0}
_FILES = importlib.resources.files("sciad.app.studies")


class Burgers(eqx.Module):
    """Burgers' equation."""

    advection: sd.Param
    viscosity: sd.Param

    def __call__(self, u: Any, p: sd.Point) -> Array:
        """Return what is to vanish at a point."""
        carried = sd.d(u, "t")(p) + self.advection * u(p) * sd.d(u, "x")(p)
        return carried - self.viscosity * sd.d(u, "x", "x")(p)


def data(path: str | None = None) -> xr.Dataset:
    """Read ``u`` over the scattered ``x`` and ``t``."""
    if path is not None:
        return sd.read(path, coords=("x", "t"), rows=True)
    with importlib.resources.as_file(_FILES / "burgers.csv") as file:
        return sd.read(file, coords=("x", "t"), rows=True)


def problem(data: xr.Dataset, settings: Mapping[str, Any]) -> sd.PDEProblem:  # noqa: ARG001
    """Tie the measurements to the field, on the box that they span."""
    spans = {name: (float(data[name].min()), float(data[name].max())) for name in ("x", "t")}
    return sd.PDEProblem(sd.Box(**spans), data=data)


def program(settings: Mapping[str, Any]) -> Burgers:
    """Give the equation at the poor guess of the settings."""
    return Burgers(
        advection=sd.param(settings["advection"]),
        viscosity=sd.param(settings["viscosity"], constraint=constraints.positive),
    )


def solver(settings: Mapping[str, Any]) -> sd.Collocation:
    """Give the solver, with the settings' number of points and seconds."""
    return sd.Collocation(points=settings["points"], budget=settings["budget"])

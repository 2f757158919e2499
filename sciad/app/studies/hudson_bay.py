"""Hare and lynx of the Hudson Bay: a predator, its prey, and 21 years of pelts.

The Lotka-Volterra equations are fitted to the pelts of snowshoe hare and Canadian lynx that the Hudson's Bay Company
collected from 1900 to 1920. Growth, predation, death and reproduction rates, both initial populations and the scatter
of each species are unknown. The priors are those of the Stan case study by Carpenter (2018), and the posterior is
compared with the reference draws of posteriordb. The fit starts from rates that are far from the answer.
"""

import importlib.resources
import json
import math
from collections.abc import Mapping
from typing import Any

import numpyro.distributions as dist
import xarray as xr

import sciad as sd
from sciad.models.physics import LotkaVolterra

settings = {"alpha": 2.0, "beta": 0.2, "gamma": 2.0, "delta": 0.2}
_FILES = importlib.resources.files("sciad.app.studies")


def data(path: str | None = None) -> xr.Dataset:
    """Read thousands of pelts of ``hare`` and ``lynx`` over ``year``."""
    if path is not None:
        return sd.read(path, coords="year")
    with importlib.resources.as_file(_FILES / "hudson_bay.csv") as file:
        return sd.read(file, coords="year")


def problem(data: xr.Dataset, settings: Mapping[str, Any]) -> sd.ODEProblem:  # noqa: ARG001
    """Tie the pelts to the two populations, with log-normal scatter about each."""
    scale = dist.LogNormal(-1.0, 1.0)
    start = dist.LogNormal(math.log(10.0), 1.0)
    return sd.ODEProblem(
        data,
        fields=("hare", "lynx"),
        noise={field: sd.LogNormal(sigma=sd.param(prior=scale)) for field in ("hare", "lynx")},
        initial={field: sd.param(prior=start) for field in ("hare", "lynx")},
        time="year",
    )


def program(settings: Mapping[str, Any]) -> LotkaVolterra:
    """Give the Lotka-Volterra equations at the poor guess of the settings."""
    rate = dist.TruncatedNormal(1.0, 0.5, low=0.0)
    contact = dist.TruncatedNormal(0.05, 0.05, low=0.0)
    return LotkaVolterra(
        alpha=sd.param(settings["alpha"], prior=rate),
        beta=sd.param(settings["beta"], prior=contact),
        gamma=sd.param(settings["gamma"], prior=rate),
        delta=sd.param(settings["delta"], prior=contact),
    )


def reference() -> Mapping[str, Any]:
    """Give the moments of the 10,000 reference draws of posteriordb."""
    return json.loads((_FILES / "hudson_bay_reference.json").read_text(encoding="utf-8"))

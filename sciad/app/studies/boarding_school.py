"""Influenza in a boarding school, 1978: an epidemic of two weeks, with an exact posterior to compare with.

The SIR equations are fitted to the number of boys confined to bed on each of 14 days, of 763 in the school, with
negative-binomial counts. The transmission rate, the recovery rate and the overdispersion are unknown; the priors are
those of Grinsztajn et al. (2021). With three parameters the posterior can be integrated on a grid, so the reference
here carries no Monte Carlo error.
"""

import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

import numpyro.distributions as dist
import xarray as xr

import sciad as sd
from sciad.models.physics import SIR

settings = {"beta": 1.0, "gamma": 1.0}
_BOYS, _SICK = 763.0, 1.0
_FILES = importlib.resources.files("sciad.app.studies")


def data(path: str | None = None) -> xr.Dataset:
    """Read boys in bed, ``infected``, over ``day``."""
    if path is not None:
        return sd.read(path, coords="day")
    with importlib.resources.as_file(_FILES / "boarding_school.csv") as file:
        return sd.read(file, coords="day")


def problem(data: xr.Dataset, settings: Mapping[str, Any]) -> sd.ODEProblem:  # noqa: ARG001
    """Tie the counts to the infected, one of three states, from one case on day 0."""
    return sd.ODEProblem(
        data,
        fields=("infected",),
        states=("susceptible", "infected", "recovered"),
        noise=sd.NegativeBinomial(dispersion=sd.param(0.1, prior=dist.Exponential(5.0))),
        initial={"susceptible": _BOYS - _SICK, "infected": _SICK, "recovered": 0.0},
        time="day",
        t0=0.0,
    )


def program(settings: Mapping[str, Any]) -> SIR:
    """Give the SIR equations at the guess of the settings."""
    return SIR(
        beta=sd.param(settings["beta"], prior=dist.TruncatedNormal(2.0, 1.0, low=0.0), unit="1/day"),
        gamma=sd.param(settings["gamma"], prior=dist.TruncatedNormal(0.4, 0.5, low=0.0), unit="1/day"),
    )


def derived(draws: xr.Dataset) -> Mapping[str, xr.DataArray]:
    """Give the basic reproduction number and the mean time to recovery, in days, of each draw."""
    return {"R0": draws["beta"] / draws["gamma"], "recovery_time": 1.0 / draws["gamma"]}


def reference() -> Mapping[str, Any]:
    """Give the moments that quadrature gives."""
    return json.loads((_FILES / "boarding_school_reference.json").read_text(encoding="utf-8"))

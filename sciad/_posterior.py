"""The result of `sample`: draws, diagnostics, tables, and what a reader must know."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.base import array_stats
from jaxtyping import Float

from sciad._atomic import replacing
from sciad._checks import check_posterior
from sciad._errors import InputError, counted
from sciad._spec import Axis, entry_name

QUANTILES = {"q5": 0.05, "q50": 0.5, "q95": 0.95}
TAILS = (0.05, 0.95)  # the quantiles of which `ess_tail` is the smaller effective sample size


@dataclass(frozen=True, repr=False)
class Posterior:
    """Draws from a posterior distribution.

    Attributes
    ----------
    tree
        An `xarray.DataTree` after ArviZ's schema: ``posterior``, ``sample_stats``, and for a problem
        ``posterior_predictive``, ``prior_predictive``, ``log_likelihood`` and ``observed_data``. ArviZ's functions
        take it as it is.
    diagnostics
        Numbers on the run: ``divergences``, ``failed_solves``, ``ebfmi`` by chain, ``max_r_hat``, ``min_ess_bulk``,
        ``min_ess_tail``, ``tree_depth_saturated``, ``step_size`` by chain, ``metric``, seconds of each stage.
    warnings
        What a reader must know, in plain words; empty if all is well.
    """

    tree: xr.DataTree
    diagnostics: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    def summary(self) -> pd.DataFrame:
        """Return a row for each scalar: mean, sd, Monte Carlo standard errors, quantiles, bulk and tail ESS, R-hat.

        R-hat is rank-normalised, as are both effective sample sizes (A. Vehtari et al., Bayesian Analysis 16 (2021)).
        The error of the sd is by the effective size of squared deviations, which for NUTS is far below that of the
        mean: see `mcse_sd` in the source.
        """
        rows = {name: _row(draws) for name, draws in scalars(self.tree["posterior"].to_dataset())}
        return pd.DataFrame.from_dict(rows, orient="index")

    def save(self, path: str | Path) -> Path:
        """Write draws, diagnostics and warnings to a netCDF file, whole or not at all."""
        path = Path(path)
        told = {"diagnostics": self.diagnostics, "warnings": self.warnings}
        tree = self.tree.copy()
        tree.attrs = {**tree.attrs, "sciad": json.dumps(told)}
        with replacing(path) as scratch:
            tree.to_netcdf(scratch, engine="h5netcdf")
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Posterior":
        """Read what `save` wrote, or draws that ArviZ wrote; in the latter case the diagnostics are computed anew."""
        path = Path(path)
        if not path.is_file():
            msg = f"There is no file {path}. Expected a netCDF file written by Posterior.save."
            raise InputError(msg)
        try:
            with xr.open_datatree(path, engine="h5netcdf") as tree:
                loaded = tree.load()
        except (OSError, ValueError) as error:
            msg = f"Cannot read {path}: {error}. Expected a netCDF file written by Posterior.save."
            raise InputError(msg) from error
        told = loaded.attrs.pop("sciad", None)
        return cls.of(loaded, {}) if told is None else cls(loaded, **json.loads(told))

    @classmethod
    def of(cls, tree: xr.DataTree, diagnostics: Mapping[str, Any], warnings: Sequence[str] = ()) -> "Posterior":
        """Complete a tree of draws with the diagnostics that follow from it."""
        made = cls(tree, {})
        summary = made.summary()
        found = _diagnose(summary, tree["sample_stats"].to_dataset())
        checks = check_posterior(summary, found, draws=found["draws"])
        return cls(tree, {**found, **diagnostics}, [*warnings, *(str(check) for check in checks if check.words)])

    def __repr__(self) -> str:
        draws = self.tree["posterior"].to_dataset()
        chains, length = draws.sizes["chain"], draws.sizes["draw"]
        told = f", {counted(len(self.warnings), 'warning')}" if self.warnings else ""
        return f"<Posterior: {counted(len(scalars(draws)), 'parameter')}, {chains} × {length} draws{told}>"

    def __str__(self) -> str:
        table = self.summary()[["mean", "sd", "mcse_mean", "q5", "q95", "ess_bulk", "ess_tail", "r_hat"]]
        return "\n".join([table.map("{:.4g}".format).to_string(), *self.warnings])


def scalars(draws: xr.Dataset) -> list[tuple[str, Float[np.ndarray, "chains draws"]]]:
    """Return every scalar of a dataset over (chain, draw, …), named like ``w[3,2]`` or ``rate[subject=4]``."""
    found = []
    for name, values in draws.data_vars.items():
        values = values.transpose("chain", "draw", ...)
        first = str(values.dims[2]) if values.ndim > 2 else ""
        named = first in values.coords and first != f"{name}_dim_0"  # which is ArviZ's own name
        axis = Axis(first, tuple(values[first].to_numpy().tolist())) if named else None
        array = values.to_numpy()
        for index in np.ndindex(array.shape[2:]):
            found.append((entry_name(str(name), index, axis), array[(..., *index)]))
    return found


def mcse_sd(draws: Float[np.ndarray, "chains draws"]) -> float:
    r"""Return the Monte Carlo standard error of the standard deviation s: that of the mean of (x - x̄)², over 2 s.

    ArviZ divides by the effective size for the mean instead. Draws of NUTS alternate about the mean, which makes that
    size several times the one for squares, and its error of s too small by a factor of up to three.
    """
    squares = (draws - draws.mean()) ** 2
    sd = np.sqrt(squares.mean())
    error = np.squeeze(np.asarray(array_stats.mcse(squares, method="mean"), float))
    return float(error / (2 * sd)) if sd > 0 else np.nan


def _row(draws: Float[np.ndarray, "chains draws"]) -> dict[str, float]:
    row = {"mean": draws.mean(), "sd": draws.std(ddof=1)}
    row |= {"mcse_mean": array_stats.mcse(draws, method="mean"), "mcse_sd": mcse_sd(draws)}
    row |= {"ess_bulk": array_stats.ess(draws, method="bulk")}
    row |= {"ess_tail": array_stats.ess(draws, method="tail", prob=TAILS)}
    row |= {"r_hat": array_stats.rhat(draws, method="rank")}
    row |= {name: np.quantile(draws, q) for name, q in QUANTILES.items()}
    return {name: float(np.squeeze(value)) for name, value in row.items()}


def _diagnose(summary: pd.DataFrame, stats: xr.Dataset) -> dict[str, Any]:
    least = summary.min().to_dict()
    energy = stats["energy"].to_numpy()
    moved = np.mean(np.diff(energy, axis=1) ** 2, axis=1)
    return {
        "draws": int(energy.size),
        "chains": int(energy.shape[0]),
        "divergences": int((stats["diverging"] & ~stats["failed_solve"]).to_numpy().sum()),
        "failed_solves": int(stats["failed_solve"].to_numpy().sum()),
        "tree_depth_saturated": int(stats["reached_max_treedepth"].to_numpy().sum()),
        "ebfmi": [float(x) for x in moved / np.var(energy, axis=1)],
        "mean_accept_prob": float(stats["acceptance_rate"].mean()),
        "mean_steps": float(stats["n_steps"].mean()),
        "max_r_hat": float(summary.max().to_dict()["r_hat"]),
        "min_ess_bulk": float(least["ess_bulk"]),
        "min_ess_tail": float(least["ess_tail"]),
    }

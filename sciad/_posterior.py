"""The result of `sample`: draws, diagnostics, tables, and what a reader must know."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.base import array_stats
from jaxtyping import Float

from sciad._errors import InputError

QUANTILES = {"q5": 0.05, "q50": 0.5, "q95": 0.95}
TAILS = (0.05, 0.95)  # the quantiles of which `ess_tail` is the smaller effective sample size


@dataclass(frozen=True)
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
        """
        rows = {name: _row(draws) for name, draws in scalars(self.tree["posterior"].to_dataset())}
        return pd.DataFrame.from_dict(rows, orient="index")

    def save(self, path: str | Path) -> Path:
        """Write draws, diagnostics and warnings to a netCDF file, whole or not at all."""
        path = Path(path)
        scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
        told = {"diagnostics": self.diagnostics, "warnings": self.warnings}
        tree = self.tree.copy()
        tree.attrs = {**tree.attrs, "sciad": json.dumps(told)}
        try:
            tree.to_netcdf(scratch, engine="h5netcdf")
            scratch.replace(path)
        except OSError as error:
            msg = f"Cannot write {path}: {error.strerror or error}. Choose a folder that exists and can be written."
            raise InputError(msg) from error
        finally:
            scratch.unlink(missing_ok=True)
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
        found = _diagnose(made.summary(), tree["sample_stats"].to_dataset())
        return cls(tree, {**found, **diagnostics}, [*warnings, *_warn(found)])

    def __str__(self) -> str:
        table = self.summary()[["mean", "sd", "mcse_mean", "q5", "q95", "ess_bulk", "ess_tail", "r_hat"]]
        return "\n".join([table.map("{:.4g}".format).to_string(), *self.warnings])


def scalars(draws: xr.Dataset) -> list[tuple[str, Float[np.ndarray, "chains draws"]]]:
    """Return every scalar of a dataset over (chain, draw, …), named like ``w[3,2]``."""
    found = []
    for name, values in draws.data_vars.items():
        array = values.transpose("chain", "draw", ...).to_numpy()
        for index in np.ndindex(array.shape[2:]):
            label = f"{name}[{','.join(map(str, index))}]" if index else str(name)
            found.append((label, array[(..., *index)]))
    return found


def _row(draws: Float[np.ndarray, "chains draws"]) -> dict[str, float]:
    row = {"mean": draws.mean(), "sd": draws.std(ddof=1)}
    row |= {f"mcse_{what}": array_stats.mcse(draws, method=what) for what in ("mean", "sd")}
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


def _warn(found: Mapping[str, Any]) -> list[str]:
    """Put what is wrong into words, with the remedy; thresholds after Vehtari et al. (2021) and Betancourt (2017)."""
    few, ess, enough = 0.01 * found["draws"], min(found["min_ess_bulk"], found["min_ess_tail"]), 100 * found["chains"]
    r_hat, ebfmi = found["max_r_hat"], min(found["ebfmi"])
    diverged, deep = found["divergences"], found["tree_depth_saturated"]
    checks = {
        f"R-hat reaches {r_hat:.3f} (should be below 1.01): the chains disagree. Draw more, or look for several modes "
        "in the trace plots.": not r_hat < 1.01,
        f"The smallest effective sample size is {ess:.0f} (should be above {enough}): means and quantiles are coarse. "
        "Draw more.": not ess > enough,
        f"{diverged} transitions diverged: the sampler misses part of the posterior. Raise `target_accept` "
        "(`solver=NUTS(target_accept=0.95)`), or reparametrise.": diverged > 0,
        f"{found['failed_solves']} of {found['draws']} trajectories ended where the model cannot be evaluated; these "
        "points were rejected. If they are many, see the solver's `max_steps` and tolerances.": found["failed_solves"]
        > few,
        f"{deep} trajectories reached the greatest tree depth: sampling is slow, not wrong. Raise `max_tree_depth`, or "
        "reparametrise.": deep > few,
        f"E-BFMI falls to {ebfmi:.2f} (should be above 0.3): heavy tails are explored slowly. Reparametrise.": not ebfmi
        > 0.3,
    }
    return [text for text, wrong in checks.items() if wrong]

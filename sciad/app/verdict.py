"""Whether a result can be used: the checks of a posterior, each with its limit and what to do when it fails."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from sciad._errors import InputError

State = Literal["pass", "note", "fail"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One check of a result.

    Parameters
    ----------
    name : str
        What is looked at.
    state : {"pass", "note", "fail"}
        Passed; worth knowing, but the numbers stand; or failed, and the numbers must not be used.
    measured, limit : str
        What was found, and what was asked for.
    words : str
        What it means and what to do, in plain words; empty where it passed.
    """

    name: str
    state: State
    measured: str
    limit: str
    words: str = ""


def compare(summary: pd.DataFrame, reference: Mapping[str, Any]) -> pd.DataFrame:
    r"""Compare the posterior's means and standard deviations with a published reference.

    .. math:: z = (m - m_\mathrm{ref}) / \sqrt{\mathrm{MCSE}^2 + \mathrm{MCSE}_\mathrm{ref}^2}

    where both Monte Carlo standard errors (MCSE) are of the statistic compared.

    Parameters
    ----------
    summary : pandas.DataFrame
        Indexed by parameter, with columns ``mean``, ``sd``, ``mcse_mean`` and ``mcse_sd``.
    reference : mapping
        ``reference["parameters"][name]`` holds the same four numbers.

    Returns
    -------
    pandas.DataFrame
        One row for each parameter and statistic: ``parameter, statistic, value, mcse, reference, reference_mcse, z``.

    Raises
    ------
    InputError
        When the reference names a parameter that the posterior lacks.

    Examples
    --------
    >>> ours = pd.DataFrame({"mean": [1.3], "sd": [1.0], "mcse_mean": [0.3], "mcse_sd": [0.3]}, index=["a"])
    >>> theirs = {"parameters": {"a": {"mean": 0.8, "sd": 1.0, "mcse_mean": 0.4, "mcse_sd": 0.4}}}
    >>> compare(ours, theirs)["z"].tolist()
    [1.0, 0.0]
    """
    parameters = reference["parameters"]
    missing = [name for name in parameters if name not in summary.index]
    if missing:
        message = f"the reference has {missing}, which the posterior lacks; it has {list(summary.index)}."
        raise InputError(message)
    rows = []
    for name, published in parameters.items():
        ours = summary.loc[name]
        for statistic in ("mean", "sd"):
            error, published_error = float(ours[f"mcse_{statistic}"]), float(published[f"mcse_{statistic}"])
            difference = float(ours[statistic]) - float(published[statistic])
            rows.append(
                {
                    "parameter": name,
                    "statistic": statistic,
                    "value": float(ours[statistic]),
                    "mcse": error,
                    "reference": float(published[statistic]),
                    "reference_mcse": published_error,
                    "z": difference / np.hypot(error, published_error),
                }
            )
    return pd.DataFrame(rows)


def check_posterior(
    summary: pd.DataFrame, diagnostics: Mapping[str, Any], *, draws: int, comparison: pd.DataFrame | None = None
) -> list[Check]:
    """Check that the chains agree, that there are enough effective draws, and that the sampler had no trouble.

    Parameters
    ----------
    summary : pandas.DataFrame
        Indexed by parameter, with columns ``r_hat``, ``ess_bulk`` and ``ess_tail``.
    diagnostics : mapping
        ``divergences``, ``ebfmi``, ``failed_solves``, ``tree_depth_saturated``; those absent are not checked.
    draws : int
        Number of draws of all chains together.
    comparison : pandas.DataFrame, optional
        What :func:`compare` gave.

    Returns
    -------
    list of Check
        R-hat < 1.01; bulk and tail ESS >= 400; no divergence (a note up to 0.1 %); E-BFMI >= 0.3 (a note down to 0.2);
        ``|z| < 4`` against the reference.
    """
    found = [_r_hat(summary), _ess(summary, "bulk"), _ess(summary, "tail")]
    if diagnostics.get("divergences") is not None:
        found.append(_divergences(int(diagnostics["divergences"]), draws))
    energies = np.atleast_1d(np.asarray(diagnostics.get("ebfmi", ()), dtype=float))
    if energies.size:
        found.append(_energy(float(energies.min())))
    if diagnostics.get("tree_depth_saturated") is not None:
        found.append(_depth(int(diagnostics["tree_depth_saturated"]), draws))
    if diagnostics.get("failed_solves") is not None:
        found.append(_solves(int(diagnostics["failed_solves"])))
    if comparison is not None:
        found.append(_agreement(comparison))
    return found


def check_fit(converged: bool, result: str) -> Check:
    """Check that the fit ended by its own stopping rule."""
    words = "" if converged else "The fit stopped early: try other starts, more steps or a better guess."
    return Check("fit", "pass" if converged else "fail", result, "stopping rule met", words)


def overall(checks: Sequence[Check]) -> State:
    """Give the worst state among the checks.

    Examples
    --------
    >>> overall([Check("a", "pass", "", ""), Check("b", "note", "", "")])
    'note'
    """
    found = {check.state for check in checks}
    return "fail" if "fail" in found else "note" if "note" in found else "pass"


def headline(checks: Sequence[Check]) -> str:
    """Say in one sentence what the checks mean for the reader."""
    failed = [check.name for check in checks if check.state == "fail"]
    noted = [check.name for check in checks if check.state == "note"]
    if failed:
        return f"Do not use these numbers yet: {_listed(failed)} did not pass."
    if noted:
        return f"The result can be used; look at {_listed(noted)} first."
    return f"The result can be used: {f'all {len(checks)} checks' if len(checks) > 1 else 'the one check'} passed."


def _r_hat(summary: pd.DataFrame) -> Check:
    values = summary["r_hat"].to_numpy(float)
    worst = _worst_name(summary, np.where(np.isnan(values), np.inf, values).argmax())
    state: State = "pass" if np.all(values < 1.01) else "fail"
    words = f"The chains disagree about {worst}: take more warm-up and draws, or look for a second mode in the traces."
    shown = f"{np.max(values):.4f} ({worst})"
    return Check("R-hat", state, shown, "below 1.01", words if state == "fail" else "")


def _ess(summary: pd.DataFrame, kind: str) -> Check:
    values = summary[f"ess_{kind}"].to_numpy(float)
    worst = _worst_name(summary, np.where(np.isnan(values), -np.inf, values).argmin())
    state: State = "pass" if np.all(values >= 400) else "fail"
    figures = {"bulk": "a steady mean", "tail": "steady 5 % and 95 % limits"}[kind]
    words = f"{worst} has too few effective draws for {figures}: take more draws."
    return Check(
        f"{kind} ESS", state, f"{np.min(values):.0f} ({worst})", "at least 400", words if state == "fail" else ""
    )


def _divergences(count: int, draws: int) -> Check:
    state: State = "pass" if count == 0 else "note" if count <= draws / 1000 else "fail"
    words = (
        f"{count} of {draws} steps left the level set of the energy, so a narrow part of the posterior may be missed: "
        "raise the target acceptance, or reparametrise."
    )
    return Check("divergences", state, f"{count} of {draws}", "none", words if count else "")


def _energy(least: float) -> Check:
    state: State = "pass" if least >= 0.3 else "note" if least >= 0.2 else "fail"
    words = "The sampler moves slowly between energies, which heavy tails cause: take more draws, or reparametrise."
    return Check("E-BFMI", state, f"{least:.2f}", "at least 0.3", "" if state == "pass" else words)


def _depth(count: int, draws: int) -> Check:
    words = "Trajectories were cut at the greatest depth: correct, but slow. A better metric would shorten them."
    return Check(
        "tree depth", "note" if count else "pass", f"{count} of {draws} cut", "none cut", words if count else ""
    )


def _solves(count: int) -> Check:
    words = (
        f"The solver failed at {count} points, which were rejected. Harmless where the priors allow absurd parameters; "
        "if it is near the answer, loosen no tolerance but raise max_steps or take a stiff solver."
    )
    return Check("failed solves", "note" if count else "pass", str(count), "none", words if count else "")


def _agreement(comparison: pd.DataFrame) -> Check:
    distances = comparison["z"].abs().to_numpy(float)
    at = comparison.iloc[int(np.where(np.isnan(distances), np.inf, distances).argmax())]
    state: State = "pass" if np.all(distances < 4) else "fail"
    words = f"The {at['statistic']} of {at['parameter']} is not the published one: data, model or priors differ."
    shown = f"largest |z| {np.max(distances):.2f} ({at['statistic']} of {at['parameter']})"
    return Check("published reference", state, shown, "|z| below 4", words if state == "fail" else "")


def _worst_name(summary: pd.DataFrame, row: Any) -> str:
    return str(summary.index[int(row)])


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

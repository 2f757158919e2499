"""Whether a result can be used: the comparison with a reference, and what all checks together say."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sciad._checks import Check, State
from sciad._errors import InputError


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


def check_agreement(comparison: pd.DataFrame) -> Check:
    """Check that all |z| that :func:`compare` gave are below 4."""
    distances = comparison["z"].abs().to_numpy(float)
    at = comparison.iloc[int(np.where(np.isnan(distances), np.inf, distances).argmax())]
    state: State = "pass" if np.all(distances < 4) else "fail"
    words = f"The {at['statistic']} of {at['parameter']} is not the published one: data, model or priors differ."
    shown = f"largest |z| {np.max(distances):.2f} ({at['statistic']} of {at['parameter']})"
    return Check("published reference", state, shown, "|z| below 4", words if state == "fail" else "")


def check_fit(fit: Mapping[str, Any]) -> Check:
    """Check that a fit ended by its own rule, determined its parameters, and left no doubt about model and noise.

    Parameters
    ----------
    fit : mapping
        ``converged``, ``result``, ``warnings``, and the ``table`` by parameter.
    """
    limit = "converged, parameters determined, no warning"
    if not fit["converged"]:
        words = fit.get("advice", "The fit stopped early: try other starts, more steps or a better guess.")
        return Check("fit", "fail", fit["result"], limit, words)
    errors = {name: row["standard_error"] for name, row in fit["table"].items()}
    lost = [name for name, error in errors.items() if error is None or np.isnan(error)]
    if lost:
        words = f"The data do not determine {_listed(lost)}: their values mean nothing."
        return Check("fit", "fail", f"{len(lost)} of {len(errors)} parameters undetermined", limit, words)
    if fit["warnings"]:
        number = f"{len(fit['warnings'])} warning" + ("s" if len(fit["warnings"]) > 1 else "")
        return Check("fit", "note", f"converged, {number}", limit, "Read the warnings: model or noise may be wrong.")
    return Check("fit", "pass", fit["result"], limit)


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


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

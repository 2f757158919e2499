"""The checks that a posterior must pass, each with its limit and what to do when it fails."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

State = Literal["pass", "note", "fail"]
R_HAT, ESS_PER_CHAIN = 1.01, 100  # Vehtari et al. (2021)
EBFMI, LEAST_EBFMI = 0.3, 0.2  # Betancourt (2017)
RARE, FEW = 0.001, 0.01  # shares of the draws


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

    def __str__(self) -> str:
        return f"{self.name} {self.measured}, expected {self.limit}. {self.words}".rstrip()


def check_posterior(summary: pd.DataFrame, diagnostics: Mapping[str, Any], *, draws: int) -> list[Check]:
    """Check that the chains agree, that there are enough effective draws, and that the sampler had no trouble.

    Parameters
    ----------
    summary : pandas.DataFrame
        Indexed by parameter, with columns ``r_hat``, ``ess_bulk`` and ``ess_tail``.
    diagnostics : mapping
        ``chains`` (4 if absent); and ``divergences``, ``ebfmi``, ``failed_solves``, ``tree_depth_saturated``: those
        absent are not checked.
    draws : int
        Number of draws of all chains together.

    Returns
    -------
    list of Check
        R-hat < 1.01; bulk and tail ESS at least 100 for each chain; no divergence (a note up to 0.1 % of the draws);
        E-BFMI at least 0.3 (a note down to 0.2); a note beyond 1 % of failed solves or of trajectories cut short.

    Notes
    -----
    Limits after A. Vehtari et al., Bayesian Analysis 16 (2021), and M. Betancourt, arXiv:1701.02434 (2017).
    """
    enough = ESS_PER_CHAIN * int(diagnostics.get("chains", 4))
    found = [_r_hat(summary), _ess(summary, "bulk", enough), _ess(summary, "tail", enough)]
    energies = np.atleast_1d(np.asarray(diagnostics.get("ebfmi", ()), dtype=float))
    counted = {"divergences": _divergences, "tree_depth_saturated": _depth, "failed_solves": _solves}
    for name, check in counted.items():
        if diagnostics.get(name) is not None:
            found.append(check(int(diagnostics[name]), draws))
    return [*found, _energy(float(energies.min()))] if energies.size else found


def _r_hat(summary: pd.DataFrame) -> Check:
    values = summary["r_hat"].to_numpy(float)
    worst = _name(summary, np.where(np.isnan(values), np.inf, values).argmax())
    good = bool(np.all(values < R_HAT))
    if np.isnan(values).all():
        return Check("R-hat", "fail", "unknown", f"below {R_HAT}", "One chain cannot be compared: take four.")
    words = f"The chains disagree about {worst}: take more warm-up and draws, or look for a second mode in the traces."
    return Check("R-hat", *_state(good), f"{np.max(values):.4f} ({worst})", f"below {R_HAT}", "" if good else words)


def _ess(summary: pd.DataFrame, kind: str, enough: int) -> Check:
    values = summary[f"ess_{kind}"].to_numpy(float)
    worst = _name(summary, np.where(np.isnan(values), -np.inf, values).argmin())
    good = bool(np.all(values >= enough))
    figures = {"bulk": "a steady mean", "tail": "steady 5 % and 95 % limits"}[kind]
    words = f"{worst} has too few effective draws for {figures}: take more draws."
    measured = f"{np.min(values):.0f} ({worst})"
    return Check(f"{kind} ESS", *_state(good), measured, f"at least {enough}", "" if good else words)


def _divergences(count: int, draws: int) -> Check:
    state: State = "pass" if count == 0 else "note" if count <= RARE * draws else "fail"
    words = (
        "Transitions left the level set of the energy, so a narrow part of the posterior may be missed: raise the "
        "target acceptance, `solver=sd.NUTS(0.95)` or `--set target_accept=0.95`, or reparametrise."
    )
    return Check("divergences", state, f"{count} of {draws}", "none", words if count else "")


def _energy(least: float) -> Check:
    state: State = "pass" if least >= EBFMI else "note" if least >= LEAST_EBFMI else "fail"
    words = "The sampler moves slowly between energies, which heavy tails cause: take more draws, or reparametrise."
    return Check("E-BFMI", state, f"{least:.2f}", f"at least {EBFMI}", "" if state == "pass" else words)


def _depth(count: int, draws: int) -> Check:
    many = count > FEW * draws
    words = "Trajectories were cut at the greatest depth: correct, but slow. Raise `max_tree_depth`, or reparametrise."
    measured = f"{count} of {draws} cut"
    return Check("tree depth", "note" if many else "pass", measured, f"at most {FEW:.0%} cut", words if many else "")


def _solves(count: int, draws: int) -> Check:
    many = count > FEW * draws
    words = (
        "Trajectories ended where the model cannot be evaluated; these points were rejected. Harmless where the priors "
        "allow absurd parameters; near the answer, raise the solver's `max_steps` or take a stiff solver."
    )
    measured = f"{count} of {draws}"
    return Check("failed solves", "note" if many else "pass", measured, f"at most {FEW:.0%}", words if many else "")


def _state(good: bool) -> tuple[State]:
    return ("pass",) if good else ("fail",)


def _name(summary: pd.DataFrame, row: Any) -> str:
    return str(summary.index[int(row)])

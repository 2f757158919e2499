"""Missing terms of predation found by a network in the equation, and read back as formulas.

Set-up of C. Rackauckas et al., Universal Differential Equations for Scientific Machine Learning (2020): Lotka-Volterra
with rates (1.3, 0.9, 0.8, 1.8) from (0.44249296, 4.6280594), 31 points to t = 3, noise of 0.5 % of each state's mean
(of 5 % in the second case). Growth of the prey and death of the predator are known; what they do to each other is not.
A seed draws the noise and the network's first weights.

A seed is ``recovered`` if the formula has one term for each state, prey times predator, and no other.
``extrapolation_rel_l2`` is the relative error of both states up to t = 50, the worst and the median of those recovered:
some ten periods, of which the data show less than one. ``coefficient_error`` is the median of the largest relative
error of the two coefficients.

``sciad`` is `sciad.fit` with a network of 16 tanh units, whose weights have normal priors that count, then
`sciad.sindy`.
``regression_alone`` takes the network of that fit, and of the same candidates the formula by the regression's own
information criterion, as the paper does. ``sindy_on_splines`` has no network: it regresses the slopes of smoothing
splines, less the known terms, with the same candidates and criterion.
"""

import time
from functools import partial
from statistics import median
from typing import Any

from benchmarks.measure import MeasurementError, Row, isolated, progress, rows

NOISE = {"lotka_volterra": 0.005, "lotka_volterra_noise_5_percent": 0.05}
CASES = tuple(NOISE)
SYSTEMS = ("sciad", "regression_alone", "sindy_on_splines")
SEEDS = 10
END = 50.0


def run(case: str, budget: float, peers: bool) -> list[Row]:
    """Measure all systems on one case in one process; all live in our environment, so ``peers`` adds none."""
    del peers
    progress(case)
    try:
        figures = isolated(all_seeds, timeout=3 * budget + 600, case=case, budget=budget)
    except MeasurementError as error:
        progress(str(error))
        figures = {system: {"failed": (1.0, "runs")} for system in SYSTEMS}
    return [row for system in SYSTEMS for row in rows(case, system, figures[system])]


def all_seeds(case: str, budget: float) -> dict[str, dict[str, tuple[float, str]]]:
    """Run seeds while the budget lasts; runs in a fresh process."""
    from benchmarks.ude_systems import Experiment, by_sciad, on_splines, regression_alone

    found: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
    began = time.perf_counter()
    for seed in range(SEEDS):
        if time.perf_counter() - began > budget:
            break
        experiment = Experiment.drawn(NOISE[case], seed, END)
        start = time.perf_counter()
        fitted, outcome = by_sciad(experiment, seed)
        found["sciad"].append(outcome | {"seconds": time.perf_counter() - start})
        others = {"regression_alone": partial(regression_alone, fitted=fitted), "sindy_on_splines": on_splines}
        for system, method in others.items():
            start = time.perf_counter()
            outcome = method(experiment)
            found[system].append(outcome | {"seconds": time.perf_counter() - start})
        progress(f"seed {seed}: " + "; ".join(f"{system} {found[system][-1]['text']}" for system in SYSTEMS))
    return {system: _figures(outcomes) for system, outcomes in found.items()}


def _figures(outcomes: list[dict[str, Any]]) -> dict[str, tuple[float, str]]:
    right = [outcome for outcome in outcomes if outcome["recovered"]]
    errors = [outcome["extrapolation"] for outcome in right] or [float("nan")]
    return {
        "recovered": (len(right) / len(outcomes), "1"),
        "seeds": (float(len(outcomes)), "runs"),
        "coefficient_error": (median([outcome["coefficient_error"] for outcome in right] or [float("nan")]), "1"),
        "extrapolation_rel_l2": (median(errors), "1"),
        "worst_extrapolation_rel_l2": (max(errors), "1"),
        "run_seconds": (median(outcome["seconds"] for outcome in outcomes), "s"),
    }

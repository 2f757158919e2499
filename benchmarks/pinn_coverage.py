"""Whether errors of estimates by networks are as large as is said: how often 90 % intervals hold the truth.

Each of 50 repetitions draws places and noise anew, and fits a network with default settings but for its size. The
interval of a number is its estimate and 1.645 standard errors to both sides. ``coverage_...`` is the share of
repetitions whose interval holds the truth; with 50 of them, one that is right lies between 0.82 and 0.96 nine times in
ten. ``error_...`` is the root mean square of the errors, by what is said: one, if all is well.

``rod``: the heat equation on a rod with cold ends, of which rate, loss and noise are unknown, and 80 readings with
noise of 0.02. ``coefficient``: a decay whose rate varies in space, from 25 readings of one profile with noise of 0.01;
its logarithm is a sum of five bumps with normal priors that count, and its intervals are taken at nine places.

``simulation`` is nonlinear least squares with SciPy over the exact solution or a fine difference scheme, with
intervals by the same linearisation.
"""

from typing import Any, TypedDict

from benchmarks.measure import MeasurementError, Row, isolated, progress, rows

CASES = ("rod", "coefficient")
REPETITIONS = 50
QUANTILE = 1.645  # of the normal law, for 90 %


class Repeated(TypedDict):
    """By name: errors of the estimates in units of their standard errors."""

    sciad: dict[str, list[float]]
    simulation: dict[str, list[float]]


def run(case: str, budget: float, peers: bool) -> list[Row]:
    """Repeat one case 50 times, each fit for at most ``budget`` seconds, as a rule for much less."""
    del peers
    progress(f"{case}, {REPETITIONS} repetitions")
    try:
        made: Repeated = isolated(repeated, timeout=REPETITIONS * (budget + 60), case=case, budget=budget)
    except MeasurementError as error:
        progress(str(error))
        return rows(case, "sciad", {"failed": (1.0, "runs")})
    found: list[Row] = []
    for system, by_name in (("sciad", made["sciad"]), ("simulation", made["simulation"])):
        figures = {}
        for name, scores in by_name.items():
            figures[f"coverage_{name}"] = sum(abs(score) <= QUANTILE for score in scores) / len(scores), "1"
            figures[f"error_{name}"] = (sum(score**2 for score in scores) / len(scores)) ** 0.5, "1"
        found += rows(case, system, figures)
    return found


def repeated(case: str, budget: float) -> Repeated:
    """Repeat one case; runs in a fresh process."""
    from benchmarks import pinn_coverage_cases as cases

    one = {"rod": cases.rod, "coefficient": cases.coefficient}[case]
    made: dict[str, dict[str, list[float]]] = {"sciad": {}, "simulation": {}}
    for repetition in range(REPETITIONS):
        scores: dict[str, dict[str, Any]] = one(repetition, budget)
        progress(f"{repetition + 1} of {REPETITIONS}: {scores}")
        for system, by_name in scores.items():
            for name, several in by_name.items():
                made[system].setdefault(name, []).extend(several)
    return Repeated(sciad=made["sciad"], simulation=made["simulation"])

"""Equations on domains with corners and holes, in five dimensions, of two materials and of a fluid, by defaults.

References are those of `benchmarks.domain_references`: ``reference_floor`` is their own error. ``rel_l2`` is the
relative L2 error of the fit's answer over all its points and fields (of the cavity both velocities), the median of
three seeds, ``run_seconds`` the time of a fit without, ``compile_seconds`` that of compilation.
``held_out_residual`` is the root mean square of the equation's residual on fresh points.

``sciad`` chooses by itself, and its time too: one linear solve over random features where the equation is linear and
that solves it, else a trained network. ``sciad_trained`` is the trained network in any case, for the budget. Of the
five-dimensional cube and the two materials the boundary is met at points, not by the ansatz, since the function that
says the values there goes on inside as the solution itself.
"""

from statistics import median

from benchmarks.domain_references import CASES as REFERENCES
from benchmarks.measure import MeasurementError, Row, isolated, progress, rows

CASES = tuple(REFERENCES)
SYSTEMS, SEEDS = ("sciad", "sciad_trained"), (0, 1, 2)
UNITS = {"rel_l2": "1", "run_seconds": "s", "compile_seconds": "s", "held_out_residual": "1"}


def run(case: str, budget: float, peers: bool) -> list[Row]:
    """Measure one case, each seed for about ``budget`` seconds; there are no peers."""
    del peers
    found = []
    for system in SYSTEMS if case != "cavity" else SYSTEMS[:1]:
        progress(f"{case}, {system}")
        trained = system == "sciad_trained"
        try:
            ours = [
                isolated(solved, timeout=2 * budget + 600, case=case, seed=seed, budget=budget, trained=trained)
                for seed in SEEDS
            ]
        except MeasurementError as error:
            progress(str(error))
            found += rows(case, system, {"failed": (1.0, "runs")})
            continue
        found += rows(case, system, {name: (median(one[name] for one in ours), unit) for name, unit in UNITS.items()})
    return found + rows(case, "sciad", {"reference_floor": (REFERENCES[case]().floor, "1")})


def solved(case: str, seed: int, budget: float, *, trained: bool) -> dict[str, float]:
    """Solve a case; runs in a fresh process."""
    from benchmarks.pinn_domains_cases import solve

    return solve(case, seed, budget, trained=trained)

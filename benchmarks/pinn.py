"""Fields from equations, forward: how near to the exact solution, with default settings, in a budget of seconds.

``sciad`` trains a network by `sciad.Collocation` for the budget, compilation included; ``sciad_last_layer`` makes one
linear solve over random features, where the equation is linear, and takes as long as it takes. ``rel_l2`` is the median
over three seeds of the relative error on a fresh grid of 201 by 201 points; ``worst_rel_l2`` the worst of them;
``held_out_residual`` the root mean square of the equation's residual on points never trained on. Solutions are closed
forms: ``reference_floor`` is how far that of Burgers, an integral, changes with half as many nodes. What a case is told
beyond its statement is in ``benchmarks/pinn_cases.py``: that of convection, to let the span of time grow.
"""

from statistics import median
from typing import Any

from benchmarks.measure import MeasurementError, Row, isolated, progress, rows

LINEAR = ("poisson2d", "helmholtz", "convection", "wave")
CASES = (*LINEAR, "burgers")
SEEDS = 3


def run(case: str, budget: float, peers: bool) -> list[Row]:
    """Measure on one case; ``peers`` adds none yet that live in environments of their own."""
    del peers
    found = []
    for system in ("sciad", "sciad_last_layer") if case in LINEAR else ("sciad",):
        try:
            figures = _all_seeds(case, system, budget)
        except MeasurementError as error:
            progress(str(error))
            figures = {"failed": (1.0, "runs")}
        found += rows(case, system, figures)
    return found


def _all_seeds(case: str, system: str, budget: float) -> dict[str, tuple[float, str]]:
    seeds = []
    for seed in range(SEEDS):
        progress(f"{case}, {system}, seed {seed}")
        seeds.append(isolated(one_seed, timeout=2 * budget + 300, case=case, system=system, seed=seed, budget=budget))

    def middle(name: str) -> float:
        return median(float(each[name]) for each in seeds)

    return {
        "rel_l2": (middle("rel_l2"), "1"),
        "worst_rel_l2": (max(float(each["rel_l2"]) for each in seeds), "1"),
        "held_out_residual": (middle("held_out_residual"), "1"),
        "reference_floor": (middle("reference_floor"), "1"),
        "seconds": (middle("seconds"), "s"),
        "compile_seconds": (middle("compile_seconds"), "s"),
        "steps": (middle("steps"), "1"),
    }


def one_seed(case: str, system: str, seed: int, budget: float) -> dict[str, Any]:
    """Solve one case; runs in a fresh process."""
    import time

    import numpy as np

    import sciad as sd
    from benchmarks.pinn_cases import CASES as POSED

    posed = POSED[case]
    problem = sd.PDEProblem(posed.domain, conditions=posed.conditions)
    solver = sd.LastLayer() if system == "sciad_last_layer" else sd.Collocation(budget=budget, **posed.told)
    began = time.perf_counter()
    fit = sd.fit(problem, posed.equation, solver=solver, key=seed, progress=False)
    seconds = time.perf_counter() - began
    axes = {n: np.linspace(*span, 201) for n, span in zip(posed.domain.coordinates, posed.domain.bounds, strict=True)}
    grid = np.meshgrid(*axes.values(), indexing="ij")
    exact, coarse = posed.exact(*grid), posed.coarse(*grid)
    error = np.linalg.norm(fit(**axes)["u"].to_numpy() - exact) / np.linalg.norm(exact)
    return {
        "rel_l2": float(error),
        "held_out_residual": fit.held_out["equation"],
        "reference_floor": float(np.linalg.norm(coarse - exact) / np.linalg.norm(exact)),
        "seconds": seconds,
        "compile_seconds": fit.stats["compile_seconds"],
        "steps": fit.stats["steps"],
    }

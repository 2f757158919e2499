"""Parameters of equations found from far: published starts, and random ones under noise.

Cases named ``short`` and ``long`` are SciMLBenchmarks' parameter estimation problems, without noise, from the published
starts: ``rel_error`` is the largest relative error of a parameter, ``run_seconds`` a fit once everything is compiled,
``compile_seconds`` what the first fit takes more. The others count, over random starts in the published "global" boxes,
how many fits end at the global optimum: with a sum of squares at most 1 % above that of the optimum next to the true
parameters (``loss_rate``), and each parameter within 1 % of its or the sum below it (``success_rate``). ``loss_excess``
is the median of minus the log-likelihood, less that of this optimum: Lorenz has many optima under noise, some close in
likelihood and not in the parameters.
``starts`` is how many of 100 (``boehm``: 200) fitted into the budget; all systems take the same, in the same
order.

``sciad`` is `sciad.fit` with default settings and the start as the guess: it brings starts of its own, and easier
problems, when the answer is in doubt. ``scipy_least_squares`` and ``optimistix_levenberg_marquardt`` shoot once from
the start, with our solver's Jacobians and with Diffrax's; ``scipy_differential_evolution`` searches the box without a
start. ``boehm`` counts starts, log-uniform in the box of the PEtab problem, that end within 0.05 of its best negative
log-likelihood; 1000 starts of the usual tools gave 0.024 (Hass et al., Bioinformatics 35, 2019).
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.measure import MeasurementError, Row, isolated, progress, rows

PUBLISHED = {
    "lotka_volterra_short": ("lotka_volterra", 3.0, 301, "local"),
    "lotka_volterra_long": ("lotka_volterra", 30.0, 3001, "global"),
    "fitzhugh_nagumo_long": ("fitzhugh_nagumo", 30.0, 3001, "global"),
    "lorenz_short": ("lorenz", 3.0, 301, "local"),
    "lorenz_long": ("lorenz", 30.0, 3001, "global"),
}
RANDOM = {
    f"{name}_{points}_points_{percent}_percent": (name, points, percent / 100)
    for name in ("lotka_volterra", "fitzhugh_nagumo", "lorenz")
    for points in (3001, 31)
    for percent in (0, 5, 20)
}
CASES = (*PUBLISHED, *RANDOM, "boehm")
SYSTEMS = ("sciad", "scipy_least_squares", "optimistix_levenberg_marquardt", "scipy_differential_evolution")
STARTS = 100
END = 30.0
BOEHM_BEST = 138.2220


def run(case: str, budget: float, peers: bool) -> list[Row]:
    """Measure all systems on one case; all live in our environment, so ``peers`` adds none."""
    del peers
    measure = published if case in PUBLISHED else random_starts if case in RANDOM else boehm_starts
    found = []
    for system in SYSTEMS if measure is not boehm_starts else ("sciad",):
        progress(f"{case}, {system}")
        try:
            figures = isolated(measure, timeout=3 * budget + 300, case=case, system=system, budget=budget)
        except MeasurementError as error:
            progress(str(error))
            figures = {"failed": (1.0, "runs")}
        found += rows(case, system, figures)
    return found


def published(case: str, system: str, budget: float) -> dict[str, tuple[float, str]]:
    """Fit twice from the published start; runs in a fresh process."""
    del budget
    import numpy as np

    from benchmarks.ode_fits import FITTERS, task

    name, end, points, box = PUBLISHED[case]
    of = task(name, end=end, points=points, noise=0.0, box=box)
    fit, start = FITTERS[system](of), np.array(of.system.starts[box])
    first, _ = _timed(fit, start, 0)
    again, estimate = _timed(fit, start, 0)
    true = np.array(list(of.system.true.values()))
    error = float(np.max(np.abs(estimate.values / true - 1)))
    return {"rel_error": (error, "1"), "run_seconds": (again, "s"), "compile_seconds": (max(first - again, 0.0), "s")}


def random_starts(case: str, system: str, budget: float) -> dict[str, tuple[float, str]]:
    """Fit from random starts while the budget lasts; runs in a fresh process."""
    import numpy as np

    from benchmarks.ode_fits import FITTERS, by_scipy, task

    name, points, noise = RANDOM[case]
    of = task(name, end=END, points=points, noise=noise)
    best = by_scipy(of)(np.array(list(of.system.true.values())), 0)
    low, high = np.array(of.box).T
    starts = low + (high - low) * np.random.default_rng(1).random((STARTS, low.size))
    fit = FITTERS[system](of)
    fit(starts[0], 0)  # compiles

    allowed, excess = 0.01 * best.cost + 0.05, []

    def reached(i: int) -> bool:
        estimate = fit(starts[i], i)
        excess.append(float(estimate.cost - best.cost))
        near = np.max(np.abs(estimate.values / best.values - 1)) <= 0.01
        return bool(excess[-1] <= 0 or (excess[-1] <= allowed and near))

    found = _rate(reached, budget)
    low = sum(each <= allowed for each in excess)
    return found | {"loss_rate": (low / len(excess), "1"), "loss_excess": (median(excess), "1")}


def boehm_starts(case: str, system: str, budget: float) -> dict[str, tuple[float, str]]:
    """Fit Boehm's data from random starts while the budget lasts; runs in a fresh process."""
    del case, system
    import numpy as np

    import sciad as sd
    from benchmarks.ode_fits import boehm

    problem, model = boehm()
    starts = np.random.default_rng(1).uniform(-5.0, 5.0, (2 * STARTS, 6))
    return _rate(lambda i: sd.fit(problem, model(starts[i]), key=i).loss <= BOEHM_BEST + 0.05, budget, 2 * STARTS)


def _rate(reached: Callable[[int], bool], budget: float, starts: int = STARTS) -> dict[str, tuple[float, str]]:
    found, seconds, began = [], [], time.perf_counter()
    while len(found) < starts and time.perf_counter() - began < budget:
        taken, ok = _timed(reached, len(found))
        found.append(ok)
        seconds.append(taken)
    return {
        "success_rate": (sum(found) / len(found), "1"),
        "starts": (float(len(found)), "runs"),
        "run_seconds": (median(seconds), "s"),
    }


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    found = function(*arguments)
    return time.perf_counter() - began, found

"""Effective draws a second from two ODE posteriors with known answers: sciad and NumPyro as two users write it.

Every system draws 4 chains of 1000 from the same posterior at the same tolerances, in a fresh process with compile
cache off and float64 on, timed once from the model's definition (imports done) to draws in hand: tracing, compilation,
finding a start, warm-up and sampling. That time gives ``ess_per_second_with_compile``. ``compile_seconds`` is the part
of it in which JAX reports that it traces, lowers or compiles; ``run_seconds`` is the rest and gives ``ess_per_second``.
(sciad compiles in threads while it runs, so its ``run_seconds`` are the seconds of its warm-up and sampling, slowed by
that, and all else counts as compilation, the posterior and prior predictive draws that it also makes included.)
(What NumPyro traces outside ``jit`` goes unreported: next to nothing with parallel chains, a few per cent of the
compilation with vectorized ones.) A second call could not be timed instead: ``MCMC.run`` compiles anew in every call.
The effective sample size is ArviZ's rank-normalised bulk ESS, the least over the sampled parameters; ``max_abs_z``
compares means and standard deviations with the reference in units of the joint Monte Carlo error. Keys are the seeds
0, 1, 2: speeds and sizes are medians over them, R-hat, z and divergences the worst. Each has the budget to itself. One
that is stopped there counts among the speeds with compilation as if each of its draws had counted once by then;
``seeds`` tells how many ended, and the other figures are of these.

A system whose first seed cannot finish in the budget is tried again with a quarter of the draws and warm-up:
``draws_per_chain`` tells. ``numpyro_expert`` is the faster of parallel and vectorized chains; the slower follows under
its own name.
"""

import time
from collections.abc import Callable
from math import hypot, isfinite
from statistics import median
from typing import Any

from benchmarks.measure import CompileClock, MeasurementError, OverBudgetError, Row, isolated, progress, rows
from benchmarks.scenarios import POSTERIORS, Posterior

CASES = tuple(POSTERIORS)
DRAWS, SEEDS = 1000, 3
EXPERTS = ("numpyro_expert_parallel", "numpyro_expert_vectorized")
UNITS = {
    "ess_per_second_with_compile": "1/s",
    "ess_per_second": "1/s",
    "min_ess_bulk": "draws",
    "max_r_hat": "1",
    "max_abs_z": "1",
    "divergences": "draws",
    "run_seconds": "s",
    "compile_seconds": "s",
    "draws_per_chain": "draws",
    "seeds": "runs",
}
WORST = ("max_r_hat", "max_abs_z", "divergences")

Draws = dict[str, Any]  # each parameter's (chains, draws) array
Sampler = Callable[[int], tuple[Draws, int, float | None]]  # seed -> draws, number of divergences, seconds of running


def run(case: str, budget: float, peers: bool) -> list[Row]:
    """Measure all systems on one posterior; NumPyro is a dependency of sciad, so ``peers`` adds none."""
    del peers
    ours = _rows(case, "sciad", _figures(case, "sciad", budget))
    newcomer = _rows(case, "numpyro_default", _figures(case, "numpyro_default", budget))
    experts = {system: _figures(case, system, budget) for system in EXPERTS}
    best, other = sorted(EXPERTS, key=lambda system: experts[system].get("ess_per_second", 0.0), reverse=True)
    return [*ours, *newcomer, *_rows(case, "numpyro_expert", experts[best]), *_rows(case, other, experts[other])]


def _rows(case: str, system: str, figures: dict[str, float]) -> list[Row]:
    return rows(case, system, {name: (value, UNITS.get(name, "runs")) for name, value in figures.items()})


def _figures(case: str, system: str, budget: float) -> dict[str, float]:
    """Measure one system with as many draws as the budget allows."""
    draws = DRAWS
    while draws >= DRAWS // 16:
        try:
            return _summary(*_seeds(case, system, budget, draws), draws)
        except OverBudgetError as error:
            progress(str(error))
            draws //= 4
        except MeasurementError as error:
            progress(str(error))
            return {"failed": 1.0}
    return {"failed": 1.0}


def _seeds(case: str, system: str, budget: float, draws: int) -> tuple[list[dict[str, float]], list[float]]:
    """Return the figures of the seeds that end in the budget, and what the others are taken for."""
    ended: list[dict[str, float]] = []
    bounds: list[float] = []
    for seed in range(SEEDS):
        progress(f"{case}, {system}, seed {seed}, 4 chains of {draws} draws")
        try:
            ended.append(isolated(measure, timeout=budget, case=case, system=system, seed=seed, draws=draws))
        except OverBudgetError as error:
            if not seed:
                raise
            progress(str(error))
            bounds.append(4 * draws / budget)
    return ended, bounds


def _summary(ended: list[dict[str, float]], bounds: list[float], draws: int) -> dict[str, float]:
    """Return medians over seeds, and the worst of what tells whether the draws are right."""
    merged = {name: (max if name in WORST else median)([run[name] for run in ended]) for name in ended[0]}
    speeds = [run["ess_per_second_with_compile"] for run in ended] + bounds
    whole = {"ess_per_second_with_compile": median(speeds), "draws_per_chain": draws, "seeds": len(ended)}
    return merged | whole


def measure(case: str, system: str, seed: int, draws: int) -> dict[str, float]:
    """Time one call of one system; runs in a fresh process."""
    build, clock = _imported(system), CompileClock()
    start = time.perf_counter()
    found, divergences, running = build(case, draws)(seed)
    whole = time.perf_counter() - start
    run_seconds = whole - clock.seconds if running is None else running
    ess = _min_ess(found, POSTERIORS[case])
    return {
        "ess_per_second_with_compile": ess / whole,
        "ess_per_second": ess / run_seconds,
        "min_ess_bulk": ess,
        "max_r_hat": _max_r_hat(found, POSTERIORS[case]),
        "max_abs_z": _max_abs_z(found, POSTERIORS[case]),
        "divergences": float(divergences),
        "run_seconds": run_seconds,
        "compile_seconds": whole - run_seconds,
    }


def _imported(system: str) -> Callable[[str, int], Sampler]:
    """Do the imports of a system, and return what builds its sampler: only the latter is timed."""
    if system == "sciad":
        import sciad as sd
        from benchmarks import sciad_posteriors

        sd.use_cores()
        return sciad_posteriors.sampler
    import diffrax
    import numpyro

    from benchmarks import numpyro_peers

    numpyro.enable_validation(False)  # or the first failed solve of an untraced call ends the run
    kind = system.removeprefix("numpyro_expert_")
    if kind == "parallel":
        numpyro.set_host_device_count(4)

    def build(case: str, draws: int) -> Sampler:
        if system == "numpyro_default":
            return _numpyro(numpyro_peers.default(case, draws=draws), numpyro_peers.solver())
        mcmc = numpyro_peers.expert(case, draws=draws, chain_method=kind)
        return _numpyro(mcmc, numpyro_peers.solver(adjoint=diffrax.ForwardMode()))

    return build


def _numpyro(mcmc: Any, solve: Any) -> Sampler:
    """Return NumPyro's sampler as a function of the seed."""
    import jax
    import numpy as np

    def sample(seed: int) -> tuple[Draws, int, None]:
        mcmc.run(jax.random.key(seed), solve)
        draws = {name: np.asarray(values) for name, values in mcmc.get_samples(group_by_chain=True).items()}
        return draws, int(mcmc.get_extra_fields()["diverging"].sum()), None

    return sample


def _statistic(name: str, values: Any, method: str) -> float:
    """Return ArviZ's ``ess``, ``rhat`` or ``mcse`` of one parameter's (chains, draws) array."""
    from arviz_stats.base.array import array_stats

    return float(getattr(array_stats, name)(values, method=method))


def _min_ess(draws: Draws, posterior: Posterior) -> float:
    sizes = [_statistic("ess", draws[name], "bulk") for name in posterior.sampled]
    return min(size if isfinite(size) else 0.0 for size in sizes)  # not finite: a chain that never moved


def _max_r_hat(draws: Draws, posterior: Posterior) -> float:
    return max(_statistic("rhat", draws[name], "rank") for name in posterior.sampled)


def _max_abs_z(draws: Draws, posterior: Posterior) -> float:
    """Return the largest |z| of the means and standard deviations of all reference parameters.

    The reference's own error is that of ``n`` independent normal draws: sd/sqrt(n) for the mean, sd/sqrt(2 n) for the
    standard deviation.
    """
    from sciad._posterior import mcse_sd

    scores, n = [], posterior.effective_draws
    for name, (mean, sd) in posterior.reference.items():
        error_mean = hypot(_statistic("mcse", draws[name], "mean"), sd / n**0.5)
        error_sd = hypot(mcse_sd(draws[name]), sd / (2 * n) ** 0.5)
        scores += [abs(draws[name].mean() - mean) / error_mean, abs(draws[name].std(ddof=1) - sd) / error_sd]
    return float(max(scores))

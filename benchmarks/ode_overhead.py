"""What `sciad.solvers.ODE` costs beside the bare Diffrax call, for solves and for gradients; all in float64.

``diffrax`` is ``diffeqsolve`` with its default adjoint, ``diffrax_forward`` the same with ``ForwardMode`` and
``jax.jacfwd``; ``sciad`` lets the module choose its sensitivity mode, ``sciad_forward`` and ``sciad_reverse`` set it;
``sciad_separate_kernels`` is ``sciad_forward`` without the compilation into one kernel of `sciad.solvers.one_kernel`.
The gradient is that of half the sum of squares of the saved states, in units of their typical sizes, with respect to
the parameters. All systems of one case run in one process, alternating in rounds of about 10 ms a system;
``run_seconds`` is the median and ``least_run_seconds`` the minimum over rounds, ``ratio_to_bare`` the median over
rounds of the ratio within a round to the bare ``diffrax`` call, ``ratio_to_fastest_bare`` to the faster of the two bare
ones. Names with ``batch`` are of 4 solves with different parameters under ``vmap``; ``compile_seconds`` is tracing and
compiling in a fresh process; ``gradient_rel_error`` compares with a gradient at tolerance 1e-11, both in units of the
parameters. ``torchdiffeq``, in an environment of its own with ``--peers``, differentiates through its steps, and by its
adjoint equation under the names with ``adjoint``. The case ``crossover`` times the gradients alone over a sweep of
right-hand sides with 2 to 600 parameters; ``forward_over_reverse`` above 1 says that reverse wins there.
"""

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, cast

from benchmarks import torchdiffeq_peer
from benchmarks.measure import MeasurementError, Row, interleave, isolated, progress, ratio, rows

CASES = ("lotka_volterra", "robertson", "lorenz", "linear_50", "crossover")
BARE = ("diffrax", "diffrax_forward")
SOLVES = (*BARE, "sciad")
SEPARATE = "sciad_separate_kernels"
GRADIENTS = (*BARE, "sciad", "sciad_forward", SEPARATE, "sciad_reverse")
BATCH = 4


def run(case: str, budget: float, peers: bool) -> list[Row]:
    """Measure one case; bare Diffrax is a dependency of sciad, and ``peers`` adds torchdiffeq."""
    if case == "crossover":
        return _crossover(budget)
    found = _timings(case, ["solve", "batch_solve", "gradient", "batch_gradient"], GRADIENTS, budget)
    for system in GRADIENTS:
        found += _compilation(case, system)
    return found + (_torchdiffeq(case, found, budget / 10) if peers and case in torchdiffeq_peer.CASES else [])


def _torchdiffeq(case: str, ours: list[Row], seconds: float) -> list[Row]:
    """Time torchdiffeq in its own environment."""
    try:
        progress(f"{case}, torchdiffeq")
        found = isolated(
            torchdiffeq_peer.measure, timeout=600 + seconds, peer="torchdiffeq", case=case, seconds=seconds
        )
    except MeasurementError as error:
        progress(str(error))
        return rows(case, "torchdiffeq", {"failed": (1.0, "runs")})
    bare = {row["metric"]: row["value"] for row in ours if row["system"] == "diffrax"}
    for name in ("run_seconds", "gradient_run_seconds"):
        if bare.get(name):
            found[name.replace("run_seconds", "ratio_to_bare")] = (found[name][0] / bare[name], "1")
    return rows(case, "torchdiffeq", found)


def _crossover(budget: float) -> list[Row]:
    """Time gradients over the sweep, each right-hand side with an equal part of the budget."""
    from benchmarks.ode_systems import SWEEP

    systems = (*BARE, "sciad_forward", "sciad_reverse")
    found = []
    for case in SWEEP:
        part = _timings(case, ["gradient"], systems, budget / len(SWEEP))
        seconds = {row["system"]: row["value"] for row in part if row["metric"] == "gradient_run_seconds"}
        found += part
        if seconds:
            quotient = (seconds["sciad_forward"] or 0.0) / (seconds["sciad_reverse"] or 1.0)
            found += rows(case, "sciad", {"forward_over_reverse": (quotient, "1")})
    return found


def _timings(case: str, quantities: list[str], systems: tuple[str, ...], budget: float) -> list[Row]:
    """Time the systems against one another in one fresh process; compilation there comes on top of the budget."""
    try:
        progress(f"{case}: {', '.join(quantities)}")
        found = isolated(
            timings, timeout=600 + 2 * budget, case=case, quantities=quantities, systems=systems, seconds=budget / 2
        )
    except MeasurementError as error:
        progress(str(error))
        return rows(case, "sciad", {"failed": (1.0, "runs")})
    return [row for system, figures in found.items() for row in rows(case, system, figures)]


def _compilation(case: str, system: str) -> list[Row]:
    """Time compilation for one system in a process of its own."""
    try:
        progress(f"{case}, {system}: compile time")
        return rows(case, system, isolated(compile_times, timeout=300, case=case, system=system))
    except MeasurementError as error:
        progress(str(error))
        return rows(case, system, {"failed": (1.0, "runs")})


def timings(case: str, quantities: list[str], systems: list[str], seconds: float) -> dict[str, dict[str, Any]]:
    """Time the quantities of one case for all systems in alternation; runs in a fresh process."""
    found: dict[str, dict[str, Any]] = {system: {} for system in systems}
    for quantity in quantities:
        theta, functions = _functions(case, quantity, systems)
        calls = {system: partial(_blocking, function, theta) for system, function in functions.items()}
        samples = interleave(calls, seconds=seconds / len(quantities))
        for system, times in samples.items():
            found[system] |= _figures(quantity, times, [samples[bare] for bare in BARE])
        if quantity == "gradient":
            for system, error in _gradient_errors(_problem(case), functions).items():
                found[system]["gradient_rel_error"] = (error, "1")
    return found


def _figures(quantity: str, times: list[float], bare: list[list[float]]) -> dict[str, tuple[float, str]]:
    """Return a system's figures; ``bare`` are the rounds of the Diffrax systems, the one with defaults first."""
    prefix = "" if quantity == "solve" else f"{quantity.removesuffix('_solve')}_"
    return {
        f"{prefix}run_seconds": (median(times), "s"),
        f"least_{prefix}run_seconds": (min(times), "s"),
        f"{prefix}ratio_to_bare": (ratio(times, bare[0]), "1"),
        f"{prefix}ratio_to_fastest_bare": (ratio(times, min(bare, key=median)), "1"),
    }


def compile_times(case: str, system: str) -> dict[str, tuple[float, str]]:
    """Time tracing and compiling of the solve and then of the gradient; runs in a fresh process."""
    import time

    found = {}
    for quantity, name in (("solve", "compile_seconds"), ("gradient", "gradient_compile_seconds")):
        theta, functions = _functions(case, quantity, [system])
        if system not in functions:
            continue
        start = time.perf_counter()
        functions[system].lower(theta).compile()
        found[name] = (time.perf_counter() - start, "s")
    return found


def _functions(case: str, quantity: str, systems: list[str]) -> tuple[Any, dict[str, Any]]:
    """Return the parameters, or a batch of them, and each system's compiled function of them."""
    import jax
    import jax.numpy as jnp

    ivp = _problem(case)
    make = gradient if quantity.endswith("gradient") else solve
    chosen = systems if make is gradient else [system for system in systems if system in SOLVES]
    functions = {system: make(ivp, system) for system in chosen}
    if not quantity.startswith("batch"):
        return ivp.theta, {system: jax.jit(function) for system, function in functions.items()}
    batch = ivp.theta * (1 + 0.01 * jnp.arange(BATCH)[:, None])
    return batch, {system: jax.jit(jax.vmap(function)) for system, function in functions.items()}


def _problem(case: str) -> Any:
    from benchmarks.ode_systems import PROBLEMS, SWEEP

    return (PROBLEMS | SWEEP)[case]()


def _blocking(function: Callable[..., Any], theta: Any) -> None:
    function(theta).block_until_ready()


def solve(ivp: Any, system: str) -> Callable[[Any], Any]:
    """Return one system's map from the parameters to the saved states."""
    import diffrax

    from sciad.solvers.ode import ODE

    if system.startswith("sciad"):
        mode = cast(Any, "forward" if system == SEPARATE else system.removeprefix("sciad").removeprefix("_") or "auto")
        ode = ODE(ivp.solver, rtol=ivp.rtol, atol=ivp.atol, sensitivity=mode)
        return lambda theta: ode(ivp.field, ivp.y0, ts=ivp.ts, args=theta, t0=0.0, throw=False).ys

    adjoint = diffrax.ForwardMode() if system == "diffrax_forward" else diffrax.RecursiveCheckpointAdjoint()

    def bare(theta: Any) -> Any:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(ivp.field),
            ivp.solver,
            t0=0.0,
            t1=ivp.ts[-1],
            dt0=None,
            y0=ivp.y0,
            args=theta,
            saveat=diffrax.SaveAt(ts=ivp.ts),
            stepsize_controller=diffrax.PIDController(rtol=ivp.rtol, atol=ivp.atol),
            adjoint=adjoint,
            max_steps=ivp.max_steps,
            throw=False,
        ).ys

    return bare


def gradient(ivp: Any, system: str) -> Callable[[Any], Any]:
    """Return one system's gradient of half the scaled sum of squares with respect to the parameters."""
    import jax
    import jax.numpy as jnp

    states = solve(ivp, system)

    def loss(theta: Any) -> Any:
        return 0.5 * jnp.sum((states(theta) / ivp.scale) ** 2)

    found = jax.jacfwd(loss) if system == "diffrax_forward" else jax.grad(loss)
    return _separate(found) if system == SEPARATE else found


def _separate(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the function traced with compilation into one kernel switched off."""
    from unittest.mock import patch

    def traced(theta: Any) -> Any:
        with patch("sciad.solvers.one_kernel.TESTED", ()):
            return function(theta)

    return traced


def _gradient_errors(ivp: Any, functions: dict[str, Any]) -> dict[str, float]:
    """Return each gradient's distance from one at tolerance 1e-11, both in units of the parameters."""
    from dataclasses import replace

    import jax
    import jax.numpy as jnp

    scale = jnp.where(ivp.theta == 0, 1.0, ivp.theta)
    sharp = replace(ivp, rtol=1e-11, atol=1e-11 * ivp.atol / ivp.rtol, max_steps=1_000_000)
    exact = jax.jit(gradient(sharp, "diffrax_forward"))(ivp.theta) * scale

    def error(function: Any) -> float:
        return float(jnp.linalg.norm(function(ivp.theta) * scale - exact) / jnp.linalg.norm(exact))

    return {system: error(function) for system, function in functions.items()}

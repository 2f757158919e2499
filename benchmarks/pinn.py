"""Equations solved by networks, without data inside: errors against verified references, and the time to reach them.

The cases and their references are those of `benchmarks.pde_references`, the error is over one grid of 201 x 101
points for all systems, ends included. ``reference_floor`` is the reference's own error: nothing below it means
anything. ``rel_l2`` is the smallest relative L2 error that a system reached within the budget, ``best_seconds`` when,
from the call on, compilation included; ``compile_seconds`` is the part that was compilation. Medians over three seeds
of sciad; of each peer there is one, since they use up the budget each time.

For a peer, ``ratio_to_sciad`` is its ``best_seconds`` over the seconds in which sciad had at most the same error:
above 1, sciad was there first. It is missing if sciad never was.
``held_out_residual`` is the root mean square of the equation's residual on fresh points.

``sciad`` trains a network with default settings, but for the cases that `benchmarks.pinn_cases` tells to let the span
of time grow (convection, Allen-Cahn, KdV); ``sciad_last_layer`` is one linear solve over random features, where the
equation is linear. ``deepxde`` has its published examples' settings, ``deepxde_float64`` the same in double precision,
and ``jinns`` its self-scaled Broyden method in double precision. ``final_rel_l2`` is the error of the answer that sciad
itself gives, without looking at the reference.
"""

from collections.abc import Callable, Mapping
from math import inf
from statistics import median
from typing import Any, TypedDict

from benchmarks import deepxde_peer, jinns_peer
from benchmarks.measure import MeasurementError, Row, isolated, progress, rows
from benchmarks.pde_references import REFERENCES, floor
from benchmarks.pinn_trace import best, seconds_to

CASES = tuple(REFERENCES)
LINEAR = ("poisson2d", "helmholtz", "convection", "wave")
SEEDS, PEER_SEEDS = (0, 1, 2), (0,)
PEERS: Mapping[str, tuple[str, Callable[..., Any], str]] = {
    "deepxde": ("deepxde", deepxde_peer.measure, "float32"),
    "deepxde_float64": ("deepxde", deepxde_peer.measure, "float64"),
    "jinns": ("jinns", jinns_peer.measure, "float64"),
}


class Solved(TypedDict):
    """What ``benchmarks.pinn_cases.solve`` returns: the trace of `benchmarks.pinn_trace`, and figures at its end."""

    trace: list[tuple[float, float]]
    compile_seconds: float
    run_seconds: float
    held_out_residual: float


def run(case: str, budget: float, peers: bool) -> list[Row]:
    """Measure sciad on one case, and with ``peers`` the others, each seed for about ``budget`` seconds."""
    progress(f"{case}, sciad")
    try:
        ours = [isolated(solved, timeout=3 * budget + 600, case=case, seed=seed, budget=budget) for seed in SEEDS]
    except MeasurementError as error:
        progress(str(error))
        ours, found = [], rows(case, "sciad", {"failed": (1.0, "runs")})
    else:
        found = rows(case, "sciad", _ours(ours) | {"reference_floor": (floor(case), "1")})
    if case in LINEAR:
        found += _last_layer(case, budget)
    for system in PEERS if peers else ():
        found += _peer(case, system, budget, ours)
    return found


def _last_layer(case: str, budget: float) -> list[Row]:
    system = "sciad_last_layer"
    progress(f"{case}, {system}")
    try:
        ours = [
            isolated(solved, timeout=budget + 600, case=case, seed=seed, budget=budget, last_layer=True)
            for seed in SEEDS
        ]
    except MeasurementError as error:
        progress(str(error))
        return rows(case, system, {"failed": (1.0, "runs")})
    return rows(case, system, _ours(ours))


def solved(case: str, seed: int, budget: float, *, last_layer: bool = False) -> Solved:
    """Solve a case by sciad; runs in a fresh process."""
    from benchmarks.pinn_cases import solve

    return solve(case, seed, budget, last_layer=last_layer)


def _ours(ours: list[Solved]) -> dict[str, tuple[float, str]]:
    ends = {name: median(one[name] for one in ours) for name in ("run_seconds", "compile_seconds")}
    residual = median(one["held_out_residual"] for one in ours)
    last = median(one["trace"][-1][1] for one in ours)
    figures = {"final_rel_l2": (last, "1"), "held_out_residual": (residual, "1")}
    return _traced(ours) | {name: (value, "s") for name, value in ends.items()} | figures


def _peer(case: str, system: str, budget: float, ours: list[Solved]) -> list[Row]:
    environment, measurement, precision = PEERS[system]
    theirs = []
    try:
        for seed in PEER_SEEDS:
            progress(f"{case}, {system}, seed {seed}")
            arguments = {"case": case, "seconds": budget, "seed": seed, "precision": precision}
            theirs.append(isolated(measurement, timeout=3 * budget + 600, peer=environment, **arguments))
    except MeasurementError as error:
        progress(str(error))
        return rows(case, system, {"failed": (1.0, "runs")})
    figures = _traced(theirs)
    for name, unit in {"compile_seconds": "s", "iterations": "steps"}.items():
        figures[name] = (median(one[name] for one in theirs), unit)
    return rows(case, system, figures | _ratio(theirs, ours))


def _traced(runs: list[Any]) -> dict[str, tuple[float, str]]:
    seconds, errors = zip(*(best(one["trace"]) for one in runs), strict=True)
    return {"rel_l2": (median(errors), "1"), "best_seconds": (median(seconds), "s")}


def _ratio(theirs: list[Any], ours: list[Solved]) -> dict[str, tuple[float, str]]:
    """Return how much longer the peer took for its smallest error than we did, as medians over seeds."""
    figures = _traced(theirs)
    error, seconds = figures["rel_l2"][0], figures["best_seconds"][0]
    reached = median(seconds_to(one["trace"], error) for one in ours) if ours else inf
    return {"ratio_to_sciad": (seconds / reached if reached < inf else inf, "1")}

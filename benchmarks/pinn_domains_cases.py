"""The cases of `benchmarks.pinn_domains` as sciad states them."""

import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

import sciad as sd
from benchmarks.domain_references import CASES, HOLES, INNER, OUTER, RADIUS, REYNOLDS

LSHAPE = sd.Polygon([(0, 0), (1, 0), (1, 1), (-1, 1), (-1, -1), (0, -1)])
SQUARE = sd.Box(x=(-1, 1), y=(-1, 1))


def lshape() -> tuple[sd.PDEProblem, Callable[..., Any]]:
    """Return ``-Δu = 1`` with u = 0 on the sides."""
    return sd.PDEProblem(LSHAPE, conditions=[sd.Dirichlet(0.0)]), lambda u, p: sd.laplacian(u, "x", "y")(p) + 1.0


def perforated() -> tuple[sd.PDEProblem, Callable[..., Any]]:
    """Return ``Δu = 0`` with u = 1 on holes and 0 on the sides."""
    domain = SQUARE
    for x, y, radius in HOLES:
        domain = domain - sd.Disk((x, y), radius)
    outer = [face for face in domain.faces if face in SQUARE.faces]
    inner = [face for face in domain.faces if face not in SQUARE.faces]
    conditions = [sd.Dirichlet(0.0, on=outer), sd.Dirichlet(1.0, on=inner)]
    return sd.PDEProblem(domain, conditions=conditions), lambda u, p: sd.laplacian(u, "x", "y")(p)


def cavity() -> tuple[sd.PDEProblem, Callable[..., Any]]:
    """Return the steady equations of Navier and Stokes beneath a lid that moves."""
    walls = ["x_min", "x_max", "y_min"]
    conditions = [sd.Dirichlet(0.0, on=walls, field=name) for name in ("u", "v")]
    conditions += [
        sd.Dirichlet(lambda p: 16 * p.x**2 * (1 - p.x) ** 2, on="y_max", field="u"),
        sd.Dirichlet(0.0, on="y_max", field="v"),
    ]

    def flow(f: Any, p: sd.Point) -> tuple[Any, ...]:
        def momentum(velocity: Callable[..., Any], along: str) -> Any:
            advected = f.u(p) * sd.d(velocity, "x")(p) + f.v(p) * sd.d(velocity, "y")(p)
            return advected + sd.d(f.p, along)(p) - sd.laplacian(velocity, "x", "y")(p) / REYNOLDS

        return momentum(f.u, "x"), momentum(f.v, "y"), sd.d(f.u, "x")(p) + sd.d(f.v, "y")(p)

    domain = sd.Box(x=(0, 1), y=(0, 1))
    return sd.PDEProblem(domain, fields=("u", "v", "p"), conditions=conditions), flow


def poisson5d() -> tuple[sd.PDEProblem, Callable[..., Any]]:
    """Return ``-Δu = π² Σ cos(πx)`` in the unit cube of five dimensions."""
    names = tuple("abcde")

    def total(p: sd.Point) -> Any:
        return sum(jnp.cos(jnp.pi * p[name]) for name in names)

    problem = sd.PDEProblem(sd.Box(**dict.fromkeys(names, (0, 1))), conditions=[sd.Dirichlet(total, hard=False)])
    return problem, lambda u, p: sd.laplacian(u, *names)(p) + jnp.pi**2 * total(p)


def interface() -> tuple[sd.PDEProblem, Callable[..., Any]]:
    """Return ``a Δu = 4`` about a round inclusion."""

    def level(p: sd.Point) -> Any:
        return p.x**2 + p.y**2 - RADIUS**2

    def outer(p: sd.Point) -> Any:
        return (p.x**2 + p.y**2) / OUTER + (1 / INNER - 1 / OUTER) * RADIUS**2

    meeting = sd.Interface(level, coefficient=(OUTER, INNER))
    problem = sd.PDEProblem(SQUARE, conditions=[sd.Dirichlet(outer, hard=False), meeting])
    return problem, lambda u, p: jnp.where(level(p) > 0, OUTER, INNER) * sd.laplacian(u, "x", "y")(p) - 4.0


POSED = {
    "lshape": lshape,
    "perforated": perforated,
    "cavity": cavity,
    "poisson5d": poisson5d,
    "interface": interface,
}


def solve(case: str, seed: int, budget: float, *, trained: bool) -> dict[str, float]:
    """Fit one case, and compare it with its reference."""
    problem, equation = POSED[case]()
    truth, began = CASES[case](), time.perf_counter()
    solver = sd.Collocation(budget=budget) if trained or case == "cavity" else None
    fit = sd.fit(problem, equation, solver=solver, key=seed, progress=False)
    seconds = time.perf_counter() - began
    found = np.asarray(problem.evaluate(fit.program, truth.points))[:, : truth.values.shape[1]]
    return {
        "rel_l2": float(np.linalg.norm(found - truth.values) / np.linalg.norm(truth.values)),
        "run_seconds": seconds - fit.stats["compile_seconds"],
        "compile_seconds": fit.stats["compile_seconds"],
        "held_out_residual": fit.held_out["equation"],
    }

"""The cases of `benchmarks.pinn` as sciad states them, and what its fits reach over time."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import sciad as sd
from benchmarks.pde_references import BETA, DIFFUSION, DISPERSION, NU, REFERENCES, START, relative_l2, solution
from benchmarks.pinn import Solved


class Posed(NamedTuple):
    """Names of the coordinates, conditions, the equation, and what the solver is told beyond them."""

    coordinates: tuple[str, str]
    conditions: Sequence[Any]
    equation: Callable[..., Any]
    told: dict[str, Any]


def started(case: str, rate: float | None = None) -> sd.Initial:
    """Return the initial values of a case."""
    return sd.Initial(lambda p: START[case](p.x, jnp), rate)


def poisson(u: Any, p: sd.Point) -> Any:
    """Return the residual for ``sin(πx) sin(πy)``."""
    return sd.laplacian(u, "x", "y")(p) + 2 * jnp.pi**2 * jnp.sin(jnp.pi * p.x) * jnp.sin(jnp.pi * p.y)


def helmholtz(u: Any, p: sd.Point) -> Any:
    """Return the residual for ``sin(πx) sin(4πy)``, with k = 1."""
    source = (1 - 17 * jnp.pi**2) * jnp.sin(jnp.pi * p.x) * jnp.sin(4 * jnp.pi * p.y)
    return sd.laplacian(u, "x", "y")(p) + u(p) - source


def burgers(u: Any, p: sd.Point) -> Any:
    """Return the residual of Burgers' equation."""
    return sd.d(u, "t")(p) + u(p) * sd.d(u, "x")(p) - NU * sd.d(u, "x", "x")(p)


def convection(u: Any, p: sd.Point) -> Any:
    """Return the residual of transport."""
    return sd.d(u, "t")(p) + BETA * sd.d(u, "x")(p)


def wave(u: Any, p: sd.Point) -> Any:
    """Return the residual of waves with speed 2."""
    return sd.d(u, "t", "t")(p) - 4.0 * sd.d(u, "x", "x")(p)


def allen_cahn(u: Any, p: sd.Point) -> Any:
    """Return the residual of Allen and Cahn's equation."""
    return sd.d(u, "t")(p) - DIFFUSION * sd.d(u, "x", "x")(p) - 5.0 * u(p) + 5.0 * u(p) ** 3


def kdv(u: Any, p: sd.Point) -> Any:
    """Return the residual of Korteweg and de Vries' equation."""
    return sd.d(u, "t")(p) + u(p) * sd.d(u, "x")(p) + DISPERSION * sd.d(u, "x", "x", "x")(p)


FIXED, AT_ENDS, ROUND = sd.Dirichlet(0.0), sd.Dirichlet(0.0, on="x"), sd.Periodic("x")
POSED = {
    "poisson2d": Posed(("x", "y"), [FIXED], poisson, {}),
    "helmholtz": Posed(("x", "y"), [FIXED], helmholtz, {}),
    "burgers": Posed(("x", "t"), [started("burgers"), AT_ENDS], burgers, {}),
    "convection": Posed(("x", "t"), [started("convection"), ROUND], convection, {"growing": 10}),
    "wave": Posed(("x", "t"), [started("wave", 0.0), AT_ENDS], wave, {}),
    "allen_cahn": Posed(("x", "t"), [started("allen_cahn"), ROUND], allen_cahn, {"growing": 10}),
    "kdv": Posed(("x", "t"), [started("kdv"), ROUND], kdv, {"growing": 10}),
}


def solve(case: str, seed: int, budget: float, *, last_layer: bool = False) -> Solved:
    """Fit one case for the budget, and watch its error; what watching takes is not counted."""
    posed, reference = POSED[case], REFERENCES[case]
    domain = sd.Box(**dict(zip(posed.coordinates, zip(reference.low, reference.high, strict=True), strict=True)))
    problem = sd.PDEProblem(domain, conditions=posed.conditions)
    axes = dict(zip(posed.coordinates, reference.grid(), strict=True))
    true = solution(case, *axes.values())
    trace, began, watching = [], time.perf_counter(), 0.0

    def watch(program: Any) -> None:
        nonlocal watching
        start = time.perf_counter()
        error = relative_l2(problem.on_grid(program, **axes)["u"].to_numpy(), true)
        trace.append((start - began - watching, error))
        watching += time.perf_counter() - start

    solver = sd.LastLayer() if last_layer else sd.Collocation(budget=budget, watch=watch, **posed.told)
    fit = sd.fit(problem, posed.equation, solver=solver, key=seed, progress=False)
    seconds = time.perf_counter() - began - watching
    trace.append((seconds, relative_l2(fit(**axes)["u"].to_numpy(), true)))
    return Solved(
        trace=[(float(s), float(e)) for s, e in trace if np.isfinite(e)],
        compile_seconds=fit.stats["compile_seconds"],
        run_seconds=seconds - fit.stats["compile_seconds"],
        held_out_residual=fit.held_out["equation"],
    )

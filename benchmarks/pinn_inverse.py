"""Coefficients of equations from scattered observations, by networks and by a solver that is told more.

The data are those of `benchmarks.pde_inverse`: 2000 points, exact or with noise of 1 % of the field's standard
deviation. ``rel_error`` is the greater of the two coefficients' relative errors, the median over three seeds, each of
which draws points and noise; ``first`` and ``second`` are the errors one by one, and ``z_first``, ``z_second`` by their
standard errors (medians of sizes: about 0.7 where errors are as large as is said).

``sciad`` is given the observations and the equation alone, and stops by itself or with the budget.
``sciad_known_start`` is told initial and boundary values too. ``simulation`` is told them as well: nonlinear least
squares, with SciPy, over simulations by Cole and Hopf's formula or ETDRK4. Where a solver and all that it needs exist,
that is what an estimate by a network must be held against.
"""

import time
from statistics import median
from typing import Any, TypedDict

from benchmarks.measure import MeasurementError, Row, isolated, progress, rows
from benchmarks.pde_inverse import INVERSE, NOISE

CASES = tuple(f"{equation}_{kind}" for equation in INVERSE for kind in ("clean", "noise"))
SEEDS = (0, 1, 2)
START = {"burgers": (0.5, 0.02), "kdv": (0.5, 0.01)}  # first guesses, of all systems


class Estimated(TypedDict):
    """Coefficients by name, their standard errors (None: not told), and seconds."""

    found: dict[str, float]
    errors: dict[str, float] | None
    seconds: float


def run(case: str, budget: float, peers: bool) -> list[Row]:
    """Measure one case, each seed of sciad for at most about ``budget`` seconds; there are no peers yet."""
    del peers
    found: list[Row] = []
    for system in ("sciad", "sciad_known_start", "simulation"):
        progress(f"{case}, {system}")
        try:
            made = [
                isolated(estimated, timeout=3 * budget + 600, case=case, system=system, seed=seed, budget=budget)
                for seed in SEEDS
            ]
        except MeasurementError as error:
            progress(str(error))
            found += rows(case, system, {"failed": (1.0, "runs")})
        else:
            found += rows(case, system, _figures(case, made))
    return found


def _figures(case: str, made: list[Estimated]) -> dict[str, tuple[float, str]]:
    from benchmarks.pde_inverse import errors

    equation = case.split("_")[0]
    by_name = [errors(equation, one["found"]) for one in made]
    figures = {"rel_error": (median(max(one.values()) for one in by_name), "1")}
    for name, true in INVERSE[equation].true.items():
        figures[name] = median(one[name] for one in by_name), "1"
        sizes = [abs(one["found"][name] - true) / one["errors"][name] for one in made if one["errors"]]
        figures |= {f"z_{name}": (median(sizes), "1")} if sizes else {}
    return figures | {"seconds": (median(one["seconds"] for one in made), "s")}


def estimated(case: str, system: str, seed: int, budget: float) -> Estimated:
    """Estimate the coefficients of a case; runs in a fresh process."""
    equation, kind = case.split("_")
    noise = NOISE["noise_1_percent" if kind == "noise" else "clean"]
    if system == "simulation":
        return _simulated(equation, seed, noise)
    return _fitted(equation, seed, noise, budget, known=system == "sciad_known_start")


def _fitted(equation: str, seed: int, noise: float, budget: float, *, known: bool) -> Estimated:
    import equinox as eqx
    import xarray as xr
    from numpyro.distributions import constraints

    import sciad as sd
    from benchmarks.pde_inverse import observed
    from benchmarks.pinn_cases import AT_ENDS, ROUND, started

    class Equation(eqx.Module):
        first: sd.Param
        second: sd.Param

        def __call__(self, u: Any, p: sd.Point) -> Any:
            carried = sd.d(u, "t")(p) + self.first * u(p) * sd.d(u, "x")(p)
            if equation == "burgers":
                return carried - self.second * sd.d(u, "x", "x")(p)
            return carried + self.second * sd.d(u, "x", "x", "x")(p)

    seen = observed(equation, seed, noise=noise)
    data = xr.Dataset({"u": ("row", seen.u)}, coords={"x": ("row", seen.x), "t": ("row", seen.t)})
    ends = AT_ENDS if equation == "burgers" else ROUND
    conditions = [started(equation), ends] if known else [ROUND] if equation == "kdv" else []
    first, second = START[equation]
    began = time.perf_counter()
    problem = sd.PDEProblem(sd.Box(x=(-1, 1), t=(0, 1)), conditions=conditions, data=data)
    program = Equation(sd.param(first), sd.param(second, constraint=constraints.positive))
    fit = sd.fit(problem, program, solver=sd.Collocation(budget=budget), key=seed, progress=False)
    seconds = time.perf_counter() - began
    values, errors = (dict(zip(fit.names, part.tolist(), strict=True)) for part in (fit.values, fit.standard_errors))
    names = INVERSE[equation].true
    return Estimated(
        found={name: values[name] for name in names}, errors={name: errors[name] for name in names}, seconds=seconds
    )


def _simulated(equation: str, seed: int, noise: float) -> Estimated:
    import numpy as np
    from scipy.optimize import least_squares

    from benchmarks.pde_inverse import observed
    from benchmarks.pde_references import cole_hopf, kdv

    problem, seen = INVERSE[equation], observed(equation, seed, noise=noise)
    i, j = np.searchsorted(problem.x, seen.x), np.searchsorted(problem.t, seen.t)

    def field(logs: np.ndarray) -> np.ndarray:
        # in the time first t, the coefficient of u u_x is one
        first, second = np.exp(logs)
        if equation == "burgers":
            return cole_hopf(problem.x, first * problem.t, second / first)
        return kdv(problem.x, first * problem.t, dispersion=second / first)

    began = time.perf_counter()
    best = least_squares(lambda logs: field(logs)[i, j] - seen.u, np.log(START[equation]), x_scale="jac")
    scale = np.sqrt(2 * best.cost / (seen.u.size - 2))
    errors = scale * np.sqrt(np.diag(np.linalg.inv(best.jac.T @ best.jac))) * np.exp(best.x)
    return Estimated(
        found=dict(zip(problem.true, np.exp(best.x).tolist(), strict=True)),
        errors=dict(zip(problem.true, errors.tolist(), strict=True)) if noise else None,
        seconds=time.perf_counter() - began,
    )

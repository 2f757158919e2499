"""Estimation problems with known answers: the equations, the published starts and boxes, and the systems that fit them.

Set-ups: SciMLBenchmarks' parameter estimation (Lotka-Volterra, FitzHugh-Nagumo, Lorenz), and Boehm of the PEtab
collection. Each system is a function from a start, in natural units, to an estimate; `make` compiles what can be.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import xarray as xr
from numpyro.distributions import constraints
from scipy import optimize

import sciad as sd
from sciad.models.physics import STAT5, FitzHughNagumo, Lorenz, LotkaVolterra

BOEHM = Path(__file__).with_name("data") / "boehm.csv"


@dataclass(frozen=True)
class System:
    """An equation, its true parameters, known initial state, and for "local" and "global" a start and a box."""

    model: type[eqx.Module]
    true: dict[str, float]
    y0: tuple[float, ...]
    starts: dict[str, tuple[float, ...]]
    boxes: dict[str, tuple[tuple[float, float], ...]]


SYSTEMS = {
    "lotka_volterra": System(
        LotkaVolterra,
        {"alpha": 1.5, "beta": 1.0, "gamma": 3.0, "delta": 1.0},
        (1.0, 1.0),
        {"local": (1.0, 0.5, 3.5, 1.5), "global": (5.0, 5.0, 5.0, 5.0)},
        {"local": ((0.0, 5.0),) * 4, "global": ((0.0, 10.0),) * 4},
    ),
    "fitzhugh_nagumo": System(
        FitzHughNagumo,
        {"a": 0.7, "b": 0.8, "rate": 0.08, "current": 0.5},
        (1.0, 1.0),
        {"local": (0.5,) * 4, "global": (2.5,) * 4},
        {"local": ((0.0, 1.0),) * 4, "global": ((0.0, 5.0),) * 4},
    ),
    "lorenz": System(
        Lorenz,
        {"sigma": 10.0, "rho": 28.0, "beta": 2.66},
        (1.0, 0.0, 0.0),
        {"local": (9.5, 20.5, 2.1), "global": (0.5, 0.5, 0.1)},  # moved inside: published ones lie on the rims
        {"local": ((9.0, 11.0), (20.0, 30.0), (2.0, 3.0)), "global": ((0.0, 22.0), (0.0, 60.0), (0.0, 6.0))},
    ),
}


class Task(NamedTuple):
    """A system with a box and observations of all its states; `sigma` is known to all who fit."""

    system: System
    box: tuple[tuple[float, float], ...]
    times: np.ndarray
    values: np.ndarray
    sigma: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters."""
        return tuple(self.system.true)


SOLVER = sd.ODE(rtol=1e-9, atol=1e-9, max_steps=20_000)


def task(name: str, *, end: float, points: int, noise: float, box: str = "global", seed: int = 0) -> Task:
    """Return observations from the true parameters; `noise` is a share of each state's mean absolute value."""
    system, times = SYSTEMS[name], np.linspace(0.0, end, points)
    exact = np.asarray(jax.jit(lambda p: curve(system, p, times))(jnp.array(list(system.true.values()))))
    sigma = noise * np.abs(exact).mean(axis=0)
    scatter = sigma * np.random.default_rng(seed).standard_normal(exact.shape)
    return Task(system, system.boxes[box], times, exact + scatter, np.where(sigma > 0, sigma, 1.0))


def curve(system: System, values: Any, times: Any, ode: sd.ODE = SOLVER) -> Any:
    """Return the states at `times`, NaN where the solve fails."""
    model: Any = system.model(**dict(zip(system.true, values, strict=True)))
    found = ode(lambda t, y, _: model(t, y), jnp.array(system.y0), ts=times, t0=0.0, throw=False)
    return jnp.where(found.ok, found.ys, jnp.nan)


class Estimate(NamedTuple):
    """Parameters in natural units, and half the sum of squared residuals in units of sigma."""

    values: np.ndarray
    cost: float


Fitter = Callable[[np.ndarray, int], Estimate]  # start, seed


def residuals(of: Task) -> Callable[[Any], Any]:
    """Return standardised residuals as a function of the parameters."""
    return lambda p: ((curve(of.system, p, of.times) - of.values) / of.sigma).ravel()


def by_sciad(of: Task) -> Fitter:
    """Fit as the README shows: parameters with boxes, default settings, the start as the user's guess."""
    states = [f"y{i}" for i in range(of.values.shape[1])]
    data = xr.Dataset({s: ("t", of.values[:, i]) for i, s in enumerate(states)}, coords={"t": of.times})
    noise = {s: sd.Normal(float(of.sigma[i])) for i, s in enumerate(states)}
    initial = dict(zip(states, of.system.y0, strict=True))
    problem = sd.ODEProblem(data, initial=initial, noise=noise, solver=SOLVER)

    def fit(start: np.ndarray, seed: int) -> Estimate:
        boxed = {
            name: sd.param(float(v), constraint=constraints.interval(*limits))
            for name, v, limits in zip(of.names, start, of.box, strict=True)
        }
        found = sd.fit(problem, of.system.model(**boxed), key=seed)
        squares = sum(float((r**2).sum()) for r in found.residuals.data_vars.values())
        return Estimate(found.values, squares / 2)

    return fit


def by_scipy(of: Task) -> Fitter:
    """Single shooting by SciPy's bounded trust region, with the compiled residuals and Jacobian of our own solver."""
    function = jax.jit(residuals(of))
    jacobian = jax.jit(jax.jacfwd(residuals(of)))
    bad = np.full(of.values.size, 1e6)

    def fit(start: np.ndarray, seed: int) -> Estimate:
        del seed

        def values(p: np.ndarray) -> np.ndarray:
            r = np.asarray(function(p))
            return r if np.isfinite(r).all() else bad

        def slopes(p: np.ndarray) -> Any:
            return np.nan_to_num(np.asarray(jacobian(p)))

        found = optimize.least_squares(values, start, jac=slopes, bounds=np.array(of.box).T, xtol=1e-12)  # pyright: ignore
        return Estimate(found.x, float(found.cost))

    return fit


def by_optimistix(of: Task) -> Fitter:
    """Single shooting by Optimistix' Levenberg-Marquardt in logits of the boxes, through Diffrax's forward mode."""
    low, high = np.array(of.box).T

    def function(u: Any, _: None) -> Any:
        system = of.system
        model: Any = system.model(**dict(zip(system.true, low + (high - low) * jax.nn.sigmoid(u), strict=True)))
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, _: model(t, y)), diffrax.Tsit5(), 0.0, of.times[-1], None,
            jnp.array(system.y0), saveat=diffrax.SaveAt(ts=jnp.asarray(of.times)), adjoint=diffrax.ForwardMode(),
            max_steps=20_000, stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-9), throw=False,
        )  # fmt: skip
        r = ((found.ys - of.values) / of.sigma).ravel()
        return jnp.where(jnp.isfinite(r), r, 1e6)

    solver = optx.LevenbergMarquardt(rtol=1e-9, atol=1e-9)
    solve = jax.jit(lambda u: optx.least_squares(function, solver, u, max_steps=256, throw=False).value)

    def fit(start: np.ndarray, seed: int) -> Estimate:
        del seed
        share = np.clip((start - low) / (high - low), 1e-6, 1 - 1e-6)
        u = solve(jnp.asarray(np.log(share / (1 - share))))
        values = np.asarray(low + (high - low) * jax.nn.sigmoid(u))
        return Estimate(values, float(jnp.sum(function(u, None) ** 2)) / 2)

    return fit


def by_evolution(of: Task) -> Fitter:
    """SciPy's differential evolution over the box (it takes no start), polished by L-BFGS as it does by default."""
    function = jax.jit(lambda p: 0.5 * jnp.sum(residuals(of)(p) ** 2))

    def cost(p: np.ndarray) -> float:
        value = float(function(p))
        return value if np.isfinite(value) else 1e12

    def fit(start: np.ndarray, seed: int) -> Estimate:
        del start
        found = optimize.differential_evolution(cost, of.box, rng=np.random.default_rng(seed), maxiter=300, tol=1e-8)
        return Estimate(found.x, float(found.fun))

    return fit


FITTERS: dict[str, Callable[[Task], Fitter]] = {
    "sciad": by_sciad,
    "scipy_least_squares": by_scipy,
    "optimistix_levenberg_marquardt": by_optimistix,
    "scipy_differential_evolution": by_evolution,
}


def boehm() -> tuple[sd.ODEProblem, Callable[[np.ndarray], Any]]:
    """Return the PEtab problem Boehm_JProteomeRes2014, and a model from nine log10 values: six rates, three noises.

    The problem fixes the share of STAT5A at 0.693 of 207.6 and a parameter of the observation at 0.107; all nine
    estimated parameters lie between 1e-5 and 1e5. Best negative log-likelihood: 138.2220.
    """
    with BOEHM.open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    fields = [name for name in rows[0] if name != "minute"]
    times = [float(row["minute"]) for row in rows]
    data = xr.Dataset({f: ("minute", [float(row[f]) for row in rows]) for f in fields}, coords={"minute": times})
    states = ("A", "B", "AB", "AA", "BB", "AA_in", "AB_in", "BB_in")
    known = dict.fromkeys(states, 0.0) | {"A": 207.6 * 0.693, "B": 207.6 * (1 - 0.693)}

    def observe(_: Any, t: Any, y: Any) -> dict[str, Any]:
        del t
        a, b, ab, aa, bb = y[:5]
        a, aa, b, bb = 0.107 * a, 0.107 * aa, 0.893 * b, 0.893 * bb
        return {
            "pSTAT5A_rel": (100 * ab + 200 * aa) / (ab + a + 2 * aa),
            "pSTAT5B_rel": (100 * ab + 200 * bb) / (ab + b + 2 * bb),
            "rSTAT5A_rel": (100 * ab + 100 * a + 200 * aa) / (2 * ab + a + 2 * aa + b + 2 * bb),
        }

    box = constraints.interval(1e-5, 1e5)
    noise = {f: sd.Normal(sd.param(10.0, constraint=box)) for f in fields}
    solver = sd.ODE(diffrax.Kvaerno5())
    problem = sd.ODEProblem(
        data, fields=fields, states=states, noise=noise, initial=known, observe=observe, solver=solver
    )
    rates = ("degradation", "phosphorylation", "import_homo", "import_hetero", "export_homo", "export_hetero")

    def model(log10: np.ndarray) -> Any:
        return STAT5(**{r: sd.param(float(10.0**v), constraint=box) for r, v in zip(rates, log10, strict=True)})

    return problem, model

"""The cases of `benchmarks.pinn_coverage`: one repetition each, by sciad and by simulation."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import xarray as xr
from numpyro.distributions import constraints
from scipy.linalg import solve_banded
from scipy.optimize import least_squares

import sciad as sd
from sciad.models.networks import MLP

Scores = dict[str, dict[str, list[float]]]
RATE, LOSS, ROD_NOISE = 0.3, 0.8, 0.02
SMALL = functools.partial(MLP, width=10, depth=2)


class Rod(eqx.Module):
    """Heat in a rod that loses some of it to the air: u_t = rate u_xx - loss u."""

    rate: sd.Param = sd.param(0.1, constraint=constraints.positive)
    loss: sd.Param = sd.param(0.1, constraint=constraints.positive)

    def __call__(self, u: Any, p: sd.Point) -> Any:
        """Return the residual."""
        return sd.d(u, "t")(p) - self.rate * sd.d(u, "x", "x")(p) + self.loss * u(p)


def hot(x: Any, t: Any, rate: float, loss: float, xp: Any = np) -> Any:
    """Return the exact solution from ``sin(πx) + sin(3πx)/2``."""
    first = xp.exp(-(rate * np.pi**2 + loss) * t) * xp.sin(np.pi * x)
    return first + 0.5 * xp.exp(-(9 * rate * np.pi**2 + loss) * t) * xp.sin(3 * np.pi * x)


def rod(repetition: int, budget: float) -> Scores:
    """Estimate rate, loss and noise from 80 readings; with the temperature at one of the places where none is."""
    draw = np.random.default_rng(repetition)
    x, t = draw.uniform(0, 1, 80), draw.uniform(0, 0.4, 80)
    y = hot(x, t, RATE, LOSS) + ROD_NOISE * draw.standard_normal(80)
    data = xr.Dataset({"u": ("row", y)}, coords={"x": ("row", x), "t": ("row", t)})
    conditions = [sd.Initial(lambda p: hot(p.x, 0.0, RATE, LOSS, jnp)), sd.Dirichlet(0.0, on="x")]
    problem = sd.PDEProblem(sd.Box(x=(0, 1), t=(0, 0.4)), conditions=conditions, data=data, network=SMALL)
    solver = sd.Collocation(points=600, budget=budget, patience=2)
    fit = sd.fit(problem, Rod(), solver=solver, key=repetition, progress=False)
    true = {"rate": RATE, "loss": LOSS, "noise.u.scale": ROD_NOISE}
    ours = {n: [(v - true[n]) / e] for n, v, e in zip(fit.names, fit.values, fit.standard_errors, strict=True)}
    at = {"x": [0.5], "t": [0.2]}
    gap = (fit(**at)["u"].to_numpy() - hot(0.5, 0.2, RATE, LOSS)) / fit.field_error(**at)["u"].to_numpy()
    theirs = _least_squares(lambda theta: y - hot(x, t, *np.exp(theta)), np.log([0.1, 0.1]), np.log([RATE, LOSS]))
    plain = {name.removesuffix(".u.scale"): [float(score[0])] for name, score in ours.items()}
    return {
        "sciad": plain | {"field": [float(gap.item())]},
        "simulation": dict(zip(("rate", "loss"), ([score] for score in theirs), strict=True)),
    }


def _least_squares(residuals: Any, start: np.ndarray, true: np.ndarray) -> list[float]:
    """Return errors of the estimates in units of their standard errors, in the units of the parameters."""
    best = least_squares(residuals, start, x_scale="jac")
    scale = np.sqrt(2 * best.cost / (best.fun.size - best.x.size))
    errors = scale * np.sqrt(np.diag(np.linalg.inv(best.jac.T @ best.jac)))
    return ((best.x - true) / errors).tolist()


CENTRES, WIDTH, PRIOR = np.linspace(0, 1, 5), 0.25, 0.5
PLACES = np.linspace(0.1, 0.9, 9)
FIELD_NOISE = 0.01


class Reaction(eqx.Module):
    """A stationary reaction whose rate varies: 0.05 u_xx - k(x) u + 1 = 0, with log k = Σ a_i bump_i."""

    bumps: sd.Param = sd.param(jnp.zeros(5), prior=dist.Normal(jnp.zeros(5), PRIOR).to_event(1))

    def rate(self, x: Any) -> Any:
        """Return k at a place."""
        return jnp.exp(jnp.dot(jnp.asarray(self.bumps), bump(x, jnp)))

    def __call__(self, u: Any, p: sd.Point) -> Any:
        """Return the residual."""
        return 0.05 * sd.d(u, "x", "x")(p) - self.rate(p.x) * u(p) + 1.0


def bump(x: Any, xp: Any = np) -> Any:
    """Return the five bumps at a place."""
    return xp.exp(-(((x - CENTRES) / WIDTH) ** 2))


def coefficient(repetition: int, budget: float) -> Scores:
    """Estimate a rate that varies in space, which is drawn from the prior, from 25 readings."""
    draw = np.random.default_rng(1000 + repetition)
    true = draw.normal(0, PRIOR, 5)
    x = draw.uniform(0, 1, 25)
    y = profile(true, x) + FIELD_NOISE * draw.standard_normal(25)
    data = xr.Dataset({"u": ("row", y)}, coords={"x": ("row", x)})
    noise = sd.Normal(sd.frozen(FIELD_NOISE))
    problem = sd.PDEProblem(
        sd.Box(x=(0, 1)), conditions=[sd.Dirichlet(0.0)], data=data, noise=noise, network=SMALL
    )  # fmt: skip
    solver = sd.Collocation(points=300, budget=budget, patience=2)
    fit = sd.fit(problem, Reaction(), solver=solver, priors=True, key=repetition, progress=False)
    slopes = np.stack([bump(place) for place in PLACES])
    rates = slopes @ true

    def found(program: Any) -> Any:
        return jnp.log(jax.vmap(program.equation.rate)(jnp.asarray(PLACES)))

    ours = (np.asarray(found(sd.unwrap(fit.program))) - rates) / fit.error_of(found)

    def residuals(theta: np.ndarray) -> np.ndarray:
        return np.concatenate([(y - profile(theta, x)) / FIELD_NOISE, theta / PRIOR])

    best = least_squares(residuals, np.zeros(5))
    errors = np.sqrt(np.einsum("ni,ij,nj->n", slopes, np.linalg.inv(best.jac.T @ best.jac), slopes))
    theirs = (slopes @ best.x - rates) / errors
    return {"sciad": {"rate": ours.tolist()}, "simulation": {"rate": theirs.tolist()}}


def profile(bumps: np.ndarray, x: np.ndarray, cells: int = 2000) -> np.ndarray:
    """Return the solution by central differences, with cubic interpolation between the nodes."""
    from scipy.interpolate import CubicSpline

    nodes = np.linspace(0, 1, cells + 1)
    k = np.exp(np.array([bump(node) for node in nodes[1:-1]]) @ bumps)
    c = 0.05 * cells**2
    bands = np.stack([np.full(cells - 1, c), -2 * c - k, np.full(cells - 1, c)])
    u = solve_banded((1, 1), bands, -np.ones(cells - 1))
    return CubicSpline(nodes, np.concatenate([[0.0], u, [0.0]]))(x)

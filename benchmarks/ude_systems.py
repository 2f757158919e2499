"""Predation with unknown interaction: the experiment, and the systems that find the missing terms."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import xarray as xr
from scipy.interpolate import make_smoothing_spline

import sciad as sd
from sciad._sindy import sparse_supports

TRUE = (1.3, 0.9, 0.8, 1.8)
START = (0.44249296, 4.6280594)
TIMES = np.linspace(0.0, 3.0, 31)
DEGREE = 5
WIDTH, SCALE = 16, 1.0  # of the network, and of the prior of its weights
POWERS: list[tuple[int, ...]] = [(i, total - i) for total in range(DEGREE + 1) for i in range(total, -1, -1)]
RIGHT = POWERS.index((1, 1))
SOLVER = sd.ODE(rtol=1e-8, atol=1e-8, max_steps=100_000)


@dataclass(frozen=True)
class Experiment:
    """Noisy states up to t = 3, and exact ones up to the end."""

    values: np.ndarray
    times: np.ndarray
    exact: np.ndarray

    @classmethod
    def drawn(cls, noise: float, seed: int, end: float) -> "Experiment":
        """Return the experiment of a seed; `noise` is a share of each state's mean."""
        times = np.linspace(0.0, end, 501)
        seen, exact = (np.asarray(curve(jnp.array([-TRUE[1], TRUE[2]]), jnp.array(START), t)) for t in (TIMES, times))
        scatter = noise * seen.mean(axis=0) * np.random.default_rng(seed).standard_normal(seen.shape)
        return cls(seen + scatter, times, exact)

    def outcome(self, support: np.ndarray, weights: np.ndarray, start: np.ndarray) -> dict[str, Any]:
        """Return whether a formula, a row of coefficients for each state, is the true one, and how it goes on."""
        right = np.zeros((2, len(POWERS)), bool)
        right[:, RIGHT] = True
        recovered = bool(np.array_equal(support, right))
        errors = {"coefficient_error": np.nan, "extrapolation": np.nan}
        if recovered:
            found = weights[:, RIGHT]
            off = np.asarray(curve(jnp.asarray(found), jnp.asarray(start), self.times)) - self.exact
            errors["coefficient_error"] = float(np.max(np.abs(found / np.array([-TRUE[1], TRUE[2]]) - 1)))
            errors["extrapolation"] = float(np.linalg.norm(off) / np.linalg.norm(self.exact))
        text = " | ".join(" + ".join(f"{w:.3g} x{POWERS[i]}" for i, w in enumerate(row) if w) for row in weights)
        return {"recovered": recovered, "text": text} | errors


@eqx.filter_jit
def curve(weights: Any, start: Any, times: np.ndarray) -> Any:
    """Return the states of an equation with the interaction ``weights`` times prey times predator."""

    def slope(t: Any, y: Any, _: None) -> Any:
        del t
        return jnp.array([TRUE[0], -TRUE[3]]) * y + weights * y[0] * y[1]

    return SOLVER(slope, start, ts=times, t0=0.0).ys


class Unknown(eqx.Module):
    """Growth and death are known; the rest is left to a network."""

    network: eqx.Module

    def __call__(self, t: Any, y: Any) -> Any:
        """Return the slope of prey and predator."""
        del t
        return jnp.array([TRUE[0], -TRUE[3]]) * y + self.network(y)  # pyright: ignore[reportCallIssue]


def by_sciad(experiment: Experiment, seed: int) -> tuple[sd.Fit, dict[str, Any]]:
    """Fit from the network's first weights and from gradient matching's, with easier ways where that is in doubt."""
    data = xr.Dataset(
        {"prey": ("t", experiment.values[:, 0]), "predator": ("t", experiment.values[:, 1])}, coords={"t": TIMES}
    )
    problem = sd.ODEProblem(data, noise=sd.Normal())
    network = eqx.nn.MLP(2, 2, WIDTH, 1, activation=jnp.tanh, key=jax.random.key(seed))
    model = sd.mark(Unknown(network), "network", prior=dist.Normal(0.0, SCALE))
    fitted = sd.fit(problem, model, priors=True, solver=sd.LeastSquares(starts=0), key=seed)
    found = sd.sindy(fitted, "network", degree=DEGREE)
    weights = np.zeros((2, len(POWERS)))
    for weight, (output, feature) in zip(np.asarray(found.formula.coefficients), found.formula.terms, strict=True):
        weights[output, POWERS.index(feature.powers)] = weight
    initial = found.fit.program.initial
    start = np.array([float(initial["prey"]), float(initial["predator"])])
    return fitted, experiment.outcome(weights != 0, weights, start)


def regression_alone(experiment: Experiment, fitted: sd.Fit) -> dict[str, Any]:
    """Take the formula by the regression's own criterion from the network of a fit."""
    states = np.asarray(fitted.problem.states_at(fitted.program, TIMES))[0]
    network = sd.unwrap(fitted.program).model.network
    return _regressed(experiment, states, np.asarray(jax.vmap(network)(jnp.asarray(states))))


def on_splines(experiment: Experiment) -> dict[str, Any]:
    """Regress the slopes of smoothing splines, less the known terms."""
    curves = [make_smoothing_spline(TIMES, column) for column in experiment.values.T]
    states = np.stack([c(TIMES) for c in curves], axis=-1)
    slopes = np.stack([c.derivative()(TIMES) for c in curves], axis=-1)
    return _regressed(experiment, states, slopes - np.array([TRUE[0], -TRUE[3]]) * states)


def _regressed(experiment: Experiment, states: np.ndarray, terms: np.ndarray) -> dict[str, Any]:
    """Choose the support of least ``n log RSS + k log n``, and fit its coefficients."""
    theta = np.stack([states[:, 0] ** i * states[:, 1] ** j for i, j in POWERS], axis=-1)
    best, chosen = np.inf, np.zeros((2, len(POWERS)))
    for support in sparse_supports(theta, terms):
        weights = np.zeros((2, len(POWERS)))
        for row, used, column in zip(weights, support.reshape(2, -1), terms.T, strict=True):
            row[used] = np.linalg.lstsq(theta[:, used], column)[0]
        left = (terms - theta @ weights.T) / np.sqrt(np.mean(terms**2, axis=0))
        criterion = terms.size * np.log(np.sum(left**2)) + support.sum() * np.log(terms.size)
        if criterion < best:
            best, chosen = criterion, weights
    return experiment.outcome(chosen != 0, chosen, states[0])

"""The two posteriors written in sciad, as a new user writes them: default settings, a poor start."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import xarray as xr

import sciad as sd
from benchmarks.scenarios import BOARDING_SCHOOL, LYNX_HARE, Posterior

# Where sciad's posterior calls a reference's parameter by another name.
NAMES = {
    "initial_hare": "initial.hare",
    "initial_lynx": "initial.lynx",
    "sigma_hare": "noise.hare.sigma",
    "sigma_lynx": "noise.lynx.sigma",
    "phi_inv": "noise.infected.dispersion",
}


class LotkaVolterra(eqx.Module):
    """Prey and predator, started a factor of two and more from the answer."""

    alpha: sd.Param = sd.param(1.0, prior=dist.TruncatedNormal(1.0, 0.5, low=0.0))
    beta: sd.Param = sd.param(0.05, prior=dist.TruncatedNormal(0.05, 0.05, low=0.0))
    gamma: sd.Param = sd.param(1.0, prior=dist.TruncatedNormal(1.0, 0.5, low=0.0))
    delta: sd.Param = sd.param(0.05, prior=dist.TruncatedNormal(0.05, 0.05, low=0.0))

    def __call__(self, t: Any, y: Any) -> Any:
        """Return the slopes of the two populations."""
        del t
        hare, lynx = y
        return jnp.stack([(self.alpha - self.beta * lynx) * hare, (self.delta * hare - self.gamma) * lynx])


class Epidemic(eqx.Module):
    """SIR among 763 boys."""

    beta: sd.Param = sd.param(1.0, prior=dist.TruncatedNormal(2.0, 1.0, low=0.0))
    gamma: sd.Param = sd.param(0.2, prior=dist.TruncatedNormal(0.4, 0.5, low=0.0))

    def __call__(self, t: Any, y: Any) -> Any:
        """Return the slopes of susceptible, infected and recovered."""
        del t
        susceptible, infected, _ = y
        infection, recovery = self.beta * susceptible * infected / 763.0, self.gamma * infected
        return jnp.stack([-infection, infection - recovery, recovery])


def _data(posterior: Posterior) -> xr.Dataset:
    series = {name: ("time", np.array(values, dtype=float)) for name, values in posterior.observed.items()}
    return xr.Dataset(series, coords={"time": np.array(posterior.times)})


def lynx_hare() -> tuple[Any, Any]:
    """Return problem and program of the Hudson Bay posterior."""
    initial = {name: sd.param(prior=dist.LogNormal(jnp.log(10.0), 1.0)) for name in ("hare", "lynx")}
    data, fields = _data(LYNX_HARE), ("hare", "lynx")
    return sd.ODEProblem(data, fields=fields, noise=sd.LogNormal(), initial=initial, time="time"), LotkaVolterra()


def boarding_school() -> tuple[Any, Any]:
    """Return problem and program of the boarding-school posterior."""
    initial = {"susceptible": sd.frozen(762.0), "infected": sd.frozen(1.0), "recovered": sd.frozen(0.0)}
    problem = sd.ODEProblem(
        _data(BOARDING_SCHOOL), states=tuple(initial), noise=sd.NegativeBinomial(), initial=initial, t0=0.0
    )
    return problem, Epidemic()


PROBLEMS = {"lynx_hare": lynx_hare, "boarding_school": boarding_school}


def sampler(case: str, draws: int) -> Callable[[int], tuple[dict[str, Any], int, float]]:
    """Return sciad's sampler as a function of the seed, with the seconds that it was not waiting for a compilation.

    Compilation goes on in threads meanwhile, so what JAX reports of it cannot be subtracted from the whole.
    """
    problem, program = PROBLEMS[case]()

    def sample(seed: int) -> tuple[dict[str, Any], int, float]:
        posterior = sd.sample(problem, program, chains=4, draws=draws, key=jax.random.key(seed), progress=False)
        found = _named(posterior.tree["posterior"].to_dataset(), problem=case)
        running = posterior.diagnostics["warmup_seconds"] + posterior.diagnostics["sample_seconds"]
        return found, int(posterior.diagnostics["divergences"]), running

    return sample


def _named(found: xr.Dataset, *, problem: str) -> dict[str, Any]:
    """Return the draws under the reference's names, with the quantities derived from them."""
    sampled = {"lynx_hare": LYNX_HARE, "boarding_school": BOARDING_SCHOOL}[problem].sampled
    draws = {name: found[NAMES.get(name, name)].to_numpy() for name in sampled}
    if problem == "boarding_school":
        draws |= {"r0": draws["beta"] / draws["gamma"], "recovery_time": 1 / draws["gamma"]}
    return draws

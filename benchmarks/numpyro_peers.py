"""The two posteriors written in NumPyro and Diffrax, as a new user writes them and as an expert does."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, init_to_uniform, init_to_value

from benchmarks.scenarios import BOARDING_SCHOOL, LYNX_HARE

Solve = Callable[..., jax.Array]

# An expert's starting point: round figures from the literature on these very data.
GOOD_STARTS = {
    "lynx_hare": {"alpha": 0.55, "beta": 0.028, "gamma": 0.8, "delta": 0.024, "initial_hare": 34.0}
    | {"initial_lynx": 5.9, "sigma_hare": 0.25, "sigma_lynx": 0.25},
    "boarding_school": {"beta": 1.7, "gamma": 0.54, "phi_inv": 0.12},
}


def solver(**options: Any) -> Solve:
    """Return a function that solves an ODE from 0 with Tsit5 at tolerance 1e-6 and gives the saved states.

    ``throw=False`` is the one departure from Diffrax's defaults: with ``throw=True`` a start of NumPyro's or a long
    warm-up step exhausts ``max_steps`` and the error ends the run. A failed solve then saves infinities, which NumPyro
    counts as a divergence; for the same reason NumPyro's validation of arguments is off in these measurements.
    """

    def solve(field: Callable[..., Any], y0: jax.Array, times: jax.Array, args: Any) -> jax.Array:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Tsit5(),
            t0=0.0,
            t1=times[-1],
            dt0=None,
            y0=y0,
            args=args,
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
            throw=False,
            **options,
        )
        assert solution.ys is not None
        return solution.ys

    return solve


def lynx_hare(solve: Solve) -> None:
    """Lotka-Volterra with log-normal noise on both populations, initial populations unknown."""

    def field(_: Any, y: jax.Array, args: tuple[jax.Array, ...]) -> jax.Array:
        alpha, beta, gamma, delta = args
        hare, lynx = y
        return jnp.stack([(alpha - beta * lynx) * hare, (delta * hare - gamma) * lynx])

    rates = (
        numpyro.sample("alpha", dist.TruncatedNormal(1.0, 0.5, low=0.0)),
        numpyro.sample("beta", dist.TruncatedNormal(0.05, 0.05, low=0.0)),
        numpyro.sample("gamma", dist.TruncatedNormal(1.0, 0.5, low=0.0)),
        numpyro.sample("delta", dist.TruncatedNormal(0.05, 0.05, low=0.0)),
    )
    initial = jnp.stack(
        [numpyro.sample(f"initial_{name}", dist.LogNormal(jnp.log(10.0), 1.0)) for name in ("hare", "lynx")]
    )
    sigma = jnp.stack([numpyro.sample(f"sigma_{name}", dist.LogNormal(-1.0, 1.0)) for name in ("hare", "lynx")])
    ys = solve(field, initial, jnp.array(LYNX_HARE.times), rates)
    observed = jnp.array([LYNX_HARE.observed["hare"], LYNX_HARE.observed["lynx"]]).T
    numpyro.sample("pelts", dist.LogNormal(jnp.log(ys), sigma), obs=observed)


def boarding_school(solve: Solve) -> None:
    """SIR epidemic among 763 boys, one ill at first, with negative-binomial counts of those in bed."""

    def field(_: Any, y: jax.Array, args: tuple[jax.Array, ...]) -> jax.Array:
        beta, gamma = args
        susceptible, infected, _ = y
        infection, recovery = beta * susceptible * infected / 763.0, gamma * infected
        return jnp.stack([-infection, infection - recovery, recovery])

    beta = numpyro.sample("beta", dist.TruncatedNormal(2.0, 1.0, low=0.0))
    gamma = numpyro.sample("gamma", dist.TruncatedNormal(0.4, 0.5, low=0.0))
    phi_inv = numpyro.sample("phi_inv", dist.Exponential(5.0))
    numpyro.deterministic("r0", beta / gamma)
    numpyro.deterministic("recovery_time", 1 / gamma)
    ys = solve(field, jnp.array([762.0, 1.0, 0.0]), jnp.array(BOARDING_SCHOOL.times), (beta, gamma))
    observed = jnp.array(BOARDING_SCHOOL.observed["infected"])
    infected = jnp.maximum(ys[:, 1], 1e-9)  # the solver's error can take a dying epidemic below zero
    numpyro.sample("in_bed", dist.NegativeBinomial2(infected, 1 / phi_inv), obs=observed)


MODELS = {"lynx_hare": lynx_hare, "boarding_school": boarding_school}


def default(case: str, *, draws: int) -> MCMC:
    """Return the sampler of a new user: NUTS, MCMC and diffeqsolve with their defaults, chains one after another.

    Parallel chains are not an option with Diffrax's default adjoint: under NumPyro's ``pmap`` they end in a
    closure-conversion error; without devices to spare NumPyro takes ``sequential`` by itself, as here.
    """
    kernel = NUTS(MODELS[case], init_strategy=init_to_uniform)
    return MCMC(
        kernel, num_warmup=draws, num_samples=draws, num_chains=4, chain_method="sequential", progress_bar=False
    )


def expert(case: str, *, draws: int, chain_method: str) -> MCMC:
    """Return an expert's sampler: dense metric, forward-mode derivatives, a good start, half the warm-up."""
    kernel = NUTS(
        MODELS[case],
        dense_mass=True,
        forward_mode_differentiation=True,
        init_strategy=init_to_value(values=GOOD_STARTS[case]),
    )
    return MCMC(
        kernel,
        num_warmup=draws // 2,
        num_samples=draws,
        num_chains=4,
        chain_method=chain_method,
        progress_bar=False,
    )

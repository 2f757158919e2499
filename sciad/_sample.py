"""The verb `sample`: draws from the posterior of a problem, or of any NumPyro model."""

import time
import warnings as python_warnings
from collections.abc import Callable, Mapping
from typing import Any

import arviz_base
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import PRNGKeyArray, PyTree

from sciad._errors import InputError, OptionError
from sciad._numpyro import model_target
from sciad._posterior import Posterior
from sciad._precision import warn_if_float32
from sciad._progress import Progress
from sciad._target import Target
from sciad.problems.ode import ODEProblem
from sciad.solvers.chains import Chains, Stretch
from sciad.solvers.hamiltonian import NUTS, AbstractKernel
from sciad.solvers.warmup import DENSE, Ready, Warmup, joined, lengths

PREDICTIVE = 400  # draws of the posterior predictive distribution


def sample(
    problem: ODEProblem | Callable[..., Any],
    program: PyTree = None,
    *,
    chains: int = 4,
    draws: int = 1000,
    solver: AbstractKernel | None = None,
    warmup: Warmup | int | None = None,
    key: PRNGKeyArray | None = None,
    model_args: tuple[Any, ...] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Posterior:
    """Draw from a posterior distribution.

    Parameters
    ----------
    problem
        A problem whose inner parameters have priors, or a NumPyro model function.
    program
        The model, or the program of a fit; its values are one of the starts. None for a NumPyro model.
    chains, draws
        Number of chains, and of draws each after warm-up.
    solver
        `sciad.solvers.NUTS` or `sciad.solvers.HMC`.
    warmup
        Settings, or the number of transitions of a full adaptation to be done in any case.
    key
        Source of randomness; default ``jax.random.key(0)``. The same key gives the same draws on the same machine.
    model_args, model_kwargs
        Arguments of a NumPyro model.
    progress
        Whether to show progress on standard error.

    Notes
    -----
    Chains run side by side on JAX's devices, several to a device; `sciad.use_cores` gives JAX one for each core. A point where
    the model cannot be evaluated (a failed solve, an impossible prediction) has density zero: it is rejected, and counted in
    ``sample_stats.failed_solve``. Ctrl-C ends sampling and returns the draws so far.

    Raises
    ------
    InputError
        If a parameter has no prior, or no start can be evaluated.
    """
    # --- set up ---
    if chains < 1 or draws < 4:
        msg = f"sample(chains={chains}, draws={draws}): at least 1 chain and 4 draws are needed."
        raise OptionError(msg)
    warn_if_float32("sampling")
    key = jax.random.key(0) if key is None else key
    key_target, key_start, key_warm, key_predict = jax.random.split(key, 4)
    kernel = NUTS() if solver is None else solver
    plan = Warmup() if warmup is None else Warmup(quick=0, full=warmup) if isinstance(warmup, int) else warmup
    if isinstance(problem, ODEProblem):
        if program is None:
            msg = "sample(problem) needs the program too: sample(problem, program), or sample(problem, fit.program)."
            raise InputError(msg)
        target = problem.target(program)
    else:
        target = model_target(problem, model_args, dict(model_kwargs or {}), key_target)
    with Progress(quiet=not progress) as display:
        # --- compile, warm up ---
        began = time.perf_counter()
        display.say(f"compiling the model ({target.size} parameters)")
        engine = Chains(target.log_density, kernel, chains, target.size, dense=target.size <= DENSE, in_step=target.in_step)
        candidates = _candidates(target, plan.prior_draws, key_start)
        ready = plan.run(engine, candidates, key_warm, _reporter(display, "warm-up"))
        warmed = time.perf_counter()
        # --- draw ---
        stretches, interrupted = _draw(engine, ready, draws, _reporter(display, "sampling"))
    drawn = time.perf_counter()
    # --- finish ---
    notes = list(ready.notes)
    if interrupted:
        notes.append(f"Stopped by the user after {stretches.draws.shape[1]} of {draws} draws in each chain.")
    tree = _tree(target, stretches)
    if isinstance(problem, ODEProblem):
        tree = xr.DataTree.from_dict(_predictions(problem, program, target, stretches, key_predict) | tree.to_dict())
    diagnostics = {
        "metric": ready.kind,
        "step_size": [float(s) for s in engine.step_sizes(ready.state)],
        "warmup": ready.transitions,
        "modes": len(ready.modes),
        "devices": engine.devices,
        "compile_seconds": engine.compile_seconds,
        "warmup_seconds": warmed - began - engine.compile_seconds,
        "sample_seconds": drawn - warmed,
        "predictive_seconds": time.perf_counter() - drawn,
    }
    return Posterior.of(tree, diagnostics, notes)


def use_cores(number: int | None = None) -> int:
    """Let JAX see several CPU devices, so that chains run in parallel; call it before anything else uses JAX.

    Parameters
    ----------
    number
        How many; default: as many as the machine has cores.

    Returns
    -------
    int
        How many devices there are now. If JAX was already in use nothing changes, and a warning says so.
    """
    import os

    wanted = number or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else number or os.cpu_count() or 1
    try:
        jax.config.update("jax_num_cpu_devices", wanted)
    except RuntimeError:
        if len(jax.local_devices()) != wanted:
            python_warnings.warn(
                f"JAX is already in use, with {len(jax.local_devices())} device(s): chains share these. Call `sciad.use_cores()` at "
                "the top of the script, before the first array is made.",
                stacklevel=2,
            )
    return len(jax.local_devices())


def _candidates(target: Target, number: int, key: PRNGKeyArray) -> np.ndarray:
    """The given start, and draws of the prior."""
    drawn = np.asarray(jax.jit(jax.vmap(target.draw_prior))(jax.random.split(key, number)))
    given = [] if target.start is None else [np.asarray(target.start)[None]]
    return np.concatenate([*given, drawn])


def _reporter(display: Progress, stage: str) -> Callable[[int, int, Stretch | None], None]:
    failed = diverged = 0

    def report(done: int, total: int, part: Stretch | None) -> None:
        nonlocal failed, diverged
        if part is not None:
            failed += int(part.info.failed.sum())
            diverged += int((part.info.diverging & ~part.info.failed).sum())
        display.update(stage, done, total, f"{diverged} divergences, {failed} failed solves")

    return report


def _draw(engine: Chains, ready: Ready, draws: int, report: Callable[..., None]) -> tuple[Stretch, bool]:
    state, parts, done = ready.state, [], 0
    try:
        for length in lengths(draws):
            state, part = engine.advance(state, ready.metric, length, adapt=False)
            parts.append(part)
            done += length
            report(done, draws, part)
    except KeyboardInterrupt:
        if not parts:
            raise
        return joined(parts), True
    return joined(parts), False


def _tree(target: Target, stretches: Stretch) -> xr.DataTree:
    values = jax.jit(jax.vmap(jax.vmap(target.values)))(jnp.asarray(stretches.draws))
    info = stretches.info
    stats = {
        "acceptance_rate": info.accept_prob,
        "diverging": info.diverging,
        "failed_solve": info.failed,
        "energy": info.energy,
        "lp": -info.potential,
        "n_steps": info.steps,
        "reached_max_treedepth": info.saturated,
    }
    return arviz_base.from_dict({"posterior": {n: np.asarray(v) for n, v in values.items()}, "sample_stats": stats})


def _predictions(
    problem: ODEProblem, program: PyTree, target: Target, stretches: Stretch, key: PRNGKeyArray
) -> dict[str, xr.Dataset]:
    """Posterior and prior predictive draws, pointwise log-likelihoods, and the data."""
    chains, draws, size = stretches.draws.shape
    kept = max(1, min(draws, PREDICTIVE // chains))
    thin = np.linspace(0, draws - 1, kept).astype(int)
    key_prior, key_data = jax.random.split(key)
    prior = jax.vmap(target.draw_prior)(jax.random.split(key_prior, chains * kept))
    vectors = jnp.concatenate([jnp.asarray(stretches.draws[:, thin].reshape(-1, size)), prior])
    replicate = problem.replicator(program)
    new, log_likelihood = jax.jit(jax.vmap(replicate))(vectors, jax.random.split(key_data, len(vectors)))

    def group(values: jax.Array, part: slice) -> xr.Dataset:
        shaped = np.asarray(values[part]).reshape(chains, kept, *values.shape[1:])
        made = problem.dataset(shaped, lead=("chain", "draw"))
        return made.assign_coords(chain=np.arange(chains), draw=thin)

    posterior, rest = slice(0, chains * kept), slice(chains * kept, None)
    seen = problem.observations
    return {
        "posterior_predictive": group(new, posterior),
        "prior_predictive": group(new, rest),
        "log_likelihood": group(jnp.where(seen.observed, log_likelihood, jnp.nan), posterior),
        "observed_data": problem.dataset(seen.values),
    }

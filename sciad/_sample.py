"""The verb `sample`: draws from the posterior of a problem, or of any NumPyro model."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import PRNGKeyArray, PyTree

from sciad._errors import InputError, OptionError
from sciad._key import as_key
from sciad._numpyro import model_target
from sciad._posterior import Posterior
from sciad._precision import warn_if_float32
from sciad._progress import Progress
from sciad._target import Target
from sciad._tree import PREDICTIVE, Predictor, Prior, Values, sampled_tree
from sciad.problems.lines import MethodOfLines
from sciad.problems.ode import ODEProblem
from sciad.problems.pde import PDEProblem
from sciad.solvers.chains import RANDOM, Chains, Stretch
from sciad.solvers.checkpoint import Checkpoint
from sciad.solvers.hamiltonian import NUTS, AbstractKernel
from sciad.solvers.warmup import DENSE, Ready, Warmup, joined, lengths, random_words


def sample(
    problem: ODEProblem | MethodOfLines | Callable[..., Any],
    program: PyTree = None,
    *,
    chains: int = 4,
    draws: int = 1000,
    solver: AbstractKernel | None = None,
    warmup: Warmup | int | None = None,
    key: PRNGKeyArray | int | None = None,
    model_args: tuple[Any, ...] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> Posterior:
    """Draw from a posterior distribution.

    Parameters
    ----------
    problem
        A problem whose inner parameters have priors, an `ODEProblem` or a `MethodOfLines`, or a NumPyro model function.
    program
        The model, or the program of a fit; its values are one of the starts. None for a NumPyro model.
    chains, draws
        Number of chains, and of draws each after warm-up.
    solver
        `sciad.solvers.NUTS` or `sciad.solvers.HMC`.
    warmup
        Settings, or the number of transitions of a full adaptation to be done in any case.
    key
        Source of randomness, or a whole number that seeds one; default 0. The same key gives the same draws on the same
        machine.
    model_args, model_kwargs
        Arguments of a NumPyro model.
    checkpoint
        File in which chains and draws are kept every few seconds. If it exists, sampling goes on from it, after a
        killed process too, to the draws that an uninterrupted run gives; with more `draws` than before it adds to them.
    progress
        Whether to show progress on standard error.

    Notes
    -----
    Chains run side by side on JAX's devices, several to a device; `sciad.use_cores` gives JAX one for each core. A
    point where the model cannot be evaluated (a failed solve, an impossible prediction) has density zero: it is
    rejected, and counted in ``sample_stats.failed_solve``. Ctrl-C ends sampling and returns the draws so far.

    Raises
    ------
    InputError
        If a parameter has no prior, no start can be evaluated, or the checkpoint is of another run.
    """
    # --- set up ---
    for name, number, least in (("chains", chains, 1), ("draws", draws, 4)):
        if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < least:
            msg = f"sample({name}={number!r}): expected a whole number of at least {least}."
            raise OptionError(msg)
    if not isinstance(warmup, Warmup | int | None):
        msg = f"sample(warmup={warmup!r}): expected a whole number of transitions, or sd.Warmup(...)."
        raise OptionError(msg)
    kernel = _kernel(solver)
    warn_if_float32("sampling")
    entropy = np.asarray(jax.random.key_data(as_key(key))).tolist()
    for_target, for_start, for_warmup, for_prediction = np.random.SeedSequence(entropy).spawn(4)
    plan = Warmup() if warmup is None else Warmup(quick=0, full=warmup) if isinstance(warmup, int) else warmup
    with Progress(quiet=not progress) as display:
        # --- compile, each part on threads while the next is traced ---
        began = time.perf_counter()
        display.say("compiling the model")
        program = _complete(problem, program)
        target = _target(problem, program, model_args, dict(model_kwargs or {}), for_target)
        prior = Prior(target, max(plan.prior_draws, PREDICTIVE))
        engine = Chains(
            target.log_density, kernel, chains, target.size, dense=target.size <= DENSE, in_step=target.in_step
        )
        values = Values(target, chains * draws)
        predict = Predictor(problem, program, target, chains, draws) if isinstance(problem, ODEProblem) else None
        # --- warm up, draw ---
        candidates = prior.draw(for_start)
        given = [] if target.start is None else [np.asarray(target.start)[None]]
        starts = np.concatenate([*given, candidates[: plan.prior_draws]])
        facts = {"parameters": target.names, "kernel": str(kernel), "chains": chains, "key": entropy}
        facts |= {"warm-up": str(plan), "precision": str(jax.numpy.result_type(float))}
        store = None if checkpoint is None else Checkpoint(checkpoint, facts)
        kept = None if store is None else store.load(engine)
        ready, made = kept or (plan.run(engine, starts, for_warmup, _reporter(display, "warm-up")), engine.nothing)
        if kept:
            display.say(f"going on from {checkpoint}, which holds {made.draws.shape[1]} of {draws} draws")
        parts = filter(None, (prior, engine, values, predict))
        compiling = sum(part.compile_seconds for part in parts)
        warmed = time.perf_counter()
        stretches, interrupted = _draw(engine, ready, made, draws, store, _reporter(display, "sampling"))
    drawn = time.perf_counter()
    # --- finish ---
    notes = list(ready.notes)
    if interrupted:
        notes.append(f"Stopped by the user after {stretches.draws.shape[1]} of {draws} draws in each chain.")
    tree = sampled_tree(values(stretches.draws), stretches.info, target.axes)
    if predict is not None:
        tree = xr.DataTree.from_dict(predict(stretches.draws, candidates, for_prediction) | tree.to_dict())
    diagnostics = {
        "metric": ready.kind,
        "step_size": [float(s) for s in engine.step_sizes(ready.state)],
        "warmup": ready.transitions,
        "modes": ready.modes,
        "devices": engine.devices,
        "compile_seconds": compiling,
        "warmup_seconds": warmed - began - compiling,
        "sample_seconds": drawn - warmed,
        "predictive_seconds": time.perf_counter() - drawn,
    }
    return Posterior.of(tree, diagnostics, notes)


def _kernel(solver: Any) -> AbstractKernel:
    if not isinstance(solver, AbstractKernel | None):
        msg = f"sample(solver={type(solver).__name__}): expected `sciad.NUTS(...)` or `sciad.HMC(...)`."
        raise OptionError(msg)
    return NUTS() if solver is None else solver


def _complete(problem: ODEProblem | MethodOfLines | Callable[..., Any], program: PyTree) -> PyTree:
    """Return the program with the problem's own parts, checked once for all that follows."""
    if isinstance(problem, PDEProblem):
        msg = "sample(PDEProblem): a field's weights are not drawn. Say sample(sd.MethodOfLines(problem), equation), "
        msg += "which draws the unknown numbers by simulation, or take the errors of sd.fit."
        raise InputError(msg)
    if not isinstance(problem, ODEProblem | MethodOfLines):
        return program
    if program is None:
        msg = "sample(problem) needs the program too: sample(problem, program), or sample(problem, fit.program)."
        raise InputError(msg)
    return problem.complete(program)


def _target(
    problem: ODEProblem | MethodOfLines | Callable[..., Any],
    program: PyTree,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    seed: np.random.SeedSequence,
) -> Target:
    if not isinstance(problem, ODEProblem | MethodOfLines):
        if program is not None:
            msg = "sample(model, program): a NumPyro model takes no program. Give its arguments as `model_args=(...)`."
            raise OptionError(msg)
        return model_target(problem, args, kwargs, jax.random.wrap_key_data(random_words(seed, 1)[0], impl=RANDOM))
    if args or kwargs:
        msg = "sample(problem, model_args=...): these are arguments of a NumPyro model; a problem has none. Drop them."
        raise OptionError(msg)
    return problem.target(program)


def _reporter(display: Progress, stage: str) -> Callable[[int, int, Stretch | None], None]:
    failed = diverged = 0

    def report(done: int, total: int, part: Stretch | None) -> None:
        nonlocal failed, diverged
        if part is not None:
            failed += int(part.info.failed.sum())
            diverged += int((part.info.diverging & ~part.info.failed).sum())
        display.update(stage, done, total, f"{diverged} divergences, {failed} failed solves")

    return report


def _draw(
    engine: Chains, ready: Ready, made: Stretch, draws: int, store: Checkpoint | None, report: Callable[..., None]
) -> tuple[Stretch, bool]:
    """Add draws to those `made` until there are enough; true if the user stopped that."""
    so_far, interrupted = (ready, [made]), False

    def number() -> int:
        return sum(part.draws.shape[1] for part in so_far[1])

    try:
        for length in lengths(draws - number()):
            ready, parts = so_far
            state, part = engine.advance(ready.state, ready.metric, length, adapt=False)
            so_far = ready._replace(state=state), [*parts, part]  # at once: an interrupt finds chains and draws agree
            if store is not None and store.due:
                so_far = so_far[0], [joined(so_far[1])]
                store.save(so_far[0], so_far[1][0])
            report(number(), draws, part)
    except KeyboardInterrupt:
        if not number():
            raise
        interrupted = True
    ready, parts = so_far
    found = joined(parts)
    if store is not None:
        store.save(ready, found)
    return jax.tree.map(lambda x: x[:, :draws], found), interrupted

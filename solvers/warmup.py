"""From a cold start to chains that are ready to sample: starts, metric, step size.

The quick way puts the metric at the Hessian of the mode, adapts the step size alone, and looks whether early draws agree with
that metric. Where they do not, or there is no mode, Stan's windowed adaptation follows, the covariance pooled over chains.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from numpyro.infer.hmc_util import build_adaptation_schedule

from sciad._errors import InputError, OptionError
from sciad.solvers.chains import STRETCH, Chains, ChainState, Stretch
from sciad.solvers.hamiltonian import Metric
from sciad.solvers.mode import Mode, find_modes

DENSE = 200  # parameters up to which a dense metric is kept
Report = Callable[[int, int, Stretch | None], None]


class Ready(NamedTuple):
    """Chains ready to sample, and how they became so."""

    state: ChainState
    metric: Metric
    kind: str
    notes: list[str]
    modes: list[Mode]
    transitions: int


class Warmup(eqx.Module):
    """Settings of the warm-up.

    Parameters
    ----------
    quick
        Transitions with the metric of the mode's Hessian; 0 to go without.
    full
        Transitions of the windowed adaptation, where the quick way is not enough.
    prior_draws
        Draws of the prior among which good starts are sought.
    """

    quick: int = eqx.field(static=True, default=150)
    full: int = eqx.field(static=True, default=1000)
    prior_draws: int = eqx.field(static=True, default=256)

    def __check_init__(self) -> None:
        if self.quick < 0 or self.full < 20 or self.prior_draws < 1:
            msg = (
                f"Warmup(quick={self.quick}, full={self.full}, prior_draws={self.prior_draws}): quick must be at least 0, full at "
                "least 20, prior_draws at least 1."
            )
            raise OptionError(
                msg
            )

    def run(self, chains: Chains, candidates: Float[np.ndarray, "n d"], key: PRNGKeyArray, report: Report) -> Ready:
        """Warm the chains up from `candidates`, the first of which is the user's own start.

        Raises
        ------
        InputError
            If the density can be evaluated at none of the candidates.
        """
        key_start, key_chains, key_full = jax.random.split(key, 3)
        modes = find_modes(chains.evaluate, candidates)
        if not modes:
            msg = (
                f"The model could not be evaluated at any of {len(candidates)} starts: every solve failed or gave an impossible "
                "prediction. Check the equation, the units of data and parameters, and the priors."
            )
            raise InputError(
                msg
            )
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key_start)))
        mode, notes = modes[0], _several(modes)
        curved = mode.converged and np.linalg.eigvalsh(mode.hessian)[0] > 0 and chains.dense
        covariance = np.linalg.inv(mode.hessian) if curved else np.eye(chains.size)
        positions = _scattered(chains, mode, covariance if curved else 0.01 * covariance, rng)
        state = chains.start(positions, key_chains, step_size=0.5 * chains.size**-0.25)
        if self.quick and curved:
            metric = metric_of(covariance)
            state, early = advance(chains, state, metric, self.quick // 2, report, adapt=True, total=self.quick)
            state, early = advance(
                chains, state, metric, self.quick - self.quick // 2, report, adapt=True, done=self.quick // 2, total=self.quick
            )
            reason = disagreement(early, covariance)
            if reason is None:
                return Ready(state, metric, "Hessian at the mode", notes, modes, self.quick)
            notes.append(f"The metric of the mode's Hessian was given up for full adaptation: {reason}.")
        del key_full
        return self._full(chains, state, covariance, notes, modes, report)

    def _full(
        self, chains: Chains, state: ChainState, covariance: np.ndarray, notes: list[str], modes: list[Mode], report: Report
    ) -> Ready:
        """Stan's windows: step size alone, covariance over doubling windows, step size alone."""
        metric = metric_of(covariance if chains.dense else np.diag(covariance))
        state = chains.restart_step_size(state)
        windows = build_adaptation_schedule(self.full)
        for i, window in enumerate(windows):
            number = window.end - window.start + 1
            state, seen = advance(chains, state, metric, number, report, adapt=True, done=window.start, total=self.full)
            if 0 < i < len(windows) - 1:
                metric = metric_of(pooled_covariance(seen.draws, dense=chains.dense))
                state = chains.restart_step_size(state)
        kind = "dense, adapted" if chains.dense else "diagonal, adapted"
        return Ready(state, metric, kind, notes, modes, self.full)


def advance(
    chains: Chains, state: ChainState, metric: Metric, number: int, report: Report, *, adapt: bool, done: int = 0, total: int
) -> tuple[ChainState, Stretch]:
    """Make `number` transitions in stretches, reporting after each."""
    parts = []
    for length in lengths(number):
        state, part = chains.advance(state, metric, length, adapt=adapt)
        parts.append(part)
        done += length
        report(done, total, part)
    return state, joined(parts)


def lengths(number: int) -> Iterator[int]:
    """Cut a number of transitions into stretches."""
    for at in range(0, number, STRETCH):
        yield min(STRETCH, number - at)


def joined(parts: list[Stretch]) -> Stretch:
    """Put stretches one after another."""
    return jax.tree.map(lambda *x: np.concatenate(x, axis=1), *parts)


def metric_of(covariance: Float[np.ndarray, " d *d2"]) -> Metric:
    """Return the metric whose inverse mass is this covariance: ``R = A⁻ᵀ`` for ``covariance = A Aᵀ``."""
    if covariance.ndim == 1:
        return Metric(covariance, 1 / np.sqrt(covariance))
    return Metric(covariance, np.linalg.inv(np.linalg.cholesky(covariance)).T)


def pooled_covariance(draws: Float[np.ndarray, "chains n d"], *, dense: bool) -> Float[np.ndarray, " d *d2"]:
    """Return the covariance within chains, shrunk as in Stan: chains that disagree do not widen it."""
    centred = (draws - draws.mean(axis=1, keepdims=True)).reshape(-1, draws.shape[-1])
    n = len(centred)
    weight, floor = n / (n + 5.0), 1e-3 * 5.0 / (n + 5.0)
    if not dense:
        return weight * centred.var(axis=0) + floor
    return weight * np.cov(centred.T).reshape((draws.shape[-1],) * 2) + floor * np.eye(draws.shape[-1])


def disagreement(early: Stretch, covariance: Float[np.ndarray, "d d"]) -> str | None:
    """Say why early draws speak against the metric, or return None.

    Whitened by the metric, draws of a posterior that it fits have unit covariance; the bounds allow for a factor of three in
    variance beside the scatter of the eigenvalues of a sample covariance, ``(1 ± √(d/n))²``.
    """
    chains, n, size = early.draws.shape
    if early.info.diverging.mean() > 0.02:
        return f"{early.info.diverging.sum()} of {early.info.diverging.size} early transitions diverged"
    if early.info.saturated.any():
        return "early trajectories reached the greatest tree depth"
    white = np.linalg.solve(np.linalg.cholesky(covariance), early.draws.reshape(-1, size).T).T
    spread = np.linalg.eigvalsh(np.cov(white.T).reshape(size, size))
    scatter = np.sqrt(size / max(chains * n / 3, size))
    if spread[-1] > 3 * (1 + scatter) ** 2 or spread[0] < (1 - scatter) ** 2 / 3:
        return f"early draws spread {spread[0]:.2g} to {spread[-1]:.2g} times as far as it says, in variance"
    return None


def _several(modes: list[Mode]) -> list[str]:
    near = [m for m in modes if m.converged and m.potential - modes[0].potential < 6.0]
    if len(near) < 2:
        return []
    heights = ", ".join(f"{modes[0].potential - m.potential:.1f}" for m in near)
    return [f"{len(near)} modes of comparable log-density ({heights}): the chains start at the highest and may not visit the others."]


def _scattered(chains: Chains, mode: Mode, covariance: np.ndarray, rng: Any) -> Float[np.ndarray, "chains d"]:
    """Starts of the chains about the mode, as far as the covariance says; nearer where that is too unlikely, so that none starts elsewhere."""
    factor = np.linalg.cholesky(covariance)
    offsets = rng.standard_normal((chains.number, chains.size)) @ factor.T
    allowed = mode.potential + 1.25 * chains.size + 3.0
    for _ in range(20):
        potentials, _ = chains.evaluate(mode.position + offsets)
        bad = ~(potentials < allowed)
        if not bad.any():
            break
        offsets[bad] *= 0.5
    return mode.position + offsets

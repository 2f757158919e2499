"""From a cold start to chains that are ready to sample: starts, metric, step size.

The quick way puts the metric at the Hessian of the mode, adapts the step size alone, and looks whether early draws
agree with that metric. Where they do not, or there is no mode, Stan's windowed adaptation follows, the covariance
pooled over chains.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, UInt32
from numpyro.infer.hmc_util import build_adaptation_schedule

from sciad._errors import InputError, OptionError
from sciad.solvers.chains import STRETCH, Chains, ChainState, Stretch
from sciad.solvers.hamiltonian import Metric
from sciad.solvers.mode import Mode, descend, find_modes

DENSE = 200  # parameters up to which a dense metric is kept
Report = Callable[[int, int, Stretch | None], None]


class Ready(NamedTuple):
    """Chains ready to sample, and how they became so: metric, remarks, number of modes and transitions."""

    state: ChainState
    metric: Metric
    kind: str
    notes: list[str]
    modes: int
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
        if 0 != self.quick < 20 or self.full < 20 or self.prior_draws < 1:
            msg = (
                f"Warmup(quick={self.quick}, full={self.full}, prior_draws={self.prior_draws}): quick must be "
                "0 or at least 20, full at least 20, prior_draws at least 1."
            )
            raise OptionError(msg)

    def run(
        self, chains: Chains, candidates: Float[np.ndarray, "n d"], seed: np.random.SeedSequence, report: Report
    ) -> Ready:
        """Warm the chains up from `candidates`, the first of which is the user's own start.

        Raises
        ------
        InputError
            If the density can be evaluated at none of the candidates.
        """
        modes = (find_modes if chains.dense else descend)(chains.evaluate, candidates)
        if not modes:
            msg = (
                f"The model could not be evaluated at any of {len(candidates)} starts: every solve failed or gave an "
                "impossible prediction. Check the equation, the units of data and parameters, and the priors."
            )
            raise InputError(msg)
        for_starts, for_chains = seed.spawn(2)
        mode, notes = modes[0], _several(modes)
        positions = _scattered(chains, mode, np.random.default_rng(for_starts))
        state = chains.start(positions, random_words(for_chains, chains.number), step_size=0.5 * chains.size**-0.25)
        covariance = mode.covariance
        if self.quick and mode.converged and chains.dense:
            half, metric = self.quick // 2, metric_of(covariance)
            state, _ = advance(chains, state, metric, half, report, adapt=True, total=self.quick)
            state, early = advance(
                chains, state, metric, self.quick - half, report, adapt=True, done=half, total=self.quick
            )
            reason = disagreement(early, covariance)
            if reason is None:
                return Ready(state, metric_of(covariance), "Hessian at the mode", notes, _number(modes), self.quick)
            notes.append(f"The metric of the mode's Hessian was given up for full adaptation: {reason}.")
            covariance = pooled_covariance(early.draws, covariance)
        elif self.quick and chains.dense:
            notes.append("No mode holds the probability about it: the metric was found by full adaptation.")
        return self._full(chains, state, covariance, notes, modes, report)

    def _full(
        self,
        chains: Chains,
        state: ChainState,
        covariance: np.ndarray,
        notes: list[str],
        modes: list[Mode],
        report: Report,
    ) -> Ready:
        """Stan's windows: step size alone, covariance over doubling windows, step size alone."""
        covariance = covariance if chains.dense else np.diag(covariance)
        state = chains.restart_step_size(state)
        windows = build_adaptation_schedule(self.full)
        for i, window in enumerate(windows):
            number = window.end - window.start + 1
            state, seen = advance(
                chains, state, metric_of(covariance), number, report, adapt=True, done=window.start, total=self.full
            )
            if 0 < i < len(windows) - 1:
                covariance = pooled_covariance(seen.draws, covariance)
                state = chains.restart_step_size(state)
        kind = "dense" if chains.dense else "diagonal"
        kind += ", adapted" if len(windows) > 2 else ", not adapted: the warm-up was too short for it"
        return Ready(state, metric_of(covariance), kind, notes, _number(modes), self.full)


def advance(
    chains: Chains,
    state: ChainState,
    metric: Metric,
    number: int,
    report: Report,
    *,
    adapt: bool,
    done: int = 0,
    total: int,
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


def pooled_covariance(
    draws: Float[np.ndarray, "chains n d"], previous: Float[np.ndarray, " d *d2"]
) -> Float[np.ndarray, " d *d2"]:
    r"""Return the covariance within chains, shrunk to its diagonal and a little to the one before.

    .. math:: \frac{n S + 2d\,\operatorname{diag} S}{n + 2d} + \frac{0.005}{n + 5}\,C

    for n draws of d numbers with covariance S about the chains' own means, so that chains that disagree do not widen
    it. The first term is regular for any n; the second, Stan's with the covariance C before in place of the identity,
    if chains stand.
    """
    centred = (draws - draws.mean(axis=1, keepdims=True)).reshape(-1, draws.shape[-1])
    n, size = centred.shape
    floor = 0.005 / (n + 5) * previous
    variances = np.mean(centred**2, axis=0)
    if previous.ndim == 1:
        return variances + floor
    return (centred.T @ centred + 2 * size * np.diag(variances)) / (n + 2 * size) + floor


def disagreement(early: Stretch, covariance: Float[np.ndarray, "d d"]) -> str | None:
    """Say why early draws speak against the metric, or return None.

    Whitened by the metric, draws of a posterior that it fits have unit covariance; the bounds allow for a factor of
    three in variance beside the scatter of the eigenvalues of a sample covariance, ``(1 ± √(d/n))²``.
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


def random_words(seed: np.random.SeedSequence, number: int) -> UInt32[np.ndarray, "number 2"]:
    """Return the data of `number` independent JAX keys, made on the host without compiling anything."""
    return seed.generate_state(2 * number).reshape(number, 2)


def _number(modes: list[Mode]) -> int:
    return sum(mode.converged for mode in modes)


def _several(modes: list[Mode]) -> list[str]:
    near = [m for m in modes if m.converged and modes[0].mass - m.mass < 6.0]
    if len(near) < 2:
        return []
    masses = ", ".join(f"{np.exp(m.mass - modes[0].mass):.2g}" for m in near)
    return [
        f"The density has {len(near)} modes of comparable mass (about {masses}): the chains start at the first and may "
        "not visit the others."
    ]


def _scattered(chains: Chains, mode: Mode, rng: np.random.Generator) -> Float[np.ndarray, "chains d"]:
    """Return starts of the chains about the mode, as far as its curvature says; nearer where that is too unlikely."""
    factor = np.linalg.cholesky(mode.covariance)
    offsets = rng.standard_normal((chains.number, chains.size)) @ factor.T
    allowed = mode.potential + 1.25 * chains.size + 3.0
    for factor in [*[0.5] * 20, 0.0]:
        potentials, _ = chains.evaluate(mode.position + offsets)
        bad = ~(potentials < allowed)
        if not bad.any():
            break
        offsets[bad] *= factor
    return mode.position + offsets

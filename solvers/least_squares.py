"""Maximum likelihood by alternating nonlinear least squares and noise estimation, from several starts."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float

from sciad._errors import OptionError
from sciad._results import RESULTS

REJECTED = 1e8  # residual of a point whose solve fails: any step to it is refused, and it is never an answer

Residuals = Callable[[Array, Array], tuple[Array, Array]]
NoiseLoss = Callable[[Array, Array, Array], Array]


class Estimate(NamedTuple):
    """Outcome of an estimation; `location` and `noise` are unconstrained vectors."""

    location: Float[np.ndarray, " p"]
    noise: Float[np.ndarray, " q"]
    result: optx.RESULTS
    stats: dict[str, Any]


class LeastSquares(eqx.Module):
    r"""Levenberg-Marquardt on standardised residuals, alternating with the maximum likelihood of the noise.

    With the noise held, :math:`\min_\theta \tfrac12 \lVert r(\theta) \rVert^2` by `optimistix.LevenbergMarquardt`; with
    :math:`\theta` held, the noise's parameters by `optimistix.BFGS`; in turn, until neither vector moves by more than
    ``rtol * (1 + |v|)``, both in unconstrained space.

    Parameters
    ----------
    starts
        How many starts are tried beside the given one: drawn from the priors, or, where there is none, log-normally about the
        given value. The residuals of all are evaluated, and the best `polished` are optimised.
    polished
        How many of them.
    rtol, atol
        Tolerances of the optimisers.
    max_steps
        Levenberg-Marquardt steps after which a start is given up.
    rounds
        Alternations at most.
    """

    starts: int = eqx.field(static=True, default=128)
    polished: int = eqx.field(static=True, default=6)
    rtol: float = eqx.field(static=True, default=1e-8)
    atol: float = eqx.field(static=True, default=1e-8)
    max_steps: int = eqx.field(static=True, default=256)
    rounds: int = eqx.field(static=True, default=30)

    def __check_init__(self) -> None:
        if self.starts < 0 or self.polished < 1 or self.max_steps < 1 or self.rounds < 1:
            msg = (
                f"LeastSquares(starts={self.starts}, polished={self.polished}, max_steps={self.max_steps}, rounds={self.rounds}): "
                "starts must be at least 0 and the others at least 1."
            )
            raise OptionError(
                msg
            )

    def estimate(
        self,
        residuals: Residuals,
        noise_loss: NoiseLoss,
        locations: Float[Array, "starts p"],
        noise: Float[Array, " q"],
    ) -> Estimate:
        """Estimate from the first row of `locations`, the given start, and the others.

        Parameters
        ----------
        residuals
            ``(location, noise) -> (r, predictions)``; `REJECTED` where a solve fails.
        noise_loss
            ``(noise, location, predictions) -> -log-likelihood``, needing no new solve.
        """
        began = time.perf_counter()
        turn, screen = self._compiled(residuals, noise_loss)
        losses = np.asarray(screen(locations, noise))
        valid = losses < REJECTED
        order = [0, *(int(i) for i in np.argsort(losses) if i != 0)][: self.polished + 1]
        tries = [self._alternate(turn, locations[i], noise) for i in order if valid[i]]
        stats = {
            "starts": losses.size,
            "starts_failed": int(np.sum(~valid)),
            "polished_losses": [t.loss for t in tries],
            "steps": sum(t.steps for t in tries),
            "seconds": time.perf_counter() - began,
        }
        best = min(tries, key=lambda t: t.loss, default=None)
        if best is None or not np.isfinite(best.loss):
            return Estimate(np.asarray(locations[0]), np.asarray(noise), RESULTS.no_valid_start, stats)
        return Estimate(np.asarray(best.location), np.asarray(best.noise), RESULTS.promote(best.result), stats)

    def _compiled(self, residuals: Residuals, noise_loss: NoiseLoss) -> tuple[Any, ...]:
        lm = optx.LevenbergMarquardt(self.rtol, self.atol)
        bfgs = optx.BFGS(self.rtol, self.atol)

        def turn(location: Array, noise: Array) -> tuple[Array, Array, Array, optx.RESULTS, Array]:
            solution = optx.least_squares(
                lambda v, n: residuals(v, n)[0], lm, location, args=noise, max_steps=self.max_steps, throw=False
            )
            location = solution.value
            _, predictions = residuals(location, noise)
            if noise.size:
                def loss(n, args):
                    return noise_loss(n, *args)
                noise = optx.minimise(loss, bfgs, noise, args=(location, predictions), max_steps=256, throw=False).value
            loss = noise_loss(noise, location, predictions)
            return location, noise, loss, solution.result, solution.stats["num_steps"]

        def screen(locations: Array, noise: Array) -> Array:
            r = jax.vmap(lambda v: residuals(v, noise)[0])(locations)
            return jnp.sqrt(jnp.mean(r**2, axis=1))

        return jax.jit(turn), jax.jit(screen)

    def _alternate(self, turn: Any, location: Array, noise: Array) -> "_Try":
        steps = 0
        for _ in range(self.rounds):
            before = jnp.concatenate([location, noise])
            location, noise, loss, result, taken = turn(location, noise)
            steps += int(taken)
            moved = jnp.abs(jnp.concatenate([location, noise]) - before) / (1 + jnp.abs(before))
            if not jnp.max(moved) > 10 * self.rtol:
                break
        return _Try(location, noise, float(jnp.nan_to_num(loss, nan=jnp.inf)), result, steps)


class _Try(NamedTuple):
    location: Array
    noise: Array
    loss: float
    result: optx.RESULTS
    steps: int

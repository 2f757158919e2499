"""How much each group of residuals counts while a field is descended to: equation, conditions and data.

First-order steps see the steepest group alone. These rules let the others be seen. Damped Gauss-Newton needs none.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Scalar

from sciad._errors import OptionError, did_you_mean

LEAST = 1e-6  # of the sum over groups: smaller slopes and traces count as this, lest a group that is met gets all

Numbers = dict[str, Any]  # a number for each group


class Seen(NamedTuple):
    """What a rule may ask for: losses of the groups, the lengths of their gradients, and traces of their kernels."""

    losses: Numbers
    slopes: Callable[[], Numbers]
    traces: Callable[[], Numbers]


class Weights(NamedTuple):
    """The factors of the groups' losses, and losses that a rule remembers: the first, and the last."""

    factors: Numbers
    first: Numbers
    last: Numbers
    updates: Int[Array, ""]


def equal(losses: Mapping[str, Array]) -> Weights:
    """Return factors of one, for groups of these names."""
    ones = {name: jnp.ones_like(loss) for name, loss in losses.items()}
    return Weights(ones, ones, ones, jnp.zeros((), int))


class AbstractBalance(eqx.Module):
    """A rule for the factors of the groups' losses, applied every so many steps."""

    every: eqx.AbstractVar[int]

    @abc.abstractmethod
    def update(self, weights: Weights, seen: Seen) -> Weights:
        """Return the next factors."""


class ReLoBRaLo(AbstractBalance):
    r"""Relative loss balancing with random lookback: groups that fell least, by themselves, count most.

    .. math::
        \hat\lambda_i(t, t') = m \frac{\exp(L_i(t) / (T L_i(t')))}{\sum_j \exp(L_j(t) / (T L_j(t')))}, \quad
        \lambda(t) = \alpha\,(\rho\,\lambda(t-1) + (1-\rho)\,\hat\lambda(t, 0)) + (1-\alpha)\,\hat\lambda(t, t-1)

    for m groups, with ρ one with probability `lookback`, and zero else.

    Parameters
    ----------
    temperature
        T: small, and the group that fell least gets all.
    memory
        α.
    lookback
        Mean of ρ.
    seed
        Of its draws.

    References
    ----------
    R. Bischof and M. Kraus, *Multi-objective loss balancing for physics-informed deep learning*, arXiv:2110.09813.
    """

    temperature: float = 0.1
    memory: float = 0.999
    lookback: float = 0.999
    seed: int = eqx.field(static=True, default=0)
    every: int = eqx.field(static=True, default=1)

    def update(self, weights: Weights, seen: Seen) -> Weights:
        """Return the next factors, from losses alone."""
        new = weights.updates == 0
        first = jax.tree.map(lambda old, now: jnp.where(new, now, old), weights.first, seen.losses)
        last = jax.tree.map(lambda old, now: jnp.where(new, now, old), weights.last, seen.losses)
        key = jax.random.fold_in(jax.random.key(self.seed), weights.updates)
        stay = jax.random.bernoulli(key, self.lookback)
        factors = self.mixed(weights.factors, self.relative(seen.losses, first), self.relative(seen.losses, last), stay)
        return Weights(factors, first, seen.losses, weights.updates + 1)

    def relative(self, losses: Numbers, before: Numbers) -> Numbers:
        """Return the factors by losses relative to others."""
        tiny = {name: jnp.finfo(loss.dtype).tiny for name, loss in losses.items()}
        ratios = jnp.stack([losses[name] / jnp.maximum(before[name], tiny[name]) for name in losses])
        shares = len(losses) * jax.nn.softmax(ratios / self.temperature)
        return dict(zip(losses, shares, strict=True))

    def mixed(self, old: Numbers, since_first: Numbers, since_last: Numbers, stay: Bool[Array, ""]) -> Numbers:
        """Return the factors after a draw of ρ."""
        return {
            name: self.memory * jnp.where(stay, old[name], since_first[name]) + (1 - self.memory) * since_last[name]
            for name in old
        }


class GradientNorm(AbstractBalance):
    r"""Gradients of one length for all groups.

    .. math::
        \hat\lambda_i = \frac{\sum_j \lVert \nabla L_j \rVert}{\lVert \nabla L_i \rVert}, \quad
        \lambda \leftarrow \alpha \lambda + (1 - \alpha) \hat\lambda

    Parameters
    ----------
    memory
        α.
    every
        Steps from one update to the next.

    References
    ----------
    S. Wang, S. Sankaran, H. Wang and P. Perdikaris, *An expert's guide to training physics-informed neural networks*,
    arXiv:2308.08468 (2023), Algorithm 1.
    """

    memory: float = 0.9
    every: int = eqx.field(static=True, default=100)

    def update(self, weights: Weights, seen: Seen) -> Weights:
        """Return the next factors, from the lengths of the gradients."""
        return _averaged(weights, seen.slopes(), self.memory)


class NTK(AbstractBalance):
    r"""Neural tangent kernels of one trace for all groups, so that they are met at one speed.

    .. math::
        \hat\lambda_i = \frac{\sum_j \operatorname{tr} K_j}{\operatorname{tr} K_i}, \quad
        \operatorname{tr} K_i = \lVert \partial r_i / \partial \theta \rVert_F^2, \quad
        \lambda \leftarrow \alpha \lambda + (1 - \alpha) \hat\lambda

    with r the residuals whose half sum of squares is the loss. It forms their Jacobian.

    Parameters
    ----------
    memory
        α; zero in the paper.
    every
        Steps from one update to the next.

    References
    ----------
    S. Wang, X. Yu and P. Perdikaris, *When and why PINNs fail to train: a neural tangent kernel perspective*, J.
    Comput. Phys. 449 (2022), Algorithm 1.
    """

    memory: float = 0.9
    every: int = eqx.field(static=True, default=100)

    def update(self, weights: Weights, seen: Seen) -> Weights:
        """Return the next factors, from the traces of the kernels."""
        return _averaged(weights, seen.traces(), self.memory)


class Causal(eqx.Module):
    r"""Let the equation count at late times when it is met at early ones.

    .. math:: L = \frac1M \sum_{i=1}^M w_i L_i, \quad w_i = \exp\Bigl(-\varepsilon \sum_{k<i} L_k\Bigr)

    for M slices of the time, with :math:`L_i` the mean square of the residuals in one, by that at the start, and no
    derivative of the weights.

    Parameters
    ----------
    strictness
        ε.
    slices
        M.

    References
    ----------
    S. Wang, S. Sankaran and P. Perdikaris, *Respecting causality for training physics-informed neural networks*,
    Comput. Methods Appl. Mech. Eng. 421 (2024); arXiv:2203.07404.
    """

    strictness: float = 10.0
    slices: int = eqx.field(static=True, default=16)

    def weights(self, residuals: Float[Array, " n"], times: Float[Array, " n"]) -> Float[Array, " n"]:
        """Return the weight of each residual, whose times run from 0 to 1; the mean of the slices' is one loss."""
        which = jnp.clip((times * self.slices).astype(int), 0, self.slices - 1)
        square = jax.lax.stop_gradient(residuals) ** 2 * residuals.size
        count = jnp.zeros(self.slices, square.dtype).at[which].add(1.0)
        means = jnp.zeros(self.slices, square.dtype).at[which].add(square) / jnp.maximum(count, 1.0)
        before = jnp.cumsum(means) - means
        return jnp.exp(-self.strictness * before)[which]

    def __call__(self, residuals: Float[Array, " m"], times: Float[Array, " n"]) -> Float[Array, " m"]:
        """Return the residuals weighted, several at each time if there are more; their squares sum to the loss."""
        at = jnp.repeat(times, residuals.size // times.size)
        return residuals * jnp.sqrt(self.weights(residuals, at))


BY_NAME: dict[str, Callable[[], AbstractBalance | Causal]] = {
    "relobralo": ReLoBRaLo,
    "gradient_norm": GradientNorm,
    "ntk": NTK,
    "causal": Causal,
}


def chosen(weighting: Any) -> tuple[AbstractBalance | None, Causal | None]:
    """Return the rule for the groups and that in time, from names or rules, one or both.

    Raises
    ------
    OptionError
        If a name is unknown, or there are two of a kind.
    """
    given = () if weighting is None else weighting if isinstance(weighting, Sequence) else (weighting,)
    rules = [_rule(each) for each in ((given,) if isinstance(given, str) else given)]
    balances = [rule for rule in rules if isinstance(rule, AbstractBalance)]
    causal = [rule for rule in rules if isinstance(rule, Causal)]
    if len(balances) > 1 or len(causal) > 1:
        msg = "Descent(weighting=...): give one rule for the groups at most, and 'causal' beside it."
        raise OptionError(msg)
    return next(iter(balances), None), next(iter(causal), None)


def _rule(given: Any) -> AbstractBalance | Causal:
    if isinstance(given, AbstractBalance | Causal):
        return given
    if given not in BY_NAME:
        msg = f"weighting={given!r} is not a rule. {did_you_mean(str(given), BY_NAME)}"
        raise OptionError(msg)
    return BY_NAME[given]()


def _averaged(weights: Weights, sizes: Numbers, memory: float | Scalar) -> Weights:
    """Return factors that would make all sizes equal, mixed with the former ones."""
    total = sum(sizes.values(), start=jnp.zeros(()))
    factors = {
        name: memory * weights.factors[name] + (1 - memory) * total / jnp.maximum(size, LEAST * total)
        for name, size in sizes.items()
    }
    return weights._replace(factors=factors, updates=weights.updates + 1)

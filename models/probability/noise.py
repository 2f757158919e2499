"""Noise models: how an observation scatters about its prediction.

Each gives a NumPyro distribution, and a residual whose square is the deviance: with ``l`` the log-likelihood,

    r = sign(y - μ) √(2 [l(y; y) - l(y; μ)]),        so that  Σ r²/2 = -Σ l(y; μ) + constant.

Least squares on ``r`` is therefore maximum likelihood for every model here, and ``r`` is standardised: about N(0, 1).

Source: P. McCullagh and J. A. Nelder, *Generalized Linear Models* (1989), sections 2.3 and 2.4.
"""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from sciad._errors import InputError
from sciad._roles import Param, param


class AbstractNoise(eqx.Module):
    """Distribution of an observation given its prediction."""

    @abstractmethod
    def distribution(self, mean: Float[Array, "..."]) -> dist.Distribution:
        """Return the distribution of observations whose predictions are `mean`."""

    @abstractmethod
    def residual(self, mean: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the signed deviance residual, in units of the noise."""

    @abstractmethod
    def possible(self, mean: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return where `mean` is a prediction that this noise can scatter about."""

    @abstractmethod
    def check(self, name: str, y: np.ndarray) -> None:
        """Raise InputError if the observations `y` of field `name` cannot come from this noise."""


class Normal(AbstractNoise):
    r"""Additive noise, :math:`y \sim \mathcal N(\mu, \text{scale}^2)`.

    Parameters
    ----------
    scale
        Standard deviation, in the units of the field; to be inferred by `sample` it needs a prior.
    """

    scale: Param | Array

    def __init__(self, scale: Param | Array | float | None = None) -> None:
        self.scale = _positive(1.0 if scale is None else scale)

    def distribution(self, mean: Float[Array, "..."]) -> dist.Distribution:
        return dist.Normal(mean, self.scale)

    def residual(self, mean: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        return (y - mean) / self.scale

    def possible(self, mean: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.isfinite(mean)

    def check(self, name: str, y: np.ndarray) -> None:
        del name, y


class LogNormal(AbstractNoise):
    r"""Multiplicative noise, :math:`\log y \sim \mathcal N(\log \mu, \sigma^2)`; :math:`\mu` is the median.

    Parameters
    ----------
    sigma
        Standard deviation of the logarithm, about the relative error. Default prior: ``LogNormal(-1, 1)``.
    """

    sigma: Param | Array

    def __init__(self, sigma: Param | Array | float | None = None) -> None:
        self.sigma = param(0.3, prior=dist.LogNormal(-1.0, 1.0)) if sigma is None else _positive(sigma)

    def distribution(self, mean: Float[Array, "..."]) -> dist.Distribution:
        return dist.LogNormal(jnp.log(mean), self.sigma)

    def residual(self, mean: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        return (jnp.log(y) - jnp.log(mean)) / self.sigma

    def possible(self, mean: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.isfinite(mean) & (mean > 0)

    def check(self, name: str, y: np.ndarray) -> None:
        _refuse(name, y <= 0, y, "log-normal noise needs positive values", "Use sd.Normal() or sd.StudentT()")


class StudentT(AbstractNoise):
    r"""Additive noise with heavy tails, :math:`(y - \mu)/\text{scale} \sim t_\nu`: outliers pull less.

    Parameters
    ----------
    scale
        Scale, in the units of the field; to be inferred by `sample` it needs a prior.
    df
        Degrees of freedom :math:`\nu`, held fixed unless given as a `param`.
    """

    scale: Param | Array
    df: Param | Array

    def __init__(self, scale: Param | Array | float | None = None, df: Param | float = 4.0) -> None:
        self.scale = _positive(1.0 if scale is None else scale)
        self.df = df if isinstance(df, Param) else param(df, role="frozen")

    def distribution(self, mean: Float[Array, "..."]) -> dist.Distribution:
        return dist.StudentT(self.df, mean, self.scale)

    def residual(self, mean: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        z = (y - mean) / self.scale
        w = z**2 / self.df
        tiny = w < 1e-8
        ratio = jnp.where(tiny, 1.0 - w / 2, jnp.log1p(jnp.where(tiny, 1.0, w)) / jnp.where(tiny, 1.0, w))
        return z * jnp.sqrt((self.df + 1) / self.df * ratio)  # r² = (ν + 1) log(1 + z²/ν)

    def possible(self, mean: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.isfinite(mean)

    def check(self, name: str, y: np.ndarray) -> None:
        del name, y


class NegativeBinomial(AbstractNoise):
    r"""Counts, over-dispersed: :math:`\operatorname{E} y = \mu,\ \operatorname{Var} y = \mu + \text{dispersion}\,\mu^2`.

    Parameters
    ----------
    dispersion
        Zero is Poisson noise. Default prior: ``Exponential(5)``.
    """

    dispersion: Param | Array

    def __init__(self, dispersion: Param | Array | float | None = None) -> None:
        self.dispersion = param(0.1, prior=dist.Exponential(5.0)) if dispersion is None else _positive(dispersion)

    def distribution(self, mean: Float[Array, "..."]) -> dist.Distribution:
        return dist.NegativeBinomial2(mean, jnp.reciprocal(jnp.asarray(self.dispersion)))

    def residual(self, mean: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        k = jnp.reciprocal(jnp.asarray(self.dispersion))
        pearson = (y - mean) / jnp.sqrt(mean + mean**2 / k)
        near = jnp.abs(pearson) < 1e-4  # where the deviance is lost in rounding and equals Pearson's statistic
        m = jnp.where(near, y + 1.0, mean)
        y_safe = jnp.where(y > 0, y, 1.0)
        deviance = 2 * (jnp.where(y > 0, y * jnp.log(y_safe / m), 0.0) - (y + k) * jnp.log((y + k) / (m + k)))
        return jnp.where(near, pearson, jnp.sign(y - m) * jnp.sqrt(jnp.maximum(deviance, 1e-300)))

    def possible(self, mean: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.isfinite(mean) & (mean > 0)

    def check(self, name: str, y: np.ndarray) -> None:
        _refuse(name, y < 0, y, "counts cannot be negative", "Correct the data, or use sd.Normal()")
        _refuse(name, y != np.round(y), y, "counts must be whole numbers", "Round them, or use sd.LogNormal()")


def _positive(value: Param | Array | float) -> Param:
    return value if isinstance(value, Param) else param(value, constraint=dist.constraints.positive)


def _refuse(name: str, bad: np.ndarray, y: np.ndarray, why: str, remedy: str) -> None:
    if bad.any():
        first = y[bad].flat[0]
        msg = f"{int(bad.sum())} of {bad.size} values of {name!r} are unfit ({first:g} first): {why}. {remedy}."
        raise InputError(msg)

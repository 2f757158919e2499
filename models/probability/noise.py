"""Noise models: how an observation scatters about its prediction.

Each gives a NumPyro distribution, and a residual whose square is the deviance: with ``l`` the log-likelihood,

    r = sign(y - μ) √(2 [l(y; y) - l(y; μ)]),        so that  Σ r²/2 = -Σ l(y; μ) + constant.

Least squares on ``r`` is therefore maximum likelihood for every model here, and ``r`` is standardised: about N(0, 1).

The expected (Fisher) information of an observation about μ gives the precision of a fit. About μ and the noise's own
parameters together it is zero for all models here, so the two can be estimated, and their precision stated, apart.

Source: P. McCullagh and J. A. Nelder, *Generalized Linear Models* (1989), sections 2.3 and 2.4.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import ndtri
from jaxtyping import Array, ArrayLike, Bool, Float
from numpyro.distributions import constraints

from sciad._errors import InputError
from sciad._robust import student_t
from sciad._roles import Param, param


class AbstractNoise(eqx.Module):
    """Distribution of an observation given its prediction.

    Attributes
    ----------
    positive
        Whether predictions must be positive.
    """

    positive: ClassVar[bool] = False

    @abstractmethod
    def distribution(self, mean: Float[Array, "..."]) -> dist.Distribution:
        """Return the distribution of observations whose predictions are `mean`."""

    @abstractmethod
    def residual(self, mean: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the signed deviance residual, in units of the noise."""

    @abstractmethod
    def information(self, mean: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the expected information of one observation about its prediction."""

    @abstractmethod
    def check(self, name: str, y: np.ndarray) -> None:
        """Raise InputError if the observations `y` of field `name` cannot come from this noise."""

    def scores(
        self, mean: Float[Array, "..."], y: Float[ArrayLike, "..."], uniform: Float[ArrayLike, "..."]
    ) -> Float[Array, "..."]:
        r"""Return quantile residuals :math:`\Phi^{-1}(F(y))`: independent and standard normal if the model is right.

        For counts, F is drawn between its values below and at `y` by `uniform`, numbers between 0 and 1. Here the
        residual itself, which is normal for normal and log-normal noise.

        Source: P. K. Dunn and G. K. Smyth, *Randomized quantile residuals*, J. Comput. Graph. Stat. 5 (1996).
        """
        del uniform
        return self.residual(mean, jnp.asarray(y))

    def possible(self, mean: Float[Array, "..."]) -> Bool[Array, "..."]:
        """Return where `mean` is a prediction that this noise can scatter about."""
        return jnp.isfinite(mean) & (mean > 0) if self.positive else jnp.isfinite(mean)


class Normal(AbstractNoise):
    r"""Additive noise, :math:`y \sim \mathcal N(\mu, \text{scale}^2)`.

    Parameters
    ----------
    scale
        Standard deviation, in the units of the field: a number if it is known, a `param` if not (with a prior, to be
        inferred by `sample`). Default: unknown, from 1.

    Examples
    --------
    >>> float(Normal(0.5).residual(jnp.array(2.0), jnp.array(3.0)))
    2.0
    """

    scale: Param

    def __init__(self, scale: Param | ArrayLike | None = None) -> None:
        self.scale = _positive(param(1.0) if scale is None else scale, "scale")

    def distribution(self, mean: Float[Array, "..."]) -> dist.Distribution:
        """Return `numpyro.distributions.Normal`."""
        return dist.Normal(mean, self.scale)

    def residual(self, mean: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``(y - μ) / scale``."""
        return (y - mean) / self.scale

    def information(self, mean: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``1 / scale²``."""
        return jnp.broadcast_to(1.0 / jnp.square(jnp.asarray(self.scale)), mean.shape)

    def check(self, name: str, y: np.ndarray) -> None:
        """Accept any numbers."""
        del name, y


class LogNormal(AbstractNoise):
    r"""Multiplicative noise, :math:`\log y \sim \mathcal N(\log \mu, \sigma^2)`; :math:`\mu` is the median.

    Parameters
    ----------
    sigma
        Standard deviation of the logarithm, about the relative error: a number if it is known, a `param` if not.
        Default: unknown, with prior ``LogNormal(-1, 1)``.
    """

    positive: ClassVar[bool] = True
    sigma: Param

    def __init__(self, sigma: Param | ArrayLike | None = None) -> None:
        self.sigma = _positive(param(0.3, prior=dist.LogNormal(-1.0, 1.0)) if sigma is None else sigma, "sigma")

    def distribution(self, mean: Float[Array, "..."]) -> dist.Distribution:
        """Return `numpyro.distributions.LogNormal`."""
        return dist.LogNormal(jnp.log(mean), self.sigma)

    def residual(self, mean: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``(log y - log μ) / sigma``."""
        return (jnp.log(y) - jnp.log(mean)) / self.sigma

    def information(self, mean: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``1 / (μ sigma)²``."""
        return 1.0 / jnp.square(mean * self.sigma)

    def check(self, name: str, y: np.ndarray) -> None:
        """Accept positive numbers."""
        _refuse(name, y <= 0, y, "log-normal noise needs positive values", "Use sd.Normal() or sd.StudentT()")


class StudentT(AbstractNoise):
    r"""Additive noise with heavy tails, :math:`(y - \mu)/\text{scale} \sim t_\nu`: outliers pull less.

    Parameters
    ----------
    scale
        Scale, in the units of the field: a number if it is known, a `param` if not (with a prior, to be inferred by
        `sample`). Default: unknown, from 1.
    df
        Degrees of freedom :math:`\nu`, likewise.
    """

    scale: Param
    df: Param

    def __init__(self, scale: Param | ArrayLike | None = None, df: Param | ArrayLike = 4.0) -> None:
        self.scale = _positive(param(1.0) if scale is None else scale, "scale")
        self.df = _positive(df, "df")

    def distribution(self, mean: Float[Array, "..."]) -> dist.Distribution:
        """Return `numpyro.distributions.StudentT`."""
        return dist.StudentT(self.df, mean, self.scale)

    def residual(self, mean: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``sign(z) √((ν + 1) log(1 + z²/ν))``, of ``z = (y - μ) / scale``."""
        return student_t((y - mean) / self.scale, jnp.asarray(self.df))

    def information(self, mean: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``(ν + 1) / (ν + 3) / scale²``."""
        df, scale = jnp.asarray(self.df), jnp.asarray(self.scale)
        return jnp.broadcast_to((df + 1.0) / (df + 3.0) / jnp.square(scale), mean.shape)

    def scores(
        self, mean: Float[Array, "..."], y: Float[ArrayLike, "..."], uniform: Float[ArrayLike, "..."]
    ) -> Float[Array, "..."]:
        """Return quantile residuals, by the lower tail below the median and the upper one above."""
        del uniform
        z = (jnp.asarray(y) - mean) / self.scale
        tail = dist.StudentT(self.df, 0.0, 1.0).cdf(-jnp.abs(z))
        return -jnp.sign(z) * ndtri(jnp.maximum(tail, jnp.finfo(z.dtype).tiny))

    def check(self, name: str, y: np.ndarray) -> None:
        """Accept any numbers."""
        del name, y


class NegativeBinomial(AbstractNoise):
    r"""Over-dispersed counts.

    .. math:: \operatorname{E} y = \mu, \qquad \operatorname{Var} y = \mu + \text{dispersion}\,\mu^2

    Parameters
    ----------
    dispersion
        Near zero is Poisson noise: a number if it is known, a `param` if not. Default: unknown, with prior
        ``Exponential(5)``.
    """

    positive: ClassVar[bool] = True
    dispersion: Param

    def __init__(self, dispersion: Param | ArrayLike | None = None) -> None:
        unknown = param(0.1, prior=dist.Exponential(5.0))
        self.dispersion = _positive(unknown if dispersion is None else dispersion, "dispersion")

    def distribution(self, mean: Float[Array, "..."]) -> dist.Distribution:
        """Return `numpyro.distributions.NegativeBinomial2`."""
        return dist.NegativeBinomial2(mean, jnp.reciprocal(jnp.asarray(self.dispersion)))

    def residual(self, mean: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``sign(y - μ) √(2 [y log(y/μ) - (y + k) log((y + k)/(μ + k))])``, with ``k = 1/dispersion``."""
        d = jnp.asarray(self.dispersion)
        pearson = (y - mean) / jnp.sqrt(mean) / jnp.sqrt(1.0 + d * mean)
        near = jnp.abs(pearson) < 1e-4  # where the deviance is lost in rounding and equals Pearson's statistic
        m = jnp.where(near, y + 1.0, mean)
        seen = y * jnp.log1p(jnp.where(y > 0, (y - m) / m, 0.0))  # y log(y/μ), zero for y = 0
        half = seen - (y + 1.0 / d) * jnp.log1p(d * (y - m) / (1.0 + d * m))
        return jnp.where(near, pearson, jnp.sign(y - m) * jnp.sqrt(2.0 * half))

    def information(self, mean: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return ``1 / (μ + dispersion μ²)``."""
        return 1.0 / (mean + jnp.square(mean) * self.dispersion)

    def scores(
        self, mean: Float[Array, "..."], y: Float[ArrayLike, "..."], uniform: Float[ArrayLike, "..."]
    ) -> Float[Array, "..."]:
        """Return randomised quantile residuals."""
        counts = self.distribution(mean)
        at, mass = counts.cdf(jnp.asarray(y)), jnp.exp(counts.log_prob(jnp.asarray(y)))
        tiny = jnp.finfo(mean.dtype).eps
        return ndtri(jnp.clip(at - jnp.asarray(uniform) * mass, tiny, 1.0 - tiny))

    def check(self, name: str, y: np.ndarray) -> None:
        """Accept whole numbers from zero."""
        _refuse(name, y < 0, y, "counts cannot be negative", "Correct the data, or use sd.Normal()")
        _refuse(name, y != np.round(y), y, "counts must be whole numbers", "Round them, or use sd.LogNormal()")


def _positive(value: Param | ArrayLike, name: str) -> Param:
    """Return a number as a known constant; a parameter as it is, held positive where nothing else is said."""
    try:
        if not isinstance(value, Param):
            return param(value, role="frozen", constraint=constraints.positive)
        if value.prior is None and value.spec.constraint is None:
            positive = constraints.positive
            return param(value.array, role=value.role, constraint=positive, unit=value.unit, each=value.each)
    except InputError as error:
        msg = f"The noise's {name}: {error}"
        raise InputError(msg) from error
    return value


def _refuse(name: str, bad: np.ndarray, y: np.ndarray, why: str, remedy: str) -> None:
    if bad.any():
        first = y[bad].flat[0]
        msg = f"{int(bad.sum())} of {bad.size} values of {name!r} are unfit ({first:g} first): {why}. {remedy}."
        raise InputError(msg)

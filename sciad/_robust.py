r"""Robust losses as functions of a residual, so that every least-squares solver and derivative knows them.

Each maps a residual r to :math:`\tilde r = \operatorname{sign}(r)\sqrt{\rho(r^2)}`: half the sum of squares of
:math:`\tilde r` is then the robust cost :math:`\tfrac12 \sum \rho(r^2)`, that of plain least squares for small r.

Source: P. J. Huber, *Robust Statistics* (1981).
"""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

SMALL = 1e-4  # |r| below which the root is taken by its series


def huber(residual: Float[Array, "..."], threshold: ArrayLike = 1.345) -> Float[Array, "..."]:
    r"""Return residuals whose squares grow linearly beyond `threshold`: :math:`\rho = 2\delta|r| - \delta^2`.

    At the default, an estimate under normal noise keeps 95 % of its efficiency.

    Examples
    --------
    >>> (huber(jnp.array([0.5, -8.5]), 1.0) ** 2).round(6).tolist()
    [0.25, 16.0]
    """
    size, threshold = jnp.abs(residual), jnp.asarray(threshold)
    far = jnp.maximum(size, threshold)  # so that the root is never taken of what its branch does not hold
    return jnp.where(size <= threshold, residual, jnp.sign(residual) * jnp.sqrt(2 * threshold * far - threshold**2))


def soft_l1(residual: Float[Array, "..."], scale: ArrayLike = 1.0) -> Float[Array, "..."]:
    r"""Return residuals of the smooth loss :math:`\rho = 2 s^2 (\sqrt{1 + r^2/s^2} - 1)`.

    Examples
    --------
    >>> (soft_l1(jnp.array([0.0, 3.0**0.5])) ** 2).round(5).tolist()
    [0.0, 2.0]
    """
    z = residual / scale
    return residual * jnp.sqrt(2 / (1 + jnp.sqrt(1 + z**2)))


def student_t(residual: Float[Array, "..."], df: ArrayLike = 4.0) -> Float[Array, "..."]:
    r"""Return residuals of the likelihood of Student's t: :math:`\rho = (\nu + 1) \log(1 + r^2/\nu)`.

    Examples
    --------
    >>> (student_t(jnp.array([0.0, -2.0]), 4.0) ** 2 / jnp.log(2.0)).tolist()
    [0.0, 5.0]
    """
    df = jnp.asarray(df)
    w = residual**2 / df
    small = jnp.abs(residual) < SMALL
    ratio = jnp.where(small, 1.0 - w / 2, jnp.log1p(jnp.where(small, 1.0, w)) / jnp.where(small, 1.0, w))
    return residual * jnp.sqrt((df + 1) / df * ratio)

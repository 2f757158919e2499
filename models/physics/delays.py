"""Delays that are spread out: the linear chain trick."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sciad._typing import Real


def erlang_delay(stages: Float[Array, " n"], signal: Real, delay: Real) -> Float[Array, " n"]:
    r"""Return the slopes of a chain of stages, of which the last is the signal after an Erlang-distributed delay.

    .. math::
        \dot z_1 = \tfrac{n}{\tau} (u - z_1), \quad \dot z_i = \tfrac{n}{\tau} (z_{i-1} - z_i), \qquad
        z_n(t) = \int_0^\infty u(t - s)\, \frac{(n/\tau)^n s^{n-1}}{(n-1)!} e^{-n s/\tau}\, ds.

    The delay has mean τ and standard deviation :math:`\tau/\sqrt n`: one stage is exponential, very many are a
    discrete delay. The stages are states of the equation, beside others, and start at the signal's value before t0.

    Parameters
    ----------
    stages
        :math:`z_1, \dots, z_n`, in units of the signal.
    signal
        u, now.
    delay
        τ > 0, in units of time. Differentiable, as all else.

    Notes
    -----
    Source: N. MacDonald, *Time Lags in Biological Models* (1978), chapter 2.

    Examples
    --------
    >>> erlang_delay(jnp.array([1.0, 0.0]), 1.0, 0.5).tolist()
    [0.0, 4.0]

    In an equation, the delayed signal is the last stage:

    >>> def logistic(t, y):  # a population, and four stages of its size in the past
    ...     population, stages = y[0], y[1:]
    ...     slope = population * (1 - stages[-1])
    ...     return jnp.concatenate([slope[None], erlang_delay(stages, population, 2.0)])
    >>> logistic(0.0, jnp.full(5, 0.5)).tolist()
    [0.25, 0.0, 0.0, 0.0, 0.0]
    """
    before = jnp.concatenate([jnp.asarray(signal, stages.dtype).reshape(1), stages[:-1]])
    return stages.size / jnp.asarray(delay, stages.dtype) * (before - stages)

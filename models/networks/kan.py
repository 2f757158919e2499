"""Networks that learn the functions on their edges."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class KAN(eqx.Module):
    r"""A Kolmogorov-Arnold network with Chebyshev polynomials on its edges.

    .. math:: h_{k+1, j} = \sum_i \sum_{q=0}^{Q} c_{kjiq} T_q(x_{ki}), \quad x_0 = z, \quad x_k = \tanh h_k

    Coefficients begin normal with variance
    :math:`1/(n (q + 1)^2)` for n units before the edge: smooth functions have falling coefficients.

    Parameters
    ----------
    width, depth
        Units of each hidden layer, and how many of these there are.
    degree
        Q.

    Source: Z. Liu et al., *KAN: Kolmogorov-Arnold networks* (2024), whose edges are splines; S. S. Sidharth et al.,
    *Chebyshev polynomial-based Kolmogorov-Arnold networks* (2024).
    """

    coefficients: list[Float[Array, "m n terms"]]

    def __init__(
        self, inputs: int, outputs: int, *, width: int = 8, depth: int = 2, degree: int = 6, key: PRNGKeyArray
    ) -> None:
        sizes = [inputs, *[width] * depth, outputs]
        keys = jax.random.split(key, depth + 1)
        falling = 1.0 / jnp.arange(1.0, degree + 2)
        self.coefficients = [
            jax.random.normal(k, (m, n, degree + 1)) * falling[None, None] / n**0.5
            for k, (n, m) in zip(keys, itertools.pairwise(sizes), strict=True)
        ]

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " m"]:
        """Evaluate at one point."""
        for number, coefficients in enumerate(self.coefficients):
            x = jnp.tanh(z) if number else z
            z = jnp.einsum("jiq,iq->j", coefficients, _chebyshev(x, coefficients.shape[-1]))
        return z


def _chebyshev(x: Float[Array, " n"], terms: int) -> Float[Array, "n terms"]:
    """Return the polynomials T_0 to T_Q by their recurrence, whose derivatives are finite everywhere."""
    found = [jnp.ones_like(x), x]
    while len(found) < terms:
        found.append(2 * x * found[-1] - found[-2])
    return jnp.stack(found[:terms], axis=1)

"""The step of damped Gauss-Newton, from a linear model: by which matrix it is found, or by none."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float, Scalar

Form = Literal["auto", "primal", "dual", "normal", "iterative"]
SIGNS = 64  # random vectors by which the size of a Jacobian is told that is never formed; exact up to so many residuals
EXACT = 1e-14  # relative tolerance of iterative solves, which are cut short by their number of iterations as a rule


class Linear(NamedTuple):
    """Residuals and their Jacobian at a point, flat."""

    residuals: Float[Array, " n"]
    jacobian: Float[Array, "n p"]

    @property
    def cost(self) -> Scalar:
        """Half the sum of squares."""
        return 0.5 * jnp.sum(self.residuals**2)


class Maps(NamedTuple):
    """A Jacobian by what it does: to changes of the parameters, and transposed to residuals."""

    forward: Callable[[Array], Array]
    back: Callable[[Array], Array]


class Model(NamedTuple):
    """A linear model at a point: the slope is ``Jᵀr``, and the product ``JᵀJ``, of which the lower half is used."""

    at: Linear
    slope: Float[Array, " p"]
    product: Float[Array, "q q"]

    @property
    def finite(self) -> Bool[Array, ""]:
        """Whether residuals and Jacobian are."""
        return jnp.isfinite(self.at.cost) & jnp.all(jnp.isfinite(self.slope))


def primal(model: Model, scale: Array, damping: Scalar, held: Array | None) -> Callable[[Array], Array]:
    """Return the step as a function of the residuals, by QR: the condition number is not squared."""
    jacobian = _free(model.at.jacobian / scale[None], held)
    n, p = jacobian.shape
    damper = jnp.sqrt(damping) * jnp.eye(p, dtype=jacobian.dtype)
    q, r = jnp.linalg.qr(jnp.concatenate([jacobian, damper]))
    return lambda residuals: -jax.scipy.linalg.solve_triangular(r, residuals @ q[:n])


def dual(model: Model, scale: Array, damping: Scalar, held: Array | None) -> Callable[[Array], Array]:
    """Return the step as a function of the residuals, by Cholesky of the kernel matrix ``J Jᵀ + μ``, refined once."""
    jacobian = _free(model.at.jacobian / scale[None], held)
    kernel = jacobian @ jacobian.T + damping * jnp.eye(len(jacobian), dtype=jacobian.dtype)
    factor = jax.scipy.linalg.cho_factor(kernel)

    def solve(residuals: Array) -> Array:
        weights = jax.scipy.linalg.cho_solve(factor, residuals)
        weights = weights + jax.scipy.linalg.cho_solve(factor, residuals - kernel @ weights)
        return -weights @ jacobian

    return solve


def iterative(
    maps: Maps, iterations: int, model: Model, scale: Array, damping: Scalar, held: Array | None
) -> Callable[[Array], Array]:
    """Return the step as a function of the residuals, by LSMR on ``(J, √μ) d = (-r, 0)``, from products with J alone.

    Source: D. C.-L. Fong and M. Saunders, *LSMR: An iterative algorithm for sparse least-squares problems*, SIAM J.
    Sci. Comput. 33 (2011).
    """
    del model
    free = 1.0 / scale if held is None else jnp.where(held, 0.0, 1.0 / scale)
    operator = lx.FunctionLinearOperator(
        lambda v: (maps.forward(v * free), jnp.sqrt(damping) * v), jax.ShapeDtypeStruct(scale.shape, scale.dtype)
    )
    solver = lx.LSMR(rtol=EXACT, atol=EXACT, conlim=1e16, max_steps=iterations)

    def solve(residuals: Array) -> Array:
        return lx.linear_solve(operator, (-residuals, jnp.zeros_like(scale)), solver, throw=False).value

    return solve


def size_of(maps: Maps, residuals: Array) -> Scalar:
    """Return the Frobenius norm of J, exact or from random signs s: the mean of ``‖Jᵀs‖²`` is its square."""
    if residuals.size <= SIGNS:
        return jnp.sqrt(jnp.sum(jax.vmap(maps.back)(jnp.eye(residuals.size, dtype=residuals.dtype)) ** 2))
    signs = jax.random.rademacher(jax.random.key(0), (SIGNS, residuals.size), residuals.dtype)
    return jnp.sqrt(jnp.mean(jax.lax.map(lambda s: jnp.sum(maps.back(s) ** 2), signs)))


def normal(model: Model, scale: Array, damping: Scalar, held: Array | None) -> Callable[[Array], Array]:
    """Return the step as a function of the residuals, by Cholesky of ``JᵀJ + μ``, refined once through J.

    The scale is taken to vectors and to the product, which spares a copy of J.
    """
    jacobian, free = model.at.jacobian, 1.0 / scale if held is None else jnp.where(held, 0.0, 1.0 / scale)
    gram = model.product * jnp.outer(free, free) + damping * jnp.eye(len(scale), dtype=jacobian.dtype)
    factor = jax.scipy.linalg.cho_factor(gram, lower=True)

    def solve(residuals: Array) -> Array:
        step = -jax.scipy.linalg.cho_solve(factor, residuals @ jacobian * free)
        left = residuals + jacobian @ (step * free)
        rest = left @ jacobian * free + damping * step  # the gradient of what the step minimises
        return step - jax.scipy.linalg.cho_solve(factor, rest)

    return solve


def _free(jacobian: Array, held: Array | None) -> Array:
    return jacobian if held is None else jnp.where(held[None], 0.0, jacobian)


def bytes_of(form: Form, n: int, p: int) -> float:
    """Return the bytes that a step takes in double precision, with n residuals and p parameters.

    Examples
    --------
    >>> [round(bytes_of(form, 3000, 50_000) / 1e9, 1) for form in ("normal", "dual", "iterative")]
    [41.2, 2.5, 0.0]
    """
    numbers = {
        "primal": n * p + 2 * (n + p) * p,
        "dual": 2 * n * p + 2 * n * n,
        "normal": n * p + 2 * p * p,
        "iterative": 10 * (n + p),
    }
    return 8.0 * numbers[("primal" if p <= n else "dual") if form == "auto" else form]

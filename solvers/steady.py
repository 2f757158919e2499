r"""Steady states of an equation, with derivatives by the implicit function theorem.

The equation's own way to rest is followed by implicit Euler steps that grow as the slope falls (pseudo-transient
continuation), until Newton's method takes over. Where linear combinations :math:`w^\top y` are conserved, the Jacobian
J of f is singular and rest is not isolated. With P the projector onto all such w,

.. math:: F(y) = f(y) - s\,P\,(y - y_\text{guess})

has the isolated root that is at rest *and* has the totals of the guess: :math:`w^\top F = -s\,w^\top(y -
y_\text{guess})`. Its Jacobian :math:`J - s P` has the eigenvalues of J, each zero of a conservation law become -s.

Source: C. T. Kelley and D. E. Keyes, *Convergence analysis of pseudo-transient continuation*, SIAM Journal on Numerical
Analysis 35 (1998).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Bool, Float

Slope = Callable[[Array], Array]

STEPS = 500  # implicit Euler steps before a search is given up
FIRST = 0.1  # the first step moves the state by that share of its size
GROWTH = 2.0  # of a step, at most
AT_REST = 1e-10  # change of the state, relative to its size, in the time scale of the Jacobian
RANK = 1e-12  # singular values below this share of the largest are zero
STABLE = 1e-10  # real parts of eigenvalues, as a share of the Jacobian's size, below minus which rest is stable
NEWTON = 20
EXACT = 1e-6  # error of the state, relative to its size, that Newton's method is left with; and of its totals
SPREAD = np.sqrt(2.0)  # an irrational number, whose multiples modulo one are spread over the unit interval


def steady_state(
    slope: Slope, guess: Float[Array, " n"], *, positive: bool = False
) -> tuple[Float[Array, " n"], Bool[Array, ""]]:
    """Return a stable steady state of ``dy/dt = slope(y)`` with the totals of the guess, and whether there is one.

    Where none is found the guess comes back, with zero derivatives.

    Parameters
    ----------
    slope
        Right-hand side; may close over traced arrays, in which the answer is differentiable, in both modes.
    guess
        Where the search begins; the answer is differentiable in its conserved totals.
    positive
        Whether a negative entry of the state is a failure.

    Examples
    --------
    >>> jax.config.update("jax_enable_x64", True)
    >>> filling = lambda level: lambda y: level - 2.0 * y
    >>> value, ok = steady_state(filling(3.0), jnp.array([0.0]))
    >>> float(value[0]), bool(ok)
    (1.5, True)
    >>> float(jax.grad(lambda level: steady_state(filling(level), jnp.array([0.0]))[0][0])(3.0))
    0.5
    """
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(guess)))
    size = jnp.where(size > 0, size, 1.0)
    # Laws hold everywhere. They are looked for where nothing is zero or equal by chance, as it often is in a guess.
    anywhere = jnp.abs(guess) + size * jnp.asarray(np.arange(1, guess.size + 1) * SPREAD % 1.0, guess.dtype)
    jacobian = jax.jacfwd(slope)(jax.lax.stop_gradient(anywhere))
    rate = jax.lax.stop_gradient(jnp.max(jnp.abs(jacobian)))
    rate = jnp.where((rate > 0) & jnp.isfinite(rate), rate, 1.0)
    laws = _laws(jnp.where(jnp.isfinite(jacobian), jacobian, 0.0))

    def pinned(y: Array) -> Array:
        return slope(y) - rate * (laws @ (y - guess))

    near = jax.lax.stop_gradient(_settled(pinned, guess, size))
    drift = _norm(jax.lax.stop_gradient(laws @ (near - guess)))
    ok = _is_rest(pinned, near, size) & (drift <= _least(EXACT, near) * size)
    ok &= jnp.all(near >= -_least(AT_REST, near) * size) if positive else True

    def safe(y: Array, _: None) -> Array:
        return jnp.where(ok, pinned(jnp.where(ok, y, anywhere)), guess - y)

    newton = optx.Newton(rtol=_least(AT_REST, guess), atol=_least(AT_REST, guess))
    begin = jnp.where(ok, near, jax.lax.stop_gradient(guess))
    found = optx.root_find(safe, newton, begin, max_steps=NEWTON, throw=False).value
    return jnp.where(ok, found, jax.lax.stop_gradient(guess)), ok


def _laws(jacobian: Array) -> Array:
    """Return the projector P onto the left null space of a Jacobian, with its derivative.

    From P J = 0 it is ``dP = -(P dJ J⁺ + (P dJ J⁺)ᵀ)`` while the rank stays.
    """
    still = jax.lax.stop_gradient(jacobian)
    left, values, right = jnp.linalg.svd(still)
    null = values <= _least(RANK, values) * jnp.max(values)
    inverse = (right.T * jnp.where(null, 0.0, 1.0 / jnp.where(null, 1.0, values))[None]) @ left.T
    projector = (left * null.astype(left.dtype)[None]) @ left.T
    change = projector @ (jacobian - still) @ inverse
    return projector - change - change.T


def _settled(slope: Slope, guess: Array, size: Array) -> Array:
    """Follow the equation to rest: steps ``(1/h - J) dy = f`` with h growing as the slope falls."""
    unit, close = jnp.eye(guess.size, dtype=guess.dtype), _least(AT_REST, guess)

    def unsettled(carry: tuple[Array, ...]) -> Array:
        _, _, moved, count = carry
        return (moved > close * size) & (count < STEPS)

    def step(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        y, h, _, count = carry
        value, jacobian = slope(y), jax.jacfwd(slope)(y)
        change = jnp.linalg.solve(unit / h - jacobian, value)
        after = y + change
        level = jnp.finfo(y.dtype).eps * jnp.max(jnp.abs(jacobian)) * jnp.maximum(size, _norm(y))
        ratio = _norm(value) / jnp.maximum(_norm(slope(after)), jnp.finfo(y.dtype).tiny)
        # What is moved counts once steps are long against all time scales: short ones move little anywhere.
        long = h * jnp.max(jnp.abs(jacobian)) > 1.0 / close
        ratio = jnp.where(_norm(value) <= 8 * level, GROWTH, ratio)  # at rest, but for rounding
        return after, h * jnp.clip(ratio, 0.5, GROWTH), jnp.where(long, _norm(change), jnp.inf), count + 1

    first = slope(guess)
    h = FIRST * size / jnp.maximum(_norm(first), jnp.finfo(guess.dtype).tiny)
    rate = jnp.max(jnp.abs(jax.jacfwd(slope)(guess)))
    h = jnp.minimum(h, 1.0 / jnp.where(rate > 0, rate, 1.0))
    start = (guess, h, jnp.asarray(jnp.inf, guess.dtype), jnp.asarray(0))
    return jax.lax.while_loop(unsettled, step, start)[0]


def _is_rest(slope: Slope, y: Array, size: Array) -> Array:
    """Whether y is at rest, up to a small step of Newton's, and small disturbances of it die out."""
    value, jacobian = jax.lax.stop_gradient((slope(y), jax.jacfwd(slope)(y)))
    there = jnp.all(jnp.isfinite(jacobian)) & jnp.all(jnp.isfinite(y)) & jnp.all(jnp.isfinite(value))
    jacobian = jnp.where(there, jacobian, -jnp.eye(y.size, dtype=y.dtype))
    slow = jnp.max(jnp.real(jnp.linalg.eigvals(jacobian)))
    still = _norm(jnp.linalg.solve(jacobian, value)) <= _least(EXACT, y) * jnp.maximum(size, _norm(y))
    return there & still & (slow < -_least(STABLE, y) * jnp.max(jnp.abs(jacobian)))


def _least(tolerance: float, x: Array) -> float:
    """Return the tolerance, or what rounding in the array's precision leaves of it."""
    return max(tolerance, 50 * float(jnp.finfo(x.dtype).eps))


def _norm(x: Array) -> Array:
    return jnp.max(jnp.abs(x))

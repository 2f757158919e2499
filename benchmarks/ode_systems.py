"""Initial value problems for timing: a right-hand side, a state, parameters and save times."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr


@dataclass(frozen=True)
class IVP:
    """``y' = field(t, y, theta)`` from ``y0`` at 0, saved at ``ts``; ``scale`` are typical sizes of the states."""

    field: Callable[[Any, jax.Array, jax.Array], jax.Array]
    y0: jax.Array
    theta: jax.Array
    ts: jax.Array
    scale: jax.Array
    solver: diffrax.AbstractSolver
    rtol: float = 1e-6
    atol: float = 1e-6
    max_steps: int = 4096


def lotka_volterra() -> IVP:
    """Return hare and lynx over 20 years, at the parameters of the Hudson Bay posterior's mean."""

    def field(_: Any, y: jax.Array, theta: jax.Array) -> jax.Array:
        alpha, beta, gamma, delta = theta
        return jnp.stack([(alpha - beta * y[1]) * y[0], (delta * y[0] - gamma) * y[1]])

    theta = jnp.array([0.547, 0.0277, 0.800, 0.0241])
    return IVP(field, jnp.array([34.0, 5.9]), theta, jnp.arange(1.0, 21.0), jnp.array([30.0, 20.0]), diffrax.Tsit5())


def robertson() -> IVP:
    """Return Robertson's stiff chemical kinetics to t = 1e4, by an implicit solver."""

    def field(_: Any, y: jax.Array, theta: jax.Array) -> jax.Array:
        first, second, third = theta[0] * y[0], theta[1] * y[1] ** 2, theta[2] * y[1] * y[2]
        return jnp.stack([third - first, first - third - second, second])

    theta, ts = jnp.array([0.04, 3e7, 1e4]), jnp.logspace(-1, 4, 20)
    return IVP(field, jnp.array([1.0, 0, 0]), theta, ts, jnp.array([1.0, 1e-5, 1]), diffrax.Kvaerno5(), atol=1e-10)


def lorenz() -> IVP:
    """Return Lorenz's equations for 5 time units: hard, but short enough for a gradient to mean something."""

    def field(_: Any, y: jax.Array, theta: jax.Array) -> jax.Array:
        sigma, rho, beta = theta
        return jnp.stack([sigma * (y[1] - y[0]), y[0] * (rho - y[2]) - y[1], y[0] * y[1] - beta * y[2]])

    theta, ts = jnp.array([10.0, 28.0, 8 / 3]), jnp.linspace(0.25, 5.0, 20)
    return IVP(field, jnp.array([1.0, 0.0, 0.0]), theta, ts, jnp.array([10.0, 10.0, 20.0]), diffrax.Tsit5())


def linear_50() -> IVP:
    """Return a chain of 50 compartments, each emptying into the next at its own rate: 50 states, 50 parameters."""
    theta = jnp.linspace(0.5, 1.5, 50)
    return IVP(_chain, jnp.zeros(50).at[0].set(1.0), theta, jnp.linspace(2.0, 40.0, 20), jnp.ones(50), diffrax.Tsit5())


def _chain(_: Any, y: jax.Array, theta: jax.Array) -> jax.Array:
    out = theta * y
    return jnp.concatenate([-out[:1], out[:-1] - out[1:]])


PROBLEMS = {"lotka_volterra": lotka_volterra, "robertson": robertson, "lorenz": lorenz, "linear_50": linear_50}


def mlp(states: int, width: int) -> IVP:
    """Return a right-hand side ``W2 tanh(W1 y + b1) + b2`` with ``width (2 states + 1) + states`` parameters."""

    def field(_: Any, y: jax.Array, theta: jax.Array) -> jax.Array:
        inner, offset, outer, bias = jnp.split(theta, [width * states, width * (states + 1), width * (2 * states + 1)])
        hidden = jnp.tanh(inner.reshape(width, states) @ y + offset)
        return outer.reshape(states, width) @ hidden + bias

    size = width * (2 * states + 1) + states
    theta = jr.normal(jr.key(0), (size,)) / (states + width) ** 0.5
    return IVP(field, jnp.ones(states), theta, jnp.linspace(0.5, 10.0, 20), jnp.ones(states), diffrax.Tsit5())


def ring(states: int, shared: int) -> IVP:
    """Return a ring of saturating reactions with ``states // shared`` rates, each used by ``shared`` neighbours."""
    size = states // shared

    def field(_: Any, y: jax.Array, theta: jax.Array) -> jax.Array:
        flow = jnp.repeat(theta, shared) * y / (1 + y**2)
        return jnp.roll(flow, 1) - flow

    y0 = 1 + jnp.sin(jnp.arange(float(states)))
    return IVP(field, y0, jnp.linspace(0.5, 1.5, size), jnp.linspace(0.5, 10.0, 20), jnp.ones(states), diffrax.Tsit5())


SWEEP: dict[str, Callable[[], IVP]] = {
    f"mlp_{states}_states_{width * (2 * states + 1) + states}_parameters": lambda n=states, w=width: mlp(n, w)
    for states, widths in ((2, (1, 4, 10, 20, 40, 120)), (10, (1, 4, 10, 28)))
    for width in widths
} | {
    f"ring_{states}_states_{states // shared}_parameters": lambda n=states, s=shared: ring(n, s)
    for states, shared in ((8, 4), (8, 1), (32, 8), (32, 1), (100, 10), (100, 1))
}

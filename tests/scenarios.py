"""Initial value problems with known answers, for every test of an ODE solver and of its derivatives.

Each is a family ``dy/dt = field(t, y, theta)`` from ``start(theta)``; `exact` is its solution where there is one, and
`final` the exact time and state of its event. Right-hand sides that are also timed come from the benchmarks.
"""

# ruff: noqa: ARG005  (a right-hand side takes t, y and theta, whatever it uses)

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import optimistix as optx

from benchmarks import ode_systems


@dataclass(frozen=True)
class Scenario:
    """`theta` holds every number that is differentiated; tolerances are those at which derivatives are compared."""

    field: Callable
    start: Callable
    theta: tuple[float, ...]
    ts: tuple[float, ...]
    exact: Any = None
    event: diffrax.Event | None = None
    final: Any = None
    solver: diffrax.AbstractSolver | None = None
    rtol: float = 1e-10
    atol: float = 1e-10


def crossing(condition: Callable) -> diffrax.Event:
    """Return an event at a root of `condition`, found to round-off."""
    return diffrax.Event(condition, optx.Newton(1e-13, 1e-13))


# Exponential decay: dy/dt = -k y.
DECAY = Scenario(
    field=lambda t, y, theta: -theta[0] * y,
    start=lambda theta: theta[1:],
    theta=(0.7, 2.0),
    ts=(0.0, 0.5, 3.0),
    exact=lambda theta, t: theta[1:] * jnp.exp(-theta[0] * t),
)

# Harmonic oscillator, as a PyTree of unlike shapes: x'' = -w² x.
OSCILLATOR = Scenario(
    field=lambda t, y, theta: {"x": y["v"][0], "v": -(theta[0] ** 2) * y["x"][None]},
    start=lambda theta: {"x": theta[1], "v": theta[2:]},
    theta=(1.3, 1.0, -0.5),
    ts=(1.0, 4.0, 10.0),
    exact=lambda theta, t: {
        "x": theta[1] * jnp.cos(theta[0] * t) + theta[2] / theta[0] * jnp.sin(theta[0] * t),
        "v": -theta[1:2] * theta[0] * jnp.sin(theta[0] * t) + theta[2:] * jnp.cos(theta[0] * t),
    },
)

# Logistic growth: dy/dt = r y (1 - y / K).
LOGISTIC = Scenario(
    field=lambda t, y, theta: theta[0] * y * (1 - y / theta[1]),
    start=lambda theta: theta[2],
    theta=(1.1, 3.0, 0.2),
    ts=(1.0, 2.0, 5.0),
    exact=lambda theta, t: theta[1] / (1 + (theta[1] / theta[2] - 1) * jnp.exp(-theta[0] * t)),
)

# Decay under a periodic input: dy/dt = -k y + cos(w t).
FORCED = Scenario(
    field=lambda t, y, theta: -theta[0] * y + jnp.cos(theta[1] * t),
    start=lambda theta: theta[2],
    theta=(0.5, 2.0, 1.0),
    ts=(0.3, 2.0, 6.0),
    exact=lambda theta, t: (
        (theta[2] - theta[0] / (theta[0] ** 2 + theta[1] ** 2)) * jnp.exp(-theta[0] * t)
        + (theta[0] * jnp.cos(theta[1] * t) + theta[1] * jnp.sin(theta[1] * t)) / (theta[0] ** 2 + theta[1] ** 2)
    ),
)


# Eight compartments, each emptying into the next at one rate, seen at thirty times: many outputs, y_i of Erlang's form.
COMPARTMENTS = Scenario(
    field=lambda t, y, theta: theta[0] * (jnp.concatenate([jnp.zeros(1), y[:-1]]) - y),
    start=lambda theta: jnp.zeros(8).at[0].set(theta[1]),
    theta=(0.8, 2.0),
    ts=tuple(0.4 * (i + 1) for i in range(30)),
    exact=lambda theta, t: theta[1] * jnp.exp(-theta[0] * t) * (theta[0] * t) ** jnp.arange(8.0) / _FACTORIALS,
)
_FACTORIALS = jnp.array([math.factorial(i) for i in range(8)], float)

# Growth at a rate that is a Fourier series: dy/dt = y Σ_k c_k cos(k t), with many more parameters than states.
SERIES = Scenario(
    field=lambda t, y, theta: y * (theta[1:] @ jnp.cos(_ORDERS * t)),
    start=lambda theta: theta[0],
    theta=(1.5, 0.4, -0.3, 0.2, 0.5, -0.6, 0.1),
    ts=(0.5, 2.0, 4.0),
    exact=lambda theta, t: theta[0] * jnp.exp(theta[1:] @ (jnp.sin(_ORDERS * t) / _ORDERS)),
)
_ORDERS = jnp.arange(1.0, 7.0)

# Bateman's chain of two, one rate a thousand times the other: stiff and exact.
STIFF_CHAIN = Scenario(
    field=lambda t, y, theta: jnp.stack([-theta[0] * y[0], theta[0] * y[0] - theta[1] * y[1]]),
    start=lambda theta: jnp.stack([theta[2], jnp.zeros(())]),
    theta=(1e3, 1.0, 2.0),
    ts=(1e-3, 0.1, 3.0),
    exact=lambda theta, t: (
        theta[2]
        * jnp.stack(
            [
                jnp.exp(-theta[0] * t),
                theta[0] / (theta[0] - theta[1]) * (jnp.exp(-theta[1] * t) - jnp.exp(-theta[0] * t)),
            ]
        )
    ),
    solver=diffrax.Kvaerno5(),
    rtol=1e-9,
    atol=1e-11,
)

_LYNX = ode_systems.lotka_volterra()
LOTKA_VOLTERRA = Scenario(
    field=lambda t, y, theta: _LYNX.field(t, y, theta[:4]),
    start=lambda theta: theta[4:],
    theta=(*map(float, _LYNX.theta), *map(float, _LYNX.y0)),
    ts=(1.0, 5.0, 10.0),
    rtol=1e-11,
)


def _sir(t: jax.Array, y: jax.Array, theta: jax.Array) -> jax.Array:
    del t
    infection, recovery = theta[0] * y[0] * y[1] / jnp.sum(y), theta[1] * y[1]
    return jnp.stack([-infection, infection - recovery, recovery])


SIR = Scenario(
    field=_sir,
    start=lambda theta: jnp.stack([763.0 - theta[2], theta[2], jnp.zeros(())]),
    theta=(1.7, 0.54, 1.0),
    ts=(3.0, 7.0, 14.0),
    rtol=1e-11,
)

ROBERTSON = Scenario(
    field=ode_systems.robertson().field,
    start=lambda theta: jnp.stack([jnp.ones(()), jnp.zeros(()), jnp.zeros(())]),
    theta=(0.04, 3e7, 1e4),
    ts=(0.1, 4.0),
    solver=diffrax.Kvaerno5(),
    rtol=1e-9,
    atol=1e-13,
)

VAN_DER_POL = Scenario(
    field=lambda t, y, theta: jnp.stack([y[1], theta[0] * (1 - y[0] ** 2) * y[1] - y[0]]),
    start=lambda theta: jnp.stack([theta[1], jnp.zeros(())]),
    theta=(100.0, 2.0),
    ts=(1.0, 20.0),
    solver=diffrax.Kvaerno5(),
    rtol=1e-9,
    atol=1e-9,
)

# Decay until y falls to c, a number of the condition alone: t = log(y0 / c) / k.
THRESHOLD = Scenario(
    field=lambda t, y, theta: -theta[0] * y,
    start=lambda theta: theta[1],
    theta=(0.7, 2.0, 0.6),
    ts=(0.5, 5.0),
    exact=lambda theta, t: theta[1] * jnp.exp(-theta[0] * t),
    event=crossing(lambda t, y, theta, **_: y - theta[2]),
    final=lambda theta: (jnp.log(theta[1] / theta[2]) / theta[0], theta[2]),
)

# A ball thrown up with v meets a floor that rises as w t: h + v t - g t² / 2 = w t.
BALL = Scenario(
    field=lambda t, y, theta: jnp.stack([y[1], -theta[0]]),
    start=lambda theta: theta[1:3],
    theta=(9.81, 2.0, 1.0, 0.3),
    ts=(0.2, 4.0),
    exact=lambda theta, t: jnp.stack([theta[1] + theta[2] * t - theta[0] * t**2 / 2, theta[2] - theta[0] * t]),
    event=crossing(lambda t, y, theta, **_: y[0] - theta[3] * t),
    final=lambda theta: _impact(theta),
)


def _impact(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
    speed = theta[2] - theta[3]
    t = (speed + jnp.sqrt(speed**2 + 2 * theta[0] * theta[1])) / theta[0]
    return t, jnp.stack([theta[3] * t, theta[2] - theta[0] * t])


SCENARIOS = {
    "decay": DECAY,
    "oscillator": OSCILLATOR,
    "logistic": LOGISTIC,
    "forced": FORCED,
    "compartments": COMPARTMENTS,
    "series": SERIES,
    "stiff_chain": STIFF_CHAIN,
    "lotka_volterra": LOTKA_VOLTERRA,
    "sir": SIR,
    "robertson": ROBERTSON,
    "van_der_pol": VAN_DER_POL,
    "threshold": THRESHOLD,
    "ball": BALL,
}

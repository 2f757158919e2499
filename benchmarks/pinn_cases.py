"""Partial differential equations with known solutions."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import sciad as sd

NODES = 400  # of the quadrature for Burgers' equation
VISCOSITY = 0.01 / np.pi


class Posed(NamedTuple):
    """An equation on a domain with its solution, also by a coarser quadrature, and what the solver is told of it."""

    domain: sd.Box
    conditions: Sequence[Any]
    equation: Callable[..., Any]
    exact: Callable[..., np.ndarray]
    coarse: Callable[..., np.ndarray]
    told: dict[str, Any]


def closed(
    domain: sd.Box,
    conditions: Sequence[Any],
    equation: Callable[..., Any],
    exact: Callable[..., np.ndarray],
    **told: Any,
) -> Posed:
    """Return an equation whose solution is a closed form."""
    return Posed(domain, conditions, equation, exact, exact, told)


def poisson(u: Any, p: sd.Point) -> Any:
    """Return the residual for ``sin(πx) sin(πy)``."""
    return sd.laplacian(u, "x", "y")(p) + 2 * jnp.pi**2 * jnp.sin(jnp.pi * p.x) * jnp.sin(jnp.pi * p.y)


def helmholtz(u: Any, p: sd.Point) -> Any:
    """Return the residual for ``sin(πx) sin(4πy)``, with k = 1."""
    source = (1 - 17 * jnp.pi**2) * jnp.sin(jnp.pi * p.x) * jnp.sin(4 * jnp.pi * p.y)
    return sd.laplacian(u, "x", "y")(p) + u(p) - source


def convection(u: Any, p: sd.Point) -> Any:
    """Return the residual of transport with speed 50."""
    return sd.d(u, "t")(p) + 50.0 * sd.d(u, "x")(p)


def wave(u: Any, p: sd.Point) -> Any:
    """Return the residual of waves with speed 2."""
    return sd.d(u, "t", "t")(p) - 4.0 * sd.d(u, "x", "x")(p)


def burgers(u: Any, p: sd.Point) -> Any:
    """Return the residual of Burgers' equation."""
    return sd.d(u, "t")(p) + u(p) * sd.d(u, "x")(p) - VISCOSITY * sd.d(u, "x", "x")(p)


def cole_hopf(x: np.ndarray, t: np.ndarray, nodes: int = NODES) -> np.ndarray:
    r"""Return the solution of Burgers' equation from :math:`-\sin \pi x`, by Gauss-Hermite quadrature.

    .. math:: u = -\frac{\int \sin(\pi y)\, f(y)\, e^{-z^2} dz}{\int f(y)\, e^{-z^2} dz}, \quad
              y = x - 2\sqrt{\nu t}\, z, \quad f(y) = e^{-\cos(\pi y) / 2 \pi \nu}

    Source: C. Basdevant et al., *Spectral and finite difference solutions of the Burgers equation* (1986).
    """
    z, w = np.polynomial.hermite.hermgauss(nodes)
    keep = w > 0
    z, w = z[keep], w[keep]
    y = x[..., None] - 2 * np.sqrt(VISCOSITY * t)[..., None] * z
    weight = w * np.exp(-(1 + np.cos(np.pi * y)) / (2 * np.pi * VISCOSITY))
    return -np.sum(np.sin(np.pi * y) * weight, axis=-1) / np.sum(weight, axis=-1)


CASES = {
    "poisson2d": closed(
        sd.Box(x=(0, 1), y=(0, 1)),
        [sd.Dirichlet(0.0)],
        poisson,
        lambda x, y: np.sin(np.pi * x) * np.sin(np.pi * y),
    ),
    "helmholtz": closed(
        sd.Box(x=(-1, 1), y=(-1, 1)),
        [sd.Dirichlet(0.0)],
        helmholtz,
        lambda x, y: np.sin(np.pi * x) * np.sin(4 * np.pi * y),
    ),
    "convection": closed(
        sd.Box(x=(0, 2 * np.pi), t=(0, 1)),
        [sd.Initial(lambda p: jnp.sin(p.x)), sd.Periodic("x")],
        convection,
        lambda x, t: np.sin(x - 50 * t),
        growing=10,
    ),
    "wave": closed(
        sd.Box(x=(0, 1), t=(0, 1)),
        [sd.Initial(lambda p: jnp.sin(jnp.pi * p.x) + 0.5 * jnp.sin(4 * jnp.pi * p.x), 0.0), sd.Dirichlet(0.0, on="x")],
        wave,
        lambda x, t: np.sin(np.pi * x) * np.cos(2 * np.pi * t) + 0.5 * np.sin(4 * np.pi * x) * np.cos(8 * np.pi * t),
    ),
    "burgers": Posed(
        sd.Box(x=(-1, 1), t=(0, 1)),
        [sd.Initial(lambda p: -jnp.sin(jnp.pi * p.x)), sd.Dirichlet(0.0, on="x")],
        burgers,
        cole_hopf,
        lambda x, t: cole_hopf(x, t, NODES // 2),
        {},
    ),
}

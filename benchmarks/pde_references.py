"""Solutions of the equations that physics-informed networks are measured on, each with its own measured error.

Published reference files are often worse than what is measured against them. Nothing is read from a file here: a
solution is a closed form or is computed on the grid that is asked for, and `floor` says how far it is from a finer
computation. Needs NumPy and SciPy alone, so that a peer's environment can run it.

| case | equation | domain | data |
| --- | --- | --- | --- |
| `poisson2d` | -u_xx - u_yy = 2 pi^2 u* | [0, 1]^2 | u = 0 on the sides; u* = sin(pi x) sin(pi y) |
| `helmholtz` | u_xx + u_yy + u = (1 - 17 pi^2) u* | [-1, 1]^2 | u = 0 on the sides; u* = sin(pi x) sin(4 pi y) |
| `burgers` | u_t + u u_x = (0.01 / pi) u_xx | [-1, 1] x [0, 1] | u0 = -sin(pi x), u = 0 on the sides |
| `convection` | u_t + 50 u_x = 0 | [0, 2 pi] x [0, 1] | u0 = sin(x), periodic |
| `wave` | u_tt = 4 u_xx | [0, 1]^2 | u0 = sin(pi x) + sin(4 pi x) / 2, at rest, u = 0 on the sides |
| `allen_cahn` | u_t = 1e-4 u_xx + 5 u - 5 u^3 | [-1, 1] x [0, 1] | u0 = x^2 cos(pi x), periodic |
| `kdv` | u_t + u u_x + 0.022^2 u_xxx = 0 | [-1, 1] x [0, 1] | u0 = cos(pi x), periodic |
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.fft import dct, idct, irfft, rfft

from benchmarks.spectral import etdrk4

NU = 0.01 / np.pi
BETA = 50.0
DIFFUSION = 1e-4
DISPERSION = 0.022**2
# Values at t = 0, of x and the module of its arrays, which for a peer is another than NumPy.
START: dict[str, Callable[[Any, Any], Any]] = {
    "burgers": lambda x, xp: -xp.sin(np.pi * x),
    "convection": lambda x, xp: xp.sin(x),
    "wave": lambda x, xp: xp.sin(np.pi * x) + 0.5 * xp.sin(4 * np.pi * x),
    "allen_cahn": lambda x, xp: x**2 * xp.cos(np.pi * x),
    "kdv": lambda x, xp: xp.cos(np.pi * x),
}


@dataclass(frozen=True)
class Reference:
    """A domain and the solution on it; the second coordinate is time, or y where nothing changes."""

    low: tuple[float, float]
    high: tuple[float, float]
    solution: Callable[[np.ndarray, np.ndarray], np.ndarray]
    finer: Callable[[np.ndarray, np.ndarray], np.ndarray]  # the same with more nodes, modes, steps or digits

    def grid(self, points: tuple[int, int] = (201, 101)) -> tuple[np.ndarray, np.ndarray]:
        """Return equally spaced values of both coordinates, the ends included."""
        first, second = (np.linspace(*ends) for ends in zip(self.low, self.high, points, strict=True))
        return first, second


def solution(case: str, x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the solution on a grid, of shape ``(x.size, t.size)``; both coordinates must increase."""
    return REFERENCES[case].solution(x, t)


def floor(case: str, x: np.ndarray | None = None, t: np.ndarray | None = None) -> float:
    """Return the relative L2 distance between `solution` and a finer computation, on the usual grid or another.

    No error below it means anything. Closed forms are compared with extended precision.
    """
    reference = REFERENCES[case]
    usual = reference.grid()
    on = usual[0] if x is None else x, usual[1] if t is None else t
    return max(relative_l2(reference.solution(*on), reference.finer(*on)), float(np.finfo(float).eps))


def relative_l2(found: np.ndarray, true: np.ndarray) -> float:
    """Return ``|found - true| / |true|`` in the Euclidean norm over all points."""
    return float(np.linalg.norm(np.asarray(found - true, float)) / np.linalg.norm(np.asarray(true, float)))


def cole_hopf(x: np.ndarray, t: np.ndarray, nu: float = NU, spacing: float = 0.25) -> np.ndarray:
    r"""Return the solution of Burgers' equation from ``-sin(pi x)`` by the transformation of Cole and Hopf.

    .. math::  u(x, t) = -\frac{\int \sin(\pi (x - s)) w(s) ds}{\int w(s) ds}, \quad
               \log w = -\frac{s^2}{4 \nu t} - \frac{\cos(\pi (x - s))}{2 \pi \nu}

    The trapezoidal rule converges geometrically here, since ``w`` is analytic and decays: in units of
    ``sqrt(2 nu t)``, its spread without the cosine, nodes lie ``spacing`` apart. ``w`` has its peaks within ``|s| < t``
    (``s / t`` is a value of ``u``), so that nodes go as far, and ten units more. Exponents are shifted by their
    maximum.
    """
    found = np.empty((x.size, t.size))
    for column, time in enumerate(t):
        if time == 0:
            found[:, column] = START["burgers"](x, np)
            continue
        unit = np.sqrt(2 * nu * time)
        # Where the cosine makes peaks narrower than one unit, at late times, nodes are as much closer.
        ends, apart = time / unit + 10, spacing / np.sqrt(1 + np.pi * time)
        s = unit * np.linspace(-ends, ends, 2 * int(np.ceil(ends / apart)) + 1)
        angle = np.pi * (x[:, None] - s)
        exponent = -(s**2) / (4 * nu * time) - np.cos(angle) / (2 * np.pi * nu)
        weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        found[:, column] = -(np.sin(angle) * weight).sum(axis=1) / weight.sum(axis=1)
    return found


def allen_cahn(x: np.ndarray, t: np.ndarray, modes: int = 4096, step: float = 1e-3) -> np.ndarray:
    """Return the solution of the Allen-Cahn case, with the kink of ``x^2 cos(pi x)`` at the seam, by a cosine series.

    Periodic and even means a slope of zero at 0 and 1 for t > 0, but the start has the slope -2 at 1: coefficients fall
    only like ``k^-2`` there. Interpolation folds what it cuts off back into the smooth part, an error that stays; here
    coefficients of the start are exact, and what is cut off, ``k >= modes``, would have died out at once:
    within ``1 / (1e-4 pi^2 modes^2)``, 6e-5 for 4096. Only for 0 < t < 3e-4, and next to the seam, does that count: up
    to 1e-4 there. At t = 0 the formula of the start is taken.
    """
    k = np.arange(modes)
    linear = -DIFFUSION * (np.pi * k) ** 2 + 5
    scale = np.where(k == 0, 2.0, 1.0)  # SciPy halves the first coefficient

    def cubed(v: np.ndarray) -> np.ndarray:
        u = np.asarray(idct(v * scale, type=2)) * modes
        return -5 * np.asarray(dct(u**3, type=2)) / (modes * scale)

    found = etdrk4(linear, cubed, _coefficients(k), t, step) @ np.cos(np.pi * np.outer(k, x))
    found[t == 0] = START["allen_cahn"](x, np)
    return found.T


def _coefficients(k: np.ndarray) -> np.ndarray:
    """Return the cosine coefficients of ``x^2 cos(pi x)`` on [0, 1].

    With ``cos(pi x) cos(pi k x) = (cos(pi (k - 1) x) + cos(pi (k + 1) x)) / 2``, and by parts
    ``integral of x^2 cos(pi m x) = 2 (-1)^m / (pi m)^2``, or 1/3 for m = 0.
    """

    def integral(m: np.ndarray) -> np.ndarray:
        return np.where(m == 0, 1 / 3, 2 * (-1.0) ** m / (np.pi * np.where(m == 0, 1, m)) ** 2)

    return np.where(k == 0, 0.5, 1.0) * (integral(np.abs(k - 1)) + integral(k + 1))


def kdv(
    x: np.ndarray,
    t: np.ndarray,
    dispersion: float = DISPERSION,
    start: Callable[[np.ndarray], np.ndarray] | None = None,
    modes: int = 1024,
    step: float = 5e-5,
) -> np.ndarray:
    """Return the solution of ``u_t + u u_x + dispersion u_xxx = 0``, of period 2, by a Fourier series.

    N. Zabusky and M. Kruskal (Phys. Rev. Lett. 15, 1965) take ``0.022^2``; M. Raissi et al. (2019) identify 0.0025.
    """
    wave = 1j * np.pi * np.arange(modes // 2 + 1)
    wave[-1] = 0  # the highest mode has no slope on the nodes
    nodes = -1 + 2 * np.arange(modes) / modes

    def carried(v: np.ndarray) -> np.ndarray:
        return -0.5 * wave * np.asarray(rfft(np.asarray(irfft(v)) ** 2))

    found = etdrk4(
        -dispersion * wave**3,
        carried,
        np.asarray(rfft(START["kdv"](nodes, np) if start is None else start(nodes))),
        t,
        step,
    )
    weights = np.full(wave.size, 2.0)
    weights[[0, -1]] = 1
    phases = np.exp(1j * np.pi * np.outer(np.arange(wave.size), x + 1))
    return np.real((found * weights) @ phases).T / modes


def _extended(formula: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda x, t: formula(x.astype(np.longdouble), t.astype(np.longdouble))


def _poisson2d(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sin(_pi(x) * x)[:, None] * np.sin(_pi(y) * y)


def _helmholtz(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sin(_pi(x) * x)[:, None] * np.sin(4 * _pi(y) * y)


def _convection(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.sin(x[:, None] - BETA * t)


def _wave(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    px, pt = _pi(x) * x[:, None], _pi(t) * t
    return np.sin(px) * np.cos(2 * pt) + 0.5 * np.sin(4 * px) * np.cos(8 * pt)


def _pi(like: np.ndarray) -> np.ndarray:
    return 4 * np.arctan(np.ones((), like.dtype))


UNIT, SQUARE = ((0.0, 0.0), (1.0, 1.0)), ((-1.0, -1.0), (1.0, 1.0))
STRIP = ((-1.0, 0.0), (1.0, 1.0))  # x from -1 to 1, t from 0 to 1
REFERENCES = {
    "poisson2d": Reference(*UNIT, _poisson2d, _extended(_poisson2d)),
    "helmholtz": Reference(*SQUARE, _helmholtz, _extended(_helmholtz)),
    "burgers": Reference(*STRIP, cole_hopf, lambda x, t: cole_hopf(x, t, spacing=0.125)),
    "convection": Reference((0.0, 0.0), (2 * np.pi, 1.0), _convection, _extended(_convection)),
    "wave": Reference(*UNIT, _wave, _extended(_wave)),
    "allen_cahn": Reference(*STRIP, allen_cahn, lambda x, t: allen_cahn(x, t, modes=8192, step=5e-4)),
    "kdv": Reference(*STRIP, kdv, lambda x, t: kdv(x, t, modes=2048, step=2.5e-5)),
}

"""Semilinear equations whose linear part is diagonal in Fourier space: exponential time differencing of order four.

For ``v' = L v + N(v)`` with a diagonal ``L``, the scheme ETDRK4 of S. Cox and P. Matthews (2002) solves the linear part
exactly. Its coefficients, such as ``(e^z - 1) / z``, lose all digits at small ``z``; A.-K. Kassam and L. Trefethen
(Fourth-order time-stepping for stiff PDEs, SIAM J. Sci. Comput. 26, 2005) take them as means over a circle around
``z``, where nothing cancels. This module needs NumPy alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

NODES = 64  # on the circle; the mean converges geometrically


@dataclass(frozen=True)
class Coefficients:
    """What ETDRK4 multiplies by in a step of one length, each an array like the diagonal."""

    whole: np.ndarray  # exp(z), z = L h
    half: np.ndarray  # exp(z / 2)
    stage: np.ndarray  # h (exp(z / 2) - 1) / z
    first: np.ndarray  # h (-4 - z + e^z (4 - 3 z + z^2)) / z^3
    middle: np.ndarray  # h (2 + z + e^z (z - 2)) / z^3
    last: np.ndarray  # h (-4 - 3 z - z^2 + e^z (4 - z)) / z^3

    @classmethod
    def of(cls, linear: np.ndarray, step: float) -> "Coefficients":
        """Return the coefficients of steps of length ``step``."""
        z = linear * step
        around = z[:, None] + np.exp(2j * np.pi * (np.arange(NODES) + 0.5) / NODES)
        grown = np.exp(around)

        def mean(values: np.ndarray) -> np.ndarray:
            found = step * values.mean(axis=1)
            return found if np.iscomplexobj(linear) else found.real

        return cls(
            whole=np.exp(z),
            half=np.exp(z / 2),
            stage=mean((np.exp(around / 2) - 1) / around),
            first=mean((-4 - around + grown * (4 - 3 * around + around**2)) / around**3),
            middle=mean((2 + around + grown * (around - 2)) / around**3),
            last=mean((-4 - 3 * around - around**2 + grown * (4 - around)) / around**3),
        )


def etdrk4(
    linear: np.ndarray,
    nonlinear: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    times: Sequence[float] | np.ndarray,
    step: float,
) -> np.ndarray:
    """Return ``v`` at increasing ``times``, one row each; at zero it is ``start``.

    Between two times all steps have one length, at most ``step``: no value is interpolated.

    Raises
    ------
    ValueError
        If the times decrease or begin before zero.
    """
    v, now, found = start, 0.0, []
    length, coefficients = 0.0, None
    for time in times:
        if time < now:
            message = f"got the time {time} after {now}, expected times that increase from zero; sort them"
            raise ValueError(message)
        count = int(np.ceil((time - now) / step - 1e-9))
        if count and (coefficients is None or abs((time - now) / count / length - 1) > 1e-13 * count):
            length = (time - now) / count
            coefficients = Coefficients.of(linear, length)
        for _ in range(count):
            v = _stepped(v, nonlinear, coefficients)  # pyright: ignore[reportArgumentType]
        now = time
        found.append(v)
    return np.stack(found)


def _stepped(v: np.ndarray, nonlinear: Callable[[np.ndarray], np.ndarray], by: Coefficients) -> np.ndarray:
    halfway, at_v = by.half * v, nonlinear(v)
    a = halfway + by.stage * at_v
    at_a = nonlinear(a)
    b = halfway + by.stage * at_a
    at_b = nonlinear(b)
    c = by.half * a + by.stage * (2 * at_b - at_v)
    return by.whole * v + by.first * at_v + 2 * by.middle * (at_a + at_b) + by.last * nonlinear(c)

"""Oscillators and chaos."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from sciad._roles import Param, param, positive
from sciad._typing import Real


class FitzHughNagumo(eqx.Module):
    r"""Excitable cell: voltage :math:`v` and recovery :math:`w`, both without unit.

    .. math:: \dot v = v - v^3/3 - w + l, \qquad \dot w = (v + a - b w)/\tau

    Parameters
    ----------
    a, b
        Shape of the recovery.
    rate
        :math:`1/\tau`, per unit of time.
    current
        Applied current :math:`l`.

    Notes
    -----
    Source: R. FitzHugh, *Impulses and physiological states in theoretical models of nerve membrane*, Biophysical
    Journal 1 (1961).

    Examples
    --------
    >>> FitzHughNagumo(a=param(0.5), rate=param(0.25))(0.0, jnp.array([0.0, 0.0])).tolist()
    [0.5, 0.125]
    """

    a: Param = param(0.7)
    b: Param = param(0.8)
    rate: Param = positive(0.08)
    current: Param = param(0.5)

    def __call__(self, t: Real, y: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return the slope of ``(v, w)``."""
        del t
        v, w = y
        return jnp.stack([v - v**3 / 3 - w + self.current, self.rate * (v + self.a - self.b * w)])


class VanDerPol(eqx.Module):
    r"""Self-sustained oscillation of :math:`x` with speed :math:`v`; stiff for large :math:`\mu`.

    .. math:: \dot x = v, \qquad \dot v = \mu (1 - x^2) v - x

    Parameters
    ----------
    mu
        Strength of the nonlinear damping. Time is in units of the linear oscillator's period over 2π.

    Notes
    -----
    Source: B. van der Pol, *On relaxation-oscillations*, Philosophical Magazine 2 (1926). The period is 2π for μ = 0,
    and approaches (3 - 2 ln 2) μ for large μ.

    Examples
    --------
    >>> VanDerPol(param(2.0))(0.0, jnp.array([0.5, 1.0])).tolist()
    [1.0, 1.0]
    """

    mu: Param = positive(1.0)

    def __call__(self, t: Real, y: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return the slope of ``(x, v)``."""
        del t
        x, v = y
        return jnp.stack([v, self.mu * (1 - x**2) * v - x])


class Lorenz(eqx.Module):
    r"""Convection in three modes; chaotic at the default values.

    .. math:: \dot x = \sigma (y - x), \qquad \dot y = x (\rho - z) - y, \qquad \dot z = x y - \beta z

    Parameters
    ----------
    sigma, rho, beta
        Prandtl number; Rayleigh number over its critical value; aspect of the convection cells. Without units.

    Notes
    -----
    Source: E. N. Lorenz, *Deterministic nonperiodic flow*, Journal of the Atmospheric Sciences 20 (1963).

    Examples
    --------
    >>> Lorenz()(0.0, jnp.array([1.0, 2.0, 3.0])).round(4).tolist()
    [10.0, 23.0, -6.0]
    """

    sigma: Param = positive(10.0)
    rho: Param = positive(28.0)
    beta: Param = positive(8 / 3)

    def __call__(self, t: Real, y: Float[Array, "3"]) -> Float[Array, "3"]:
        """Return the slope of ``(x, y, z)``."""
        del t
        x, y, z = y
        return jnp.stack([self.sigma * (y - x), x * (self.rho - z) - y, x * y - self.beta * z])


class Goodwin(eqx.Module):
    r"""Gene :math:`x`, enzyme :math:`y` and product :math:`z`, which represses the gene.

    .. math:: \dot x = \frac{a}{1 + z^n} - b x, \qquad \dot y = c x - d y, \qquad \dot z = e y - f z

    Parameters
    ----------
    a, c, e
        Synthesis, per unit of time; concentrations are in units of half repression.
    b, d, f
        Degradation, per unit of time.
    n
        Hill coefficient; oscillations need n > 8, and near equal degradation rates.

    Notes
    -----
    Source: B. C. Goodwin, *Oscillatory behavior in enzymatic control processes*, Advances in Enzyme Regulation 3
    (1965); J. S. Griffith, *Mathematics of cellular control processes*, Journal of Theoretical Biology 20 (1968).

    Examples
    --------
    >>> Goodwin(b=param(0.25))(0.0, jnp.array([1.0, 0.0, 1.0])).tolist()[0]
    0.25
    """

    a: Param = positive(1.0)
    b: Param = positive(0.1)
    c: Param = positive(1.0)
    d: Param = positive(0.1)
    e: Param = positive(1.0)
    f: Param = positive(0.1)
    n: Param = positive(10.0)

    def __call__(self, t: Real, y: Float[Array, "3"]) -> Float[Array, "3"]:
        """Return the slope of ``(x, y, z)``."""
        del t
        x, y, z = y
        repressed = 1 / (1 + jnp.maximum(z, 0.0) ** self.n)
        return jnp.stack([self.a * repressed - self.b * x, self.c * x - self.d * y, self.e * y - self.f * z])

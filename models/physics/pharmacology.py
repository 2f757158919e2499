"""Drugs and viruses in a body."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from sciad._roles import Param, param, positive
from sciad._typing import Real


class OneCompartment(eqx.Module):
    r"""A drug taken by mouth: amounts in the gut :math:`G` and in the body :math:`A`; the concentration is :math:`A/V`.

    .. math:: \dot G = -k_a G, \qquad \dot A = k_a G - \frac{C}{V} A

    Parameters
    ----------
    absorption
        :math:`k_a`, per hour.
    clearance
        :math:`C`, litres per hour.
    volume
        :math:`V`, litres.

    Notes
    -----
    Source: M. Gibaldi and D. Perrier, *Pharmacokinetics* (1982), chapter 1. From concentrations alone the larger of
    :math:`k_a` and :math:`C/V` cannot be told from the smaller ("flip-flop"): bound one of them.

    Examples
    --------
    >>> OneCompartment()(0.0, jnp.array([100.0, 40.0])).tolist()
    [-100.0, 96.0]
    """

    absorption: Param = positive(1.0, unit="1/h")
    clearance: Param = positive(4.0, unit="l/h")
    volume: Param = positive(40.0, unit="l")

    def __call__(self, t: Real, y: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return the slope of ``(G, A)``."""
        del t
        gut, body = y
        absorbed = self.absorption * gut
        return jnp.stack([-absorbed, absorbed - self.clearance / self.volume * body])


class TwoCompartment(eqx.Module):
    r"""A drug in blood :math:`A` and tissue :math:`T`, injected or from the gut :math:`G`.

    .. math:: \dot G = -k_a G, \qquad \dot A = k_a G - \frac{C + Q}{V} A + \frac{Q}{W} T, \qquad
              \dot T = \frac{Q}{V} A - \frac{Q}{W} T

    Parameters
    ----------
    absorption, clearance, volume
        As in `OneCompartment`.
    exchange
        :math:`Q`, litres per hour.
    tissue
        Volume :math:`W` of the tissue, litres.

    Notes
    -----
    Source: M. Gibaldi and D. Perrier, *Pharmacokinetics* (1982), chapter 2.

    Examples
    --------
    >>> TwoCompartment()(0.0, jnp.array([2.0, 40.0, 80.0])).tolist()
    [-2.0, -2.0, 0.0]
    """

    absorption: Param = positive(1.0, unit="1/h")
    clearance: Param = positive(4.0, unit="l/h")
    volume: Param = positive(40.0, unit="l")
    exchange: Param = positive(10.0, unit="l/h")
    tissue: Param = positive(80.0, unit="l")

    def __call__(self, t: Real, y: Float[Array, "3"]) -> Float[Array, "3"]:
        """Return the slope of ``(G, A, T)``."""
        del t
        gut, blood, tissue = y
        absorbed, cleared = self.absorption * gut, self.clearance / self.volume * blood
        exchanged = self.exchange * (blood / self.volume - tissue / self.tissue)
        return jnp.stack([-absorbed, absorbed - cleared - exchanged, exchanged])


class HIV(eqx.Module):
    r"""Virus after a protease inhibitor: infected cells :math:`T`, infectious and harmless virus :math:`V, W`.

    .. math:: \dot T = k V T_0 - \delta T, \qquad \dot V = -c V, \qquad \dot W = N \delta T - c W

    Parameters
    ----------
    infection
        :math:`k`, ml per virion and day.
    death
        :math:`\delta` of infected cells, per day.
    clearance
        :math:`c` of virus, per day.
    burst
        Virions :math:`N` from one cell.
    cells
        Uninfected cells :math:`T_0`, per ml, taken as constant.

    Notes
    -----
    Source: A. S. Perelson et al., *HIV-1 dynamics in vivo*, Science 271 (1996). Default values are those of its patient
    104, with infection such that the state before treatment is steady: :math:`k N T_0 = c`.

    Examples
    --------
    >>> HIV()(0.0, jnp.array([3000.0, 5e5, 0.0]))[1].tolist()
    -1840000.0
    """

    infection: Param = positive(3.68 / (480.0 * 11000.0), unit="ml/d")
    death: Param = positive(0.5, unit="1/d")
    clearance: Param = positive(3.68, unit="1/d")
    burst: Param = param(480.0, role="frozen")
    cells: Param = param(11000.0, role="frozen", unit="1/ml")

    def __call__(self, t: Real, y: Float[Array, "3"]) -> Float[Array, "3"]:
        """Return the slope of ``(T, V, W)``."""
        del t
        infected, virus, harmless = y
        dying = self.death * infected
        return jnp.stack(
            [
                self.infection * self.cells * virus - dying,
                -self.clearance * virus,
                self.burst * dying - self.clearance * harmless,
            ]
        )

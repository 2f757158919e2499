r"""Numbers in wide intervals by their logarithm, so that a descent can come to a rim, and leave it again.

In unconstrained space, where :math:`x = a + (b - a)/(1 + e^{-u})`, the rims are at infinity. A long step towards one
ends where nothing moves the residuals any more: the parameter is lost, though further on the descent would want it
back inside. As :math:`z = \ln x` between bounds it rests on a bound while the slope leads outwards, and no longer.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import expit
from jaxtyping import Array, ArrayLike, Bool, Float

RIM = 1e-7  # share of a wide interval's decades that is its rim
SHORT = 1e-9  # share of an interval, in its logarithm, by which descents stay inside: there u is finite
WIDE = 1000.0  # ratio of an interval's ends from which its numbers are spread, and descended in, by their logarithm


def wide(low: ArrayLike, high: ArrayLike) -> np.ndarray:
    """Return which intervals span decades."""
    low, high = np.asarray(low), np.asarray(high)
    return (low > 0) & np.isfinite(high) & (high > WIDE * low)


class Decades(eqx.Module):
    """Coordinates z of unconstrained numbers u: logarithms of those in wide intervals, the others as they are.

    Parameters
    ----------
    low, high
        Ends of each number's interval; infinite where it has none.

    Examples
    --------
    >>> chart = Decades(np.array([1e-4, -np.inf]), np.array([1e4, np.inf]))
    >>> [round(float(z), 3) for z in chart.coordinates(jnp.array([0.0, 3.0]))]
    [8.517, 3.0]
    """

    low: Float[np.ndarray | Array, " p"]
    high: Float[np.ndarray | Array, " p"]
    wide: np.ndarray | Array

    def __init__(self, low: Float[np.ndarray, " p"], high: Float[np.ndarray, " p"]) -> None:
        self.wide = wide(low, high)
        self.low, self.high = np.where(self.wide, low, 1.0), np.where(self.wide, high, 2.0)

    @property
    def bounds(self) -> tuple[Float[Array, " p"], Float[Array, " p"]]:
        """Lowest and highest coordinates."""
        low, high = jnp.log(self.low), jnp.log(self.high)
        rounding = 8 * jnp.finfo(low.dtype).eps * jnp.maximum(jnp.abs(low), jnp.abs(high))
        short = jnp.maximum(SHORT * (high - low), rounding)
        return jnp.where(self.wide, low + short, -jnp.inf), jnp.where(self.wide, high - short, jnp.inf)

    @property
    def reach(self) -> Float[Array, " p"]:
        """Longest steps of a descent: a few decades."""
        return jnp.where(self.wide, jnp.log(WIDE), jnp.inf)

    def coordinates(self, unconstrained: Float[Array, " p"]) -> Float[Array, " p"]:
        """Return coordinates, within the bounds."""
        natural = self.low + (self.high - self.low) * expit(unconstrained)
        return self.within(jnp.where(self.wide, jnp.log(natural), unconstrained))

    def rests(self, coordinates: Float[Array, " p"]) -> tuple[Bool[Array, " p"], Bool[Array, " p"]]:
        """Whether each number is on the lower, and on the upper, rim of its interval, but for rounding."""
        low, high = self.bounds
        edge = RIM * jnp.where(self.wide, high - low, 0.0)
        wide = jnp.asarray(self.wide)
        return wide & (coordinates <= low + edge), wide & (coordinates >= high - edge)

    def without(self, held: Bool[np.ndarray, " p"]) -> "Decades":
        """Return the chart in which these numbers keep their unconstrained coordinates."""
        kept = np.asarray(self.wide) & ~held
        return Decades(np.where(kept, self.low, -np.inf), np.where(kept, self.high, np.inf))

    def within(self, coordinates: Float[Array, " p"]) -> Float[Array, " p"]:
        """Return the nearest coordinates within the bounds."""
        return jnp.clip(coordinates, *self.bounds)

    def unconstrained(self, coordinates: Float[Array, " p"]) -> Float[Array, " p"]:
        """Return unconstrained numbers, of coordinates within the bounds."""
        natural = jnp.exp(jnp.where(self.wide, coordinates, jnp.log(1.5)))
        return jnp.where(self.wide, jnp.log((natural - self.low) / (self.high - natural)), coordinates)

    def slopes(self, coordinates: Float[Array, " p"]) -> Float[Array, " p"]:
        r"""Return :math:`dz/du = (x - a)(b - x) / ((b - a) x)`, or one."""
        natural = jnp.exp(jnp.where(self.wide, coordinates, jnp.log(1.5)))
        inside = (natural - self.low) * (self.high - natural) / ((self.high - self.low) * natural)
        return jnp.where(self.wide, inside, 1.0)

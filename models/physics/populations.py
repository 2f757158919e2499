"""Populations: predators and prey, epidemics."""

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from sciad._roles import Param, param, positive
from sciad._typing import Real


class LotkaVolterra(eqx.Module):
    r"""Prey :math:`u` and predator :math:`v`.

    .. math:: \dot u = (\alpha - \beta v)\,u, \qquad \dot v = (-\gamma + \delta u)\,v

    Parameters
    ----------
    alpha, gamma
        Growth of the prey and death of the predator, per unit of time.
    beta, delta
        Predation, per unit of time and of predators; growth by predation, per unit of time and of prey.

    Notes
    -----
    Priors are those of the lynx and hare study (B. Carpenter, *Predator-Prey Population Dynamics*, Stan case study,
    2018), for years and thousands of pelts; give your own for other units.

    Examples
    --------
    >>> rest = LotkaVolterra(alpha=param(1.0), beta=param(0.25), gamma=param(2.0), delta=param(0.5))
    >>> rest(0.0, jnp.array([4.0, 4.0])).tolist()
    [0.0, 0.0]
    """

    alpha: Param = param(prior=dist.TruncatedNormal(1.0, 0.5, low=0.0))
    beta: Param = param(prior=dist.TruncatedNormal(0.05, 0.05, low=0.0))
    gamma: Param = param(prior=dist.TruncatedNormal(1.0, 0.5, low=0.0))
    delta: Param = param(prior=dist.TruncatedNormal(0.05, 0.05, low=0.0))

    def __call__(self, t: Real, y: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return the slope of ``(u, v)``."""
        del t
        u, v = y
        return jnp.stack([(self.alpha - self.beta * v) * u, (-self.gamma + self.delta * u) * v])


class SIR(eqx.Module):
    r"""Epidemic in a closed population of :math:`N`: susceptible :math:`S`, infected :math:`I`, recovered :math:`R`.

    .. math:: \dot S = -\beta S I / N, \qquad \dot I = \beta S I / N - \gamma I, \qquad \dot R = \gamma I

    Parameters
    ----------
    beta
        Contacts that infect, per unit of time; :math:`R_0 = \beta/\gamma`.
    gamma
        Recovery, per unit of time.

    Notes
    -----
    Source: W. O. Kermack and A. G. McKendrick, *A contribution to the mathematical theory of epidemics*, Proceedings of
    the Royal Society A 115 (1927). Priors are those of L. Grinsztajn et al., *Bayesian workflow for disease
    transmission modeling in Stan*, Statistics in Medicine 40 (2021), for days.

    Examples
    --------
    >>> SIR(beta=param(2.0), gamma=param(0.5))(0.0, jnp.array([50.0, 50.0, 0.0])).tolist()
    [-50.0, 25.0, 25.0]
    """

    beta: Param = param(prior=dist.TruncatedNormal(2.0, 1.0, low=0.0))
    gamma: Param = param(prior=dist.TruncatedNormal(0.4, 0.5, low=0.0))

    def __call__(self, t: Real, y: Float[Array, "3"]) -> Float[Array, "3"]:
        """Return the slope of ``(S, I, R)``."""
        del t
        susceptible, infected, _ = y
        infection = self.beta * susceptible * infected / jnp.sum(y)
        recovery = self.gamma * infected
        return jnp.stack([-infection, infection - recovery, recovery])


class SEIR(eqx.Module):
    r"""Epidemic with a latent time: susceptible :math:`S`, exposed :math:`E`, infected :math:`I`, recovered :math:`R`.

    .. math:: \dot S = -\beta S I / N, \quad \dot E = \beta S I / N - \sigma E, \quad
              \dot I = \sigma E - \gamma I, \quad \dot R = \gamma I

    Parameters
    ----------
    beta, gamma
        As in `SIR`, per unit of time.
    sigma
        One over the mean latent time.

    Notes
    -----
    Source: R. M. Anderson and R. M. May, *Infectious Diseases of Humans* (1991), chapter 6.

    Examples
    --------
    >>> SEIR(beta=param(2.0), sigma=param(0.2), gamma=param(0.5))(0.0, jnp.array([50.0, 10.0, 40.0, 0.0])).tolist()
    [-40.0, 38.0, -18.0, 20.0]
    """

    beta: Param = positive(2.0)
    sigma: Param = positive(0.5)
    gamma: Param = positive(0.5)

    def __call__(self, t: Real, y: Float[Array, "4"]) -> Float[Array, "4"]:
        """Return the slope of ``(S, E, I, R)``."""
        del t
        susceptible, exposed, infected, _ = y
        infection = self.beta * susceptible * infected / jnp.sum(y)
        onset, recovery = self.sigma * exposed, self.gamma * infected
        return jnp.stack([-infection, infection - onset, onset - recovery, recovery])

r"""Initial values that bend sharply at the seam of a periodic coordinate, and what becomes of the bend.

Such values, :math:`x^2 \cos \pi x` on [-1, 1] for instance, are continuous, and their slope jumps by J from one end to
the other. An ansatz :math:`u_0(x) + t\,N` with a smooth network would keep the jump for all times, and no residual at
points sees it: its second derivative lives on the seam alone. Diffusion rounds it off at once,

.. math:: w = g\,\mathrm{erf}(g/s) + \tfrac{s}{\sqrt\pi} e^{-g^2/s^2}, \quad s = \ell \sqrt{(t - t_0)/T}

for :math:`|g|`, with g the distance from the seam (a sine, to be periodic). So the ansatz has
:math:`\tfrac J2 (w (1 + \tfrac{t - t_0}{T} a) - |g|)` beside its other parts: the network gives the amplitude a as one
output more, and the thickness ℓ that the layer has at the end is found with the weights.

Source: H. S. Carslaw and J. C. Jaeger, *Conduction of heat in solids* (1959), section 2.4, for w.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciad._derivatives import Function, Point, d
from sciad._errors import InputError
from sciad.models.domains import AbstractDomain
from sciad.problems.conditions import Initial, Value, value_at

if TYPE_CHECKING:
    from sciad.problems.pde import PDEProblem

PROBES = 64  # points of a seam at which slopes are compared
AGREE = 1e-6  # jump of the slope, by that of a field that crosses its own size in the whole length, that is none
THICK = 0.05  # of the length: what ℓ begins at
LEAST = 1e-12  # of the length: thickness at the first time, for derivatives to be finite


class Seam(NamedTuple):
    """Where initial values bend: the field, the number of its initial condition, and the periodic coordinate."""

    field: str
    condition: int
    along: str


class Layered(eqx.Module):
    """A network, and the logarithm of each layer's thickness by the length of the coordinate."""

    network: Any
    thickness: Float[Array, " seams"]

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " m"]:
        """Evaluate the network at one point."""
        return self.network(z)


def layered(network: Any, seams: Sequence[Seam]) -> Any:
    """Return the network, with a thickness for each seam if there are any."""
    return Layered(network, jnp.full(len(seams), jnp.log(THICK))) if seams else network


def seams_of(problem: "PDEProblem", values: Sequence[tuple[Value, ...]], scales: dict[str, float]) -> tuple[Seam, ...]:
    """Return where the initial values that an ansatz carries bend at a seam.

    Raises
    ------
    InputError
        If rates are prescribed too: the equation then carries the bend away, and nothing rounds it off.
    """
    found = []
    for field in problem.fields:
        carried = problem.carried[field]
        initial = [i for i, _ in carried.conditions if isinstance(problem.conditions[i], Initial)]
        for number in initial:
            for along in carried.periodic:
                seam = Seam(field, number, along)
                points, _ = problem.domain.surface(f"{along}_min", PROBES, 0)
                jumps = jax.vmap(lambda x, s=seam: _jump(problem, s, values)(problem.point(x)))(jnp.asarray(points))
                low, high = _span(problem.domain, along)
                if float(jnp.max(jnp.abs(jumps))) * (high - low) <= AGREE * scales[field]:
                    continue
                _check_first_order(problem, seam, float(jnp.max(jnp.abs(jumps))))
                found.append(seam)
    return tuple(found)


def _check_first_order(problem: "PDEProblem", seam: Seam, jump: float) -> None:
    condition: Any = problem.conditions[seam.condition]
    if condition.rate is not None:
        msg = f"The initial value of {seam.field} has slopes at the two ends of {seam.along} that differ by {jump:.3g}:"
        msg += f" periodic in {seam.along}, it bends there. An equation of second order in {condition.time} carries the"
        msg += " bend through the domain, and no smooth network follows it. Give values whose slopes agree too."
        raise InputError(msg)


def _span(domain: AbstractDomain, name: str) -> tuple[float, float]:
    return dict(zip(domain.coordinates, domain.bounds, strict=True))[name]


def _jump(problem: "PDEProblem", seam: Seam, values: Sequence[tuple[Value, ...]]) -> Function:
    """Return the slope of the initial value beyond the seam, less that before it."""
    condition: Any = problem.conditions[seam.condition]
    first = _span(problem.domain, condition.time)[0]
    low, high = _span(problem.domain, seam.along)

    def at(p: Point, end: float) -> Array:
        slope = d(lambda q: value_at(values[seam.condition][0], q), seam.along)
        return slope(p.at(**{condition.time: jnp.asarray(first), seam.along: jnp.asarray(end)}))

    return lambda p: at(p, low) - at(p, high)


def layer(
    problem: "PDEProblem", number: int, values: Sequence[tuple[Value, ...]], network: Layered
) -> Callable[[Point, Array], Array]:
    """Return what a layer adds to its field at a point, given what the network says there."""
    seam = problem.seams[number]
    condition: Any = problem.conditions[seam.condition]
    first, last = _span(problem.domain, condition.time)
    low, high = _span(problem.domain, seam.along)
    jump = _jump(problem, seam, values)
    thickness = (high - low) * jnp.exp(network.thickness[number])

    def added(p: Point, said: Array) -> Array:
        share = (p[condition.time] - first) / (last - first)
        g = (high - low) / np.pi * jnp.sin(np.pi * (p[seam.along] - low) / (high - low))
        s = thickness * jnp.sqrt(share + LEAST**2)
        w = g * jax.scipy.special.erf(g / s) + s / np.sqrt(np.pi) * jnp.exp(-((g / s) ** 2))
        return jump(p) / 2 * (w * (1 + share * said[len(problem.fields) + number]) - g)

    return added

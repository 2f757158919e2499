"""Hamiltonian Monte Carlo kernels: NumPyro's trees and integrators as Equinox modules over a flat vector.

Source: M. D. Hoffman and A. Gelman, *The No-U-Turn Sampler*, JMLR 15 (2014); M. Betancourt, *A Conceptual Introduction
to Hamiltonian Monte Carlo* (2017).
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from numpyro.infer.hmc_util import IntegratorState, build_tree, euclidean_kinetic_energy

from sciad._errors import OptionError

Density = Callable[[Float[Array, " d"]], Float[Array, ""]]


class Metric(NamedTuple):
    """Inverse mass matrix, and ``R`` with ``R Rᵀ`` its inverse, to draw momenta; vectors if diagonal."""

    inverse_mass: Float[Array | np.ndarray, " d *d2"]
    root_mass: Float[Array | np.ndarray, " d *d2"]


class Point(NamedTuple):
    """Where a chain stands."""

    position: Float[Array | np.ndarray, " *chains d"]
    potential: Float[Array | np.ndarray, " *chains"]
    gradient: Float[Array | np.ndarray, " *chains d"]


class Info(NamedTuple):
    """What happened in one transition, or in each of many."""

    accept_prob: Float[Array | np.ndarray, " *draws"]
    energy: Float[Array | np.ndarray, " *draws"]
    potential: Float[Array | np.ndarray, " *draws"]
    diverging: Bool[Array | np.ndarray, " *draws"]
    failed: Bool[Array | np.ndarray, " *draws"]
    steps: Int[Array | np.ndarray, " *draws"]
    saturated: Bool[Array | np.ndarray, " *draws"]


class AbstractKernel(eqx.Module):
    """One transition of a chain."""

    target_accept: eqx.AbstractVar[float]

    @abstractmethod
    def transition(
        self, density: Density, point: Point, metric: Metric, step_size: Float[Array, ""], key: PRNGKeyArray
    ) -> tuple[Point, Info]:
        """Move from `point`; invariant under the density."""


class NUTS(AbstractKernel):
    """The No-U-Turn sampler, with NumPyro's multinomial trees.

    Parameters
    ----------
    target_accept
        Mean acceptance probability to which the step size is adapted; nearer to 1 for fewer divergences.
    max_tree_depth
        A trajectory has at most ``2**max_tree_depth - 1`` steps.
    max_energy_change
        An energy error beyond which a trajectory is divergent.
    """

    target_accept: float = eqx.field(static=True, default=0.8)
    max_tree_depth: int = eqx.field(static=True, default=10)
    max_energy_change: float = eqx.field(static=True, default=1000.0)

    def __check_init__(self) -> None:
        _check("NUTS", self.target_accept)
        if not 1 <= self.max_tree_depth <= 20:
            msg = f"NUTS(max_tree_depth={self.max_tree_depth}): expected a whole number from 1 to 20."
            raise OptionError(msg)

    def transition(
        self, density: Density, point: Point, metric: Metric, step_size: Float[Array, ""], key: PRNGKeyArray
    ) -> tuple[Point, Info]:
        """Move from `point` to a point of a tree that doubles until it turns back."""
        key_momentum, key_tree = jax.random.split(key)
        tree = build_tree(
            _leapfrog(density),
            euclidean_kinetic_energy,
            IntegratorState(point.position, _momentum(metric, key_momentum), point.potential, point.gradient),
            metric.inverse_mass,
            step_size,
            key_tree,
            max_delta_energy=self.max_energy_change,
            max_tree_depth=self.max_tree_depth,
        )
        ends = jnp.stack([tree.z_left_grad, tree.z_right_grad])
        info = Info(
            accept_prob=tree.sum_accept_probs / tree.num_proposals,
            energy=tree.z_proposal_energy,
            potential=tree.z_proposal_pe,
            diverging=tree.diverging,
            failed=tree.diverging & jnp.any(jnp.all(ends == 0.0, axis=1)),
            steps=tree.num_proposals,
            saturated=(tree.depth >= self.max_tree_depth) & ~tree.turning & ~tree.diverging,
        )
        return Point(tree.z_proposal, tree.z_proposal_pe, tree.z_proposal_grad), info


class HMC(AbstractKernel):
    """Hamiltonian Monte Carlo with trajectories of random length.

    Parameters
    ----------
    steps
        Longest trajectory; each has a length drawn uniformly from 1 to `steps`, against resonance.
    target_accept
        Mean acceptance probability to which the step size is adapted.
    max_energy_change
        An energy error beyond which a trajectory is divergent.
    """

    steps: int = eqx.field(static=True, default=16)
    target_accept: float = eqx.field(static=True, default=0.8)
    max_energy_change: float = eqx.field(static=True, default=1000.0)

    def __check_init__(self) -> None:
        _check("HMC", self.target_accept)
        if self.steps < 1:
            msg = f"HMC(steps={self.steps}): expected at least 1."
            raise OptionError(msg)

    def transition(
        self, density: Density, point: Point, metric: Metric, step_size: Float[Array, ""], key: PRNGKeyArray
    ) -> tuple[Point, Info]:
        """Move from `point` to the end of a trajectory, or stay."""
        key_momentum, key_length, key_accept = jax.random.split(key, 3)
        momentum = _momentum(metric, key_momentum)
        start = IntegratorState(point.position, momentum, point.potential, point.gradient)
        length = jax.random.randint(key_length, (), 1, self.steps + 1)
        leapfrog = _leapfrog(density)
        # A failed evaluation ends the trajectory: whatever would follow could not be accepted.
        steps, end = jax.lax.while_loop(
            lambda state: (state[0] < length) & jnp.isfinite(state[1].potential_energy),
            lambda state: (state[0] + 1, leapfrog(step_size, metric.inverse_mass, state[1])),
            (jnp.zeros((), length.dtype), start),
        )
        before, after = (s.potential_energy + euclidean_kinetic_energy(metric.inverse_mass, s.r) for s in (start, end))
        change = jnp.where(jnp.isnan(after - before), jnp.inf, after - before)
        accept_prob = jnp.exp(-jnp.maximum(change, 0.0))
        accept = jax.random.uniform(key_accept) < accept_prob
        moved = Point(end.z, end.potential_energy, end.z_grad)
        new = jax.tree.map(lambda a, b: jnp.where(accept, a, b), moved, point)
        info = Info(
            accept_prob=accept_prob,
            energy=jnp.where(accept, after, before),
            potential=new.potential,
            diverging=change > self.max_energy_change,
            failed=~jnp.isfinite(end.potential_energy),
            steps=steps,
            saturated=jnp.zeros((), bool),
        )
        return new, info


def evaluate(density: Density, position: Float[Array, " d"]) -> Point:
    """Return potential energy and gradient; infinite and exactly zero where the density cannot be evaluated.

    The zero gradient marks the failure: a tree that ends on it ended because the model failed there.
    """
    value, gradient = jax.value_and_grad(density)(position)
    ok = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
    return Point(position, jnp.where(ok, -value, jnp.inf), jnp.where(ok, -gradient, 0.0))


def _leapfrog(density: Density) -> Callable[..., IntegratorState]:
    def update(step_size: Array, inverse_mass: Array, state: tuple[Array, ...]) -> IntegratorState:
        position, momentum, _, gradient = state
        momentum = momentum - 0.5 * step_size * gradient
        velocity = inverse_mass @ momentum if inverse_mass.ndim == 2 else inverse_mass * momentum
        new = evaluate(density, position + step_size * velocity)
        return IntegratorState(new.position, momentum - 0.5 * step_size * new.gradient, new.potential, new.gradient)

    return update


def _momentum(metric: Metric, key: PRNGKeyArray) -> Float[Array, " d"]:
    root = jnp.asarray(metric.root_mass)
    white = jax.random.normal(key, root.shape[:1], root.dtype)
    return root @ white if root.ndim == 2 else root * white


def _check(name: str, target_accept: float) -> None:
    if not 0 < target_accept < 1:
        msg = f"{name}(target_accept={target_accept}): expected a probability between 0 and 1, such as 0.8."
        raise OptionError(msg)

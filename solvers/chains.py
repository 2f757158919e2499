"""Several chains of one kernel, compiled once and driven from the host in short stretches.

The same compiled function serves adaptation and sampling; between stretches the host looks at the draws, changes the metric,
reports progress, stores a checkpoint, or stops.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.infer.hmc_util import dual_averaging

from sciad.solvers.hamiltonian import AbstractKernel, Density, Info, Metric, Point, evaluate

STRETCH = 100  # transitions at most between two looks of the host
_START_STEP_SIZE, _UPDATE_STEP_SIZE = dual_averaging()


class ChainState(NamedTuple):
    """A chain: where it stands, its step-size adaptation, its key."""

    point: Point
    step: tuple[Array, ...]
    key: PRNGKeyArray


class Stretch(NamedTuple):
    """Draws and what happened, over (chain, transition)."""

    draws: Float[np.ndarray, "chains n d"]
    info: Info


class Chains:
    """A batch of chains on the devices at hand: spread over them where they divide the chains, else on one.

    Parameters
    ----------
    density
        Log-density of an unconstrained vector.
    kernel
        How a chain moves.
    number, size
        Number of chains, and of entries of the vector.
    dense
        Whether the metric is a matrix.
    in_step
        Whether the chains on one device are batched, and wait for the longest trajectory; else they run one after another.
    """

    def __init__(
        self, density: Density, kernel: AbstractKernel, number: int, size: int, *, dense: bool, in_step: bool
    ) -> None:
        self.kernel, self.number, self.size, self.dense, self.in_step = kernel, number, size, dense, in_step
        devices = jax.local_devices()
        fitting = [n for n in range(min(len(devices), number), 0, -1) if number % n == 0]
        self.devices = fitting[0]
        self._density = density
        began = time.perf_counter()
        self._batch_size = max(32, 2 * size)
        shape = jax.ShapeDtypeStruct((self._batch_size, size), jnp.result_type(float))
        self._batch = jax.jit(jax.vmap(lambda z: evaluate(density, z))).lower(shape).compile()
        self.compile_seconds = time.perf_counter() - began
        self._advance: Any = None

    def evaluate(self, positions: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n d"]]:
        """Return potentials and gradients of any number of positions; infinite and zero where the density fails."""
        found = []
        for at in range(0, len(positions), self._batch_size):
            rows = positions[at : at + self._batch_size]
            padded = np.concatenate([rows, np.repeat(rows[:1], self._batch_size - len(rows), axis=0)])
            point = self._batch(jnp.asarray(padded))
            found.append((np.asarray(point.potential)[: len(rows)], np.asarray(point.gradient)[: len(rows)]))
        return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])

    def start(self, positions: Float[np.ndarray, "chains d"], key: PRNGKeyArray, step_size: float) -> ChainState:
        """Put the chains at `positions`, which must be possible."""
        potentials, gradients = self.evaluate(positions)
        point = Point(jnp.asarray(positions), jnp.asarray(potentials), jnp.asarray(gradients))
        return ChainState(point, self._step_sizes(np.full(self.number, step_size)), jax.random.split(key, self.number))

    def restart_step_size(self, state: ChainState) -> ChainState:
        """Forget the history of the step sizes' adaptation, and go on from where they are."""
        return state._replace(step=self._step_sizes(self.step_sizes(state)))

    def step_sizes(self, state: ChainState) -> Float[np.ndarray, " chains"]:
        """Return the adapted step size of each chain."""
        return np.exp(np.asarray(state.step[1]))

    def _step_sizes(self, sizes: np.ndarray) -> tuple[Array, ...]:
        """Dual averaging from these sizes, drawn towards ten times them (Hoffman and Gelman, section 3.2)."""
        dtype = jnp.result_type(float)
        logs = jnp.asarray(np.log(sizes), dtype)
        zero = jnp.zeros(self.number, dtype)
        return logs, logs, zero, jnp.zeros(self.number, jnp.result_type(int)), logs + np.log(10.0)

    def advance(self, state: ChainState, metric: Metric, number: int, *, adapt: bool) -> tuple[ChainState, Stretch]:
        """Make `number` transitions, at most `STRETCH`."""
        arguments = (state, metric, jnp.asarray(number), jnp.asarray(adapt))
        if self._advance is None:
            began = time.perf_counter()
            self._advance = jax.jit(self._spread(self._run)).lower(*arguments).compile()
            self.compile_seconds += time.perf_counter() - began
        state, (draws, info) = self._advance(*arguments)
        cut = jax.tree.map(lambda x: np.asarray(x)[:, :number], (draws, info))
        return state, Stretch(*cut)

    def _spread(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def one_by_one(states: ChainState, *shared: Any) -> Any:
            return jax.lax.map(lambda state: run(state, *shared), states)

        batched = jax.vmap(run, in_axes=(0, None, None, None)) if self.in_step else one_by_one
        if self.devices == 1:
            return batched
        mesh = Mesh(np.array(jax.local_devices()[: self.devices]), ("chains",))
        spread, whole = PartitionSpec("chains"), PartitionSpec()
        return jax.shard_map(batched, mesh=mesh, in_specs=(spread, whole, whole, whole), out_specs=spread, check_vma=False)

    def _run(self, state: ChainState, metric: Metric, number: Array, adapt: Array) -> tuple[ChainState, tuple[Array, Info]]:
        kernel, density = self.kernel, self._density

        def transition(i: Array, carry: tuple[ChainState, tuple[Array, Info]]) -> tuple[ChainState, tuple[Array, Info]]:
            (point, step, key), (draws, infos) = carry
            key, used = jax.random.split(key)
            point, info = kernel.transition(density, point, metric, jnp.exp(jnp.where(adapt, step[0], step[1])), used)
            adapted = _UPDATE_STEP_SIZE(kernel.target_accept - info.accept_prob, step)
            step = jax.tree.map(lambda new, old: jnp.where(adapt, new, old).astype(old.dtype), tuple(adapted), tuple(step))
            infos = jax.tree.map(lambda buffer, value: buffer.at[i].set(value.astype(buffer.dtype)), infos, info)
            return ChainState(point, step, key), (draws.at[i].set(point.position), infos)

        dtype = state.point.position.dtype
        kinds = Info(dtype, dtype, dtype, bool, bool, jnp.result_type(int), bool)
        buffers = jnp.zeros((STRETCH, self.size), dtype), jax.tree.map(lambda kind: jnp.zeros(STRETCH, kind), kinds)
        return jax.lax.fori_loop(0, number, transition, (state, buffers))

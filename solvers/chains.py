"""Several chains of one kernel, compiled once and driven from the host in short stretches.

The same compiled function serves adaptation and sampling; between stretches the host looks at the draws, changes the
metric, reports progress, or stops.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, UInt32
from numpyro.infer.hmc_util import dual_averaging

from sciad.solvers.compiling import Compiled
from sciad.solvers.hamiltonian import AbstractKernel, Density, Info, Metric, Point, evaluate

STRETCH = 100  # transitions at most between two looks of the host
RANDOM = "threefry2x32"  # generator of the chains' keys, two words each
_, _UPDATE_STEP_SIZE = dual_averaging()


class ChainState(NamedTuple):
    """A chain: where it stands, its step-size adaptation, the data of its key."""

    point: Point
    step: tuple[Array | np.ndarray, ...]
    key_data: UInt32[Array | np.ndarray, " *chains 2"]


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
        Whether the chains on one device are batched, and wait for the longest trajectory; else they run one after
        another.
    """

    def __init__(
        self, density: Density, kernel: AbstractKernel, number: int, size: int, *, dense: bool, in_step: bool
    ) -> None:
        self.kernel, self.number, self.size, self.dense, self.in_step = kernel, number, size, dense, in_step
        devices = len(jax.local_devices())
        self.devices = next(n for n in range(min(devices, number), 0, -1) if number % n == 0)
        self._density = density
        self._dtype, self._integer = np.dtype(jnp.result_type(float)), np.dtype(jnp.result_type(int))
        self._batch_size = max(32, 2 * size) if dense else 32  # a Hessian by differences in one batch
        batch = jax.ShapeDtypeStruct((self._batch_size, size), self._dtype)
        self._batch = Compiled(jax.vmap(lambda z: evaluate(density, z)), batch)
        zeros, square = np.zeros((number, size), self._dtype), np.zeros((size, size) if dense else size, self._dtype)
        state = ChainState(
            Point(zeros, zeros[:, 0], zeros), self._step_sizes(np.ones(number)), np.zeros((number, 2), np.uint32)
        )
        run, shardings = self._spread(self._run)
        self.blank = state, Metric(square, square), self.nothing
        self._advance = Compiled(run, *self.blank[:2], self._integer.type(0), np.bool_(0), **shardings)

    @property
    def compile_seconds(self) -> float:
        """Time spent on tracing, and on waiting for compilation."""
        return self._batch.seconds + self._advance.seconds

    def evaluate(self, positions: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n d"]]:
        """Return potentials and gradients of any number of positions; infinite and zero where the density fails."""
        found = []
        for at in range(0, len(positions), self._batch_size):
            rows = positions[at : at + self._batch_size].astype(self._dtype)
            padded = np.concatenate([rows, np.repeat(rows[:1], self._batch_size - len(rows), axis=0)])
            point = self._batch(padded)
            found.append((np.asarray(point.potential)[: len(rows)], np.asarray(point.gradient)[: len(rows)]))
        return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])

    @property
    def nothing(self) -> Stretch:
        """No transition yet."""
        kinds = self._kinds(self._dtype)
        empty = Info(*(np.empty((self.number, 0), kind) for kind in kinds))
        return Stretch(np.empty((self.number, 0, self.size), self._dtype), empty)

    def start(
        self, positions: Float[np.ndarray, "chains d"], keys: UInt32[np.ndarray, "chains 2"], step_size: float
    ) -> ChainState:
        """Put the chains at `positions`, which must be possible."""
        potentials, gradients = self.evaluate(positions)
        point = Point(positions.astype(self._dtype), potentials, gradients)
        return ChainState(point, self._step_sizes(np.full(self.number, step_size)), keys)

    def restart_step_size(self, state: ChainState) -> ChainState:
        """Forget the history of the step sizes' adaptation, and go on from where they are."""
        return state._replace(step=self._step_sizes(self.step_sizes(state)))

    def step_sizes(self, state: ChainState) -> Float[np.ndarray, " chains"]:
        """Return the adapted step size of each chain."""
        return np.exp(np.asarray(state.step[1]))

    def _step_sizes(self, sizes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Dual averaging from these sizes, drawn towards ten times them (Hoffman and Gelman, section 3.2)."""
        logs = np.log(sizes).astype(self._dtype)
        zero = np.zeros(self.number, self._dtype)
        return logs, logs, zero, zero.astype(self._integer), logs + self._dtype.type(np.log(10.0))

    def advance(self, state: ChainState, metric: Metric, number: int, *, adapt: bool) -> tuple[ChainState, Stretch]:
        """Make `number` transitions, at most `STRETCH`."""
        metric = Metric(*(x.astype(self._dtype) for x in metric))
        state, (draws, info) = self._advance(state, metric, self._integer.type(number), np.bool_(adapt))
        return state, Stretch(*jax.tree.map(lambda x: np.asarray(x)[:, :number], (draws, info)))

    def _spread(self, run: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
        """Over all chains: those on one device in a batch or one by one, the devices side by side."""

        def one_by_one(states: ChainState, *shared: Any) -> Any:
            return jax.lax.map(lambda state: run(state, *shared), states)

        batched = jax.vmap(run, in_axes=(0, None, None, None)) if self.in_step else one_by_one
        if self.devices == 1:
            return batched, {}
        mesh = Mesh(np.array(jax.local_devices()[: self.devices]), ("chains",))
        specs = (PartitionSpec("chains"), PartitionSpec(), PartitionSpec(), PartitionSpec())
        spread = jax.shard_map(batched, mesh=mesh, in_specs=specs, out_specs=specs[0], check_vma=False)
        return spread, {"in_shardings": tuple(NamedSharding(mesh, spec) for spec in specs)}

    def _run(
        self, state: ChainState, metric: Metric, number: Array, adapt: Array
    ) -> tuple[ChainState, tuple[Array, Info]]:
        kernel, density = self.kernel, self._density

        def transition(i: Array, carry: tuple[ChainState, tuple[Array, Info]]) -> tuple[ChainState, tuple[Array, Info]]:
            (point, step, key_data), (draws, infos) = carry
            key, used = jax.random.split(jax.random.wrap_key_data(jnp.asarray(key_data), impl=RANDOM))
            point, info = kernel.transition(density, point, metric, jnp.exp(jnp.where(adapt, step[0], step[1])), used)
            adapted = _UPDATE_STEP_SIZE(kernel.target_accept - info.accept_prob, step)
            step = jax.tree.map(
                lambda new, old: jnp.where(adapt, new, old).astype(old.dtype), tuple(adapted), tuple(step)
            )
            infos = jax.tree.map(lambda buffer, value: buffer.at[i].set(value.astype(buffer.dtype)), infos, info)
            return ChainState(point, step, jax.random.key_data(key)), (draws.at[i].set(point.position), infos)

        dtype = state.point.position.dtype
        infos = Info(*(jnp.zeros(STRETCH, kind) for kind in self._kinds(dtype)))
        buffers = jnp.zeros((STRETCH, self.size), dtype), infos
        return jax.lax.fori_loop(0, number, transition, (state, buffers))

    def _kinds(self, real: Any) -> tuple[Any, ...]:
        """Return the dtypes of `Info`."""
        return real, real, real, bool, bool, self._integer, bool

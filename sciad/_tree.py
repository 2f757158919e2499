"""From vectors to what a user reads: natural values, predictions, and the tree that holds them."""

from collections.abc import Mapping

import arviz_base
import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, PyTree

from sciad._spec import Axis
from sciad._target import Target
from sciad.problems.ode import ODEProblem
from sciad.solvers.chains import RANDOM
from sciad.solvers.compiling import Compiled
from sciad.solvers.hamiltonian import Info
from sciad.solvers.warmup import random_words

PREDICTIVE = 400  # draws of the posterior and prior predictive distributions


def _shape(*shape: int, dtype: type = float) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))


def _key(words: Array) -> Array:
    return jax.random.wrap_key_data(words, impl=RANDOM)


class Prior:
    """Draws of the prior, as vectors."""

    def __init__(self, target: Target, number: int) -> None:
        self.number = number
        draw = jax.vmap(lambda words: target.draw_prior(_key(words)))
        self._draw = Compiled(draw, _shape(number, 2, dtype=np.uint32), once=True)

    @property
    def compile_seconds(self) -> float:
        """Time spent on tracing, and on waiting for compilation."""
        return self._draw.seconds

    def draw(self, seed: np.random.SeedSequence) -> Float[np.ndarray, "n d"]:
        """Return the draws."""
        return np.asarray(self._draw(random_words(seed, self.number)))


class Values:
    """Natural values of draws."""

    def __init__(self, target: Target, number: int) -> None:
        self.number = number
        self._values = Compiled(jax.vmap(target.values), _shape(number, target.size), once=True)

    @property
    def compile_seconds(self) -> float:
        """Time spent on tracing, and on waiting for compilation."""
        return self._values.seconds

    def __call__(self, draws: Float[np.ndarray, "chains n d"]) -> dict[str, np.ndarray]:
        """Return arrays over (chain, draw, …) by name; fewer draws than foreseen may be given."""
        lead = draws.shape[:2]
        flat = draws.reshape(-1, draws.shape[-1])
        values = self._values(np.resize(flat, (self.number, flat.shape[1])))
        return {name: np.asarray(v)[: len(flat)].reshape(*lead, *v.shape[1:]) for name, v in values.items()}


class Predictor:
    """Posterior and prior predictive draws, pointwise log-likelihoods, and the data."""

    def __init__(self, problem: ODEProblem, program: PyTree, target: Target, chains: int, draws: int) -> None:
        self.problem, self.kept = problem, max(1, min(draws, PREDICTIVE // chains))
        self._rows = 2 * chains * self.kept
        replicate = problem.replicator(program)
        keyed = jax.vmap(lambda vector, words: replicate(vector, _key(words)))
        self._replicate = Compiled(keyed, _shape(self._rows, target.size), _shape(self._rows, 2, dtype=np.uint32))

    @property
    def compile_seconds(self) -> float:
        """Time spent on tracing, and on waiting for compilation."""
        return self._replicate.seconds

    def __call__(
        self, draws: Float[np.ndarray, "chains n d"], prior: Float[np.ndarray, "m d"], seed: np.random.SeedSequence
    ) -> dict[str, xr.Dataset]:
        """Return the groups of ArviZ's schema, from evenly spaced draws of the posterior and draws of the prior."""
        chains, number, size = draws.shape
        thin = np.linspace(0, number - 1, min(self.kept, number)).astype(int)
        half, used = self._rows // 2, chains * len(thin)
        vectors = [np.resize(draws[:, thin].reshape(-1, size), (half, size)), np.resize(prior, (half, size))]
        new, log_likelihood = self._replicate(np.concatenate(vectors), random_words(seed, self._rows))

        def group(values: np.ndarray) -> xr.Dataset:
            shaped = values[:used].reshape(chains, len(thin), *values.shape[1:])
            made = self.problem.dataset(shaped, lead=("chain", "draw"))
            return made.assign_coords(chain=np.arange(chains), draw=thin)

        new, seen = np.asarray(new), self.problem.observations
        return {
            "posterior_predictive": group(new[:half]),
            "prior_predictive": group(new[half:]),
            "log_likelihood": group(np.where(seen.observed, np.asarray(log_likelihood[:half]), np.nan)),
            "observed_data": self.problem.dataset(seen.values),
        }


def sampled_tree(values: Mapping[str, np.ndarray], info: Info, axes: Mapping[str, Axis]) -> xr.DataTree:
    """Return draws, over experiments by label, and what happened in each transition, after ArviZ's schema."""
    named = {name: axis for name, axis in axes.items() if axis.dim}
    further = {name: [f"{name}_dim_{i}" for i in range(1, values[name].ndim - 2)] for name in named}
    dims = {name: [axis.dim, *further[name]] for name, axis in named.items()}
    coords = {axis.dim: list(axis.labels) for axis in named.values()}
    stats = {
        "acceptance_rate": info.accept_prob,
        "diverging": info.diverging,
        "failed_solve": info.failed,
        "energy": info.energy,
        "lp": -info.potential,
        "n_steps": info.steps,
        "reached_max_treedepth": info.saturated,
    }
    return arviz_base.from_dict({"posterior": dict(values), "sample_stats": stats}, dims=dims, coords=coords)

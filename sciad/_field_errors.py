"""How sure a fitted field is: errors of its unknown numbers, and of whatever follows from them, by linearisation."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciad._roles import unwrap
from sciad._vector import Vectorized
from sciad.problems.collocated import Collocated, Setting

LOOSE = 1e-12  # of the largest singular value: what the data say nothing of is as wide as that
AT_ONCE = 1000  # numbers whose derivatives are taken together


class Spread(eqx.Module):
    r"""A normal law about a fitted vector: its covariance is ``root @ root.T``.

    This is Laplace's approximation with the Gauss-Newton matrix: network and unknown numbers together, with the
    equation held up to its weight; the noise's numbers are independent of them.
    """

    full: Vectorized
    vector: Float[np.ndarray, " d"]
    root: Float[np.ndarray, "d r"]

    def errors_of(self, slopes: Float[np.ndarray, "k d"]) -> Float[np.ndarray, " k"]:
        """Return standard errors of numbers, from their derivatives by the vector."""
        return np.linalg.norm(slopes @ self.root, axis=1)

    def of(self, function: Callable[[Any], Array]) -> np.ndarray:
        """Return standard errors of what a function makes of the program, in the shape that it returns."""
        shape = eqx.filter_eval_shape(lambda v: function(unwrap(self.full.program(v))), jnp.asarray(self.vector)).shape

        def flat(full: Vectorized, vector: Array) -> Array:
            return jnp.ravel(function(unwrap(full.program(vector))))

        slopes = eqx.filter_jit(lambda full, v: jax.jacrev(lambda v: flat(full, v))(v))
        return self.errors_of(np.asarray(slopes(self.full, jnp.asarray(self.vector)))).reshape(shape)

    def over(
        self, function: Callable[[Any, Array], Array], points: Float[np.ndarray, "n d"]
    ) -> Float[np.ndarray, "n m"]:
        """Return standard errors of ``function(program, points)``, (n, m), for many points, some at a time."""

        @eqx.filter_jit
        def slopes(full: Vectorized, vector: Array, point: Array) -> Array:
            def at(point: Array) -> Array:
                return jax.jacrev(lambda v: function(unwrap(full.program(v)), point[None])[0])(vector)

            return jax.vmap(at)(point)

        vector, found = jnp.asarray(self.vector), []
        for start in range(0, len(points), AT_ONCE):
            some = points[start : start + AT_ONCE]
            padded = np.concatenate([some, np.repeat(some[-1:], min(AT_ONCE, len(points)) - len(some), axis=0)])
            by = np.asarray(slopes(self.full, vector, jnp.asarray(padded)))[: len(some)]
            found.append(np.linalg.norm(by @ self.root, axis=-1))
        return np.concatenate(found)


def spread_of(posed: Collocated, location: Array, setting: Setting) -> Spread:
    """Return the normal law about the solution of the last round."""
    by_location, _ = eqx.filter_jit(posed.linearised)(location, setting)
    jacobian = np.asarray(by_location) * np.sqrt(len(setting.rows["data"].points))
    lengths = np.linalg.norm(jacobian, axis=0)
    lengths = np.where(lengths > 0, lengths, 1.0)
    _, values, right = np.linalg.svd(np.linalg.qr(jacobian / lengths, mode="r"))
    values = np.pad(values, (0, len(right) - len(values)))  # fewer rows than columns say nothing of some directions
    of_location = (right / np.maximum(values, LOOSE * values.max())[:, None]).T / lengths[:, None]
    vector = np.asarray(posed.joined(location, setting.noise))
    root = np.zeros((vector.size, posed.places.size + posed.noisy.size))
    root[posed.places, : posed.places.size] = of_location
    if posed.noisy.size:
        curvature = np.asarray(eqx.filter_jit(posed.noise_curvature)(location, setting))
        values, axes = np.linalg.eigh(np.linalg.pinv(curvature))
        root[posed.noisy, posed.places.size :] = axes * np.sqrt(np.maximum(values, 0.0))
    return Spread(posed.full, vector, root)

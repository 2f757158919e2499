"""How sure a fitted field is: errors of its unknown numbers, and of whatever follows from them, by linearisation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciad._roles import unwrap
from sciad._vector import Vectorized
from sciad.problems.collocated import Collocated, Setting

MANY = 20  # numbers of one array in the equation, from which it is a function, and not told number by number
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


class Linearised(NamedTuple):
    r"""The least-squares problem about a location, taken apart.

    `root` is that of the covariance of the location; `shift` the way to the linear problem's solution; `effective` how
    many of the observations of each field the solution uses up: the trace of :math:`2H - HH^\top`, with H the matrix
    that takes observations to predictions.

    Source: T. Hastie, R. Tibshirani and J. Friedman, *The Elements of Statistical Learning* (2009), section 7.6.
    """

    root: Float[np.ndarray, "p p"]
    shift: Float[np.ndarray, " p"]
    effective: Float[np.ndarray, " fields"]

    @property
    def errors(self) -> Float[np.ndarray, " p"]:
        """Standard errors of the location."""
        return np.linalg.norm(self.root, axis=1)


def linearised(posed: Collocated, location: Array, setting: Setting) -> Linearised:
    """Take the problem apart by orthogonal decompositions, for which its condition is not squared."""
    by_location, (residuals, _) = eqx.filter_jit(posed.linearised)(location, setting)
    scale = np.sqrt(len(setting.rows["data"].points))
    jacobian, size = np.asarray(by_location) * scale, location.size
    lengths = np.linalg.norm(jacobian, axis=0)
    lengths = np.where(lengths > 0, lengths, 1.0)
    triangle = np.asarray(np.linalg.qr(np.column_stack([jacobian / lengths, np.asarray(residuals) * scale]), mode="r"))
    left, values, right = np.linalg.svd(triangle[:size, :size], full_matrices=False)
    values = np.pad(values, (0, size - len(values)))  # fewer rows than columns say nothing of some directions
    right = np.linalg.svd(triangle[:size, :size])[2] if len(right) < size else right
    values = np.maximum(values, LOOSE * values.max())
    root = (right / values[:, None]).T / lengths[:, None]
    along = left.T @ triangle[:size, size]
    shift = -root[:, : len(along)] @ along
    rows = jacobian[posed.data_rows(location, setting)] @ root
    used = 2 * np.sum(rows**2, axis=1) - np.einsum("ni,ij,nj->n", rows, rows.T @ rows, rows, optimize=True)
    return Linearised(root, shift, used.reshape(-1, max(len(posed.problem.noise), 1)).sum(axis=0))


def named(posed: Collocated) -> list[int]:
    """Return the places, among all natural numbers, of those that are neither a weight nor part of a function."""
    found, place = [], 0
    for path, site in posed.full.sites.items():
        size = int(np.prod(site.shape))
        found += range(place, place + size) if _told_apart(path, size) else []
        place += size
    return found


def unsettled(posed: Collocated, about: Linearised) -> dict[str, float]:
    """Return how far the solution of the linear problem is from each estimate, by its standard error."""
    shares = np.zeros(len(posed.full.names))
    shares[posed.places] = np.abs(about.shift) / np.maximum(about.errors, np.finfo(float).tiny)
    return {
        posed.full.names[place].removeprefix("equation."): float(shares[place])
        for path, places in posed.full.places.items()
        if _told_apart(path, places.stop - places.start) and not path.startswith("noise.")
        for place in range(places.start, places.stop)
    }


def _told_apart(path: str, size: int) -> bool:
    return size <= MANY and not path.startswith("network.")


def spread_of(posed: Collocated, about: Linearised, location: Array, setting: Setting) -> Spread:
    """Return the normal law about a location, noise included."""
    vector = np.asarray(posed.joined(location, setting.noise))
    root = np.zeros((vector.size, posed.places.size + posed.noisy.size))
    root[posed.places, : posed.places.size] = about.root
    if posed.noisy.size:
        curvature = np.asarray(eqx.filter_jit(posed.noise_curvature)(location, setting))
        values, axes = np.linalg.eigh(np.linalg.pinv(curvature))
        root[posed.noisy, posed.places.size :] = axes * np.sqrt(np.maximum(values, 0.0))
    return Spread(posed.full, vector, root)

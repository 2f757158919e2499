"""A partial differential equation at points, as a problem of nonlinear least squares."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from sciad._penalty import Penalty
from sciad._roles import unwrap
from sciad._vector import Vectorized
from sciad.problems.pde import PDEProblem, Rows


class Setting(NamedTuple):
    """What stays while the parameters descend: points, the noise's numbers, and weights of the groups."""

    rows: dict[str, Rows]
    noise: Float[Array, " q"]
    weights: dict[str, Float[Array, ""]]


class Parted(eqx.Module):
    """A program's vector in two: the noise's numbers, and all others."""

    full: Vectorized

    @property
    def places(self) -> Int[np.ndarray, " p"]:
        """Places in the vector of all that is no noise."""
        ours = [np.arange(p.start, p.stop) for path, p in self.full.places.items() if not path.startswith("noise.")]
        return np.concatenate([np.zeros(0, int), *ours])

    @property
    def start(self) -> Float[Array, " p"]:
        """Return the present values of all that is no noise."""
        return jnp.asarray(self.full.vector)[self.places]

    @property
    def noisy(self) -> Int[np.ndarray, " q"]:
        """Places of the noise's numbers."""
        return np.setdiff1d(np.arange(len(self.full.names)), self.places)

    def joined(self, location: Float[Array, " p"], noise: Float[Array, " q"]) -> Float[Array, " d"]:
        """Return the whole vector."""
        return jnp.asarray(self.full.vector).at[self.places].set(location).at[self.noisy].set(noise)


class Collocated(Parted):
    r"""Residuals of a problem at collocation points, as a function of a vector, and their Jacobian.

    .. math:: r = (w_g\, \rho_{gk} / \sqrt{n_g})_{g, k}

    for points k of group g, in the order of their names: the equation, a condition on a face, the data. Half their sum
    of squares is half the sum of the groups' weighted mean squares. Where priors count, their residuals (see
    `sciad._penalty`) join those of the data. Compiled once for each problem.
    """

    problem: PDEProblem = eqx.field(static=True)
    penalty: Penalty | None = None

    def residuals(self, location: Float[Array, " p"], setting: Setting) -> tuple[Float[Array, " n"], None]:
        """Return the weighted residuals of all groups, one after the other."""
        return jnp.concatenate([*self.parts(location, setting).values()]), None

    def parts(self, location: Float[Array, " p"], setting: Setting) -> dict[str, Float[Array, " _"]]:
        """Return the weighted residuals of each group, those of the priors last where these count."""
        plain = unwrap(self.full.program(self.joined(location, setting.noise)))

        def of(name: str, rows: Rows) -> Array:
            found = jax.vmap(self.problem.residual(name), (None, 0, 0))(plain, jnp.asarray(rows.points), rows.beside)
            return jnp.ravel(found) * _weight(setting, name)

        parts = {name: of(name, rows) for name, rows in sorted(setting.rows.items())}
        of_priors = self._of_priors(location, setting)
        return parts | ({"priors": of_priors} if of_priors.size else {})

    def leaves(self, location: Float[Array, " p"]) -> dict[str, Array]:
        """Return the unconstrained numbers of each leaf, the noise's apart, in its shape and by its path."""
        whole = self.joined(location, jnp.asarray(self.full.vector)[self.noisy])
        shapes = {path: site.bijection.inverse_shape(site.shape) for path, site in self.full.sites.items()}
        moving = {path: place for path, place in self.full.places.items() if not path.startswith("noise.")}
        return {path: whole[place].reshape(shapes[path]) for path, place in moving.items()}

    def flat(self, leaves: dict[str, Array]) -> Float[Array, " p"]:
        """Return the location that `leaves` makes such numbers of."""
        return jnp.concatenate([jnp.ravel(leaves[path]) for path in self.full.places if path in leaves])

    def times(self, setting: Setting) -> Float[Array, " n"] | None:
        """Return the times of the equation's points, from 0 to 1; None where there are no initial values."""
        if self.problem.time is None:
            return None
        column = self.problem.domain.coordinates.index(self.problem.time)
        first, last = self.problem.domain.bounds[column]
        return (jnp.asarray(setting.rows["equation"].points)[:, column] - first) / (last - first)

    def linearised(
        self, location: Float[Array, " p"], setting: Setting
    ) -> tuple[Float[Array, "n p"], tuple[Float[Array, " n"], None]]:
        """Return the Jacobian, point by point in reverse mode, and the residuals.

        It is taken by the natural values of each leaf, and carried to the vector for all points at once.
        """
        vector = self.joined(location, setting.noise)
        values, slopes = self.full.values(vector), self.full.slopes(vector)
        moving = {path: value for path, value in values.items() if not path.startswith("noise.")}
        blocks, parts = [], []
        for name, rows in sorted(setting.rows.items()):
            at_point = jax.vmap(lambda x, beside, name=name: self._rows(values, moving, name, x, beside))
            of_leaves, found = at_point(jnp.asarray(rows.points), rows.beside)
            flat = {path: of_leaves[path].reshape(found.size, -1) for path in moving}
            carried = [part if (by := slopes[path]) is None else part @ by for path, part in flat.items()]
            weight = _weight(setting, name)
            blocks.append(weight * jnp.concatenate(carried, axis=1))
            parts.append(weight * jnp.ravel(found))
        blocks.append(jax.jacfwd(self._of_priors)(location, setting))
        return jnp.concatenate(blocks), (jnp.concatenate([*parts, self._of_priors(location, setting)]), None)

    def data_rows(self, location: Float[Array, " p"], setting: Setting) -> slice:
        """Return where the data's residuals stand among all."""
        shapes = jax.eval_shape(self.parts, location, setting)
        start = sum(part.shape[0] for name, part in shapes.items() if name in setting.rows and name < "data")
        return slice(start, start + len(setting.rows["data"].points) * len(self.problem.noise))

    def _of_priors(self, location: Array, setting: Setting) -> Array:
        """Return the residuals of the priors, the noise's apart, with the weight of one observation each."""
        if self.penalty is None or "data" not in setting.rows:
            return jnp.zeros(0, location.dtype)
        found = self.penalty(self.full, self.joined(location, setting.noise))
        mine = np.isin(self.penalty.places(self.full), self.places)
        return found[np.flatnonzero(mine)] / np.sqrt(len(setting.rows["data"].points))

    def _rows(
        self, values: dict[str, Array], moving: dict[str, Array], name: str, x: Array, beside: PyTree
    ) -> tuple[dict[str, Array], Array]:
        """Return the derivatives of one point's residuals by each moving leaf, and these residuals."""
        residual = self.problem.residual(name)

        def at(moving: dict[str, Array]) -> Array:
            return residual(unwrap(self.full.filled(values | moving)), x, beside)

        found, pull = jax.vjp(at, moving)
        if found.size == 1:
            return jax.tree.map(lambda leaf: leaf[None], pull(jnp.ones_like(found))[0]), found
        return jax.vmap(lambda v: pull(v)[0])(jnp.eye(found.size, dtype=found.dtype)), found

    def predictions(self, location: Float[Array, " p"], setting: Setting) -> Float[Array, "n fields"]:
        """Return the fields at the observed points."""
        program = self.full.program(self.joined(location, setting.noise))
        return self.problem.evaluate(program, setting.rows["data"].points)

    def noise_loss(self, noise: Float[Array, " q"], predictions: Float[Array, "n fields"]) -> Float[Array, ""]:
        """Return the negative log-likelihood of the observations, with the noise's priors where they count."""
        vector = jnp.asarray(self.full.vector).at[self.noisy].set(noise)
        loss = -self.problem.log_likelihood(unwrap(self.full.program(vector)), predictions)
        if self.penalty is None:
            return loss
        mine = np.isin(self.penalty.places(self.full), self.noisy)
        return loss + 0.5 * jnp.sum(self.penalty(self.full, vector)[np.flatnonzero(mine)] ** 2)

    def noise_curvature(self, location: Float[Array, " p"], setting: Setting) -> Float[Array, "q q"]:
        """Return the second derivatives of the negative log-likelihood by the noise's numbers."""
        return jax.hessian(self.noise_loss)(setting.noise, self.predictions(location, setting))

    def precision(self, location: Float[Array, " p"], setting: Setting) -> Float[Array, ""]:
        """Return how finely the data are known; see `PDEProblem.precision`."""
        program = self.full.program(self.joined(location, setting.noise))
        return self.problem.precision(unwrap(program), self.predictions(location, setting))

    def magnitudes(self, location: Float[Array, " p"], setting: Setting) -> Float[Array, " n"]:
        """Return the size of the equation's residual at each point inside."""
        plain = unwrap(self.full.program(self.joined(location, setting.noise)))
        return self.problem.missed(plain, jnp.asarray(setting.rows["equation"].points))

    def root_mean_squares(self, location: Float[Array, " p"], setting: Setting) -> dict[str, Float[Array, ""]]:
        """Return the root mean square of each group's residuals, without weights."""
        plain = unwrap(self.full.program(self.joined(location, setting.noise)))

        def of(name: str, rows: Rows) -> Array:
            residual: Callable[..., Any] = self.problem.residual(name)
            return jnp.sqrt(jnp.mean(jax.vmap(residual, (None, 0, 0))(plain, rows.points, rows.beside) ** 2))

        return {name: of(name, rows) for name, rows in setting.rows.items()}


def _weight(setting: Setting, name: str) -> Array:
    return setting.weights[name] / np.sqrt(len(setting.rows[name].points))

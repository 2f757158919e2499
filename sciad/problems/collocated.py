"""A partial differential equation at points, as a problem of nonlinear least squares."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from sciad._roles import unwrap
from sciad._vector import Vectorized
from sciad.problems.pde import PDEProblem, Rows


class Setting(NamedTuple):
    """What stays while the parameters descend: points, the noise's numbers, and weights of the groups."""

    rows: dict[str, Rows]
    noise: Float[Array, " q"]
    weights: dict[str, Float[Array, ""]]


class Collocated(eqx.Module):
    r"""Residuals of a problem at collocation points, as a function of a vector, and their Jacobian.

    .. math:: r = (w_g\, \rho_{gk} / \sqrt{n_g})_{g, k}

    for points k of group g: the equation, a condition on a face, the data. Half their sum of squares is half the sum of
    the groups' weighted mean squares. Compiled once for each problem.
    """

    full: Vectorized
    problem: PDEProblem = eqx.field(static=True)

    @property
    def places(self) -> Int[np.ndarray, " p"]:
        """Places in the vector of all that is no noise."""
        return np.flatnonzero([not name.startswith("noise.") for name in self.full.names])

    @property
    def noisy(self) -> Int[np.ndarray, " q"]:
        """Places of the noise's numbers."""
        return np.setdiff1d(np.arange(len(self.full.names)), self.places)

    def joined(self, location: Float[Array, " p"], noise: Float[Array, " q"]) -> Float[Array, " d"]:
        """Return the whole vector."""
        return jnp.asarray(self.full.vector).at[self.places].set(location).at[self.noisy].set(noise)

    def residuals(self, location: Float[Array, " p"], setting: Setting) -> tuple[Float[Array, " n"], None]:
        """Return the weighted residuals of all groups, one after the other."""
        plain = unwrap(self.full.program(self.joined(location, setting.noise)))
        parts = [
            jnp.ravel(jax.vmap(self.problem.residual(name), (None, 0, 0))(plain, jnp.asarray(rows.points), rows.beside))
            * _weight(setting, name)
            for name, rows in setting.rows.items()
        ]
        return jnp.concatenate(parts), None

    def linearised(
        self, location: Float[Array, " p"], setting: Setting
    ) -> tuple[Float[Array, "n p"], tuple[Float[Array, " n"], None]]:
        """Return the Jacobian, point by point in reverse mode, and the residuals."""
        blocks, parts = [], []
        for name, rows in setting.rows.items():
            at_point = jax.vmap(lambda x, beside, name=name: self._rows(location, setting, name, x, beside))
            slopes, values = at_point(jnp.asarray(rows.points), rows.beside)
            weight = _weight(setting, name)
            blocks.append(weight * slopes.reshape(-1, location.size))
            parts.append(weight * jnp.ravel(values))
        return jnp.concatenate(blocks), (jnp.concatenate(parts), None)

    def _rows(self, location: Array, setting: Setting, name: str, x: Array, beside: PyTree) -> tuple[Array, Array]:
        """Return one point's rows of the Jacobian, and its residuals."""
        residual = self.problem.residual(name)

        def at(location: Array) -> Array:
            return residual(unwrap(self.full.program(self.joined(location, setting.noise))), x, beside)

        values, pull = jax.vjp(at, location)
        if values.size == 1:
            return pull(jnp.ones_like(values))[0][None], values
        return jax.vmap(lambda v: pull(v)[0])(jnp.eye(values.size, dtype=values.dtype)), values

    def predictions(self, location: Float[Array, " p"], setting: Setting) -> Float[Array, "n fields"]:
        """Return the fields at the observed points."""
        program = self.full.program(self.joined(location, setting.noise))
        return self.problem.evaluate(program, setting.rows["data"].points)

    def noise_loss(self, noise: Float[Array, " q"], predictions: Float[Array, "n fields"]) -> Float[Array, ""]:
        """Return the negative log-likelihood of the observations."""
        program = unwrap(self.full.program(jnp.asarray(self.full.vector).at[self.noisy].set(noise)))
        return -self.problem.log_likelihood(program, predictions)

    def magnitudes(self, location: Float[Array, " p"], setting: Setting) -> Float[Array, " n"]:
        """Return the size of the equation's residual at each point inside."""
        plain = unwrap(self.full.program(self.joined(location, setting.noise)))
        points, beside = setting.rows["equation"]
        found = jax.vmap(self.problem.residual("equation"), (None, 0, 0))(plain, jnp.asarray(points), beside)
        return jnp.sqrt(jnp.sum(found**2, axis=1))

    def root_mean_squares(self, location: Float[Array, " p"], setting: Setting) -> dict[str, Float[Array, ""]]:
        """Return the root mean square of each group's residuals, without weights."""
        plain = unwrap(self.full.program(self.joined(location, setting.noise)))

        def of(name: str, rows: Rows) -> Array:
            residual: Callable[..., Any] = self.problem.residual(name)
            return jnp.sqrt(jnp.mean(jax.vmap(residual, (None, 0, 0))(plain, rows.points, rows.beside) ** 2))

        return {name: of(name, rows) for name, rows in setting.rows.items()}


def _weight(setting: Setting, name: str) -> Array:
    return setting.weights[name] / np.sqrt(len(setting.rows[name].points))

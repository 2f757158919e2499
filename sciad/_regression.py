"""Statistics of a fitted regression: precision, parameters in natural units, tests of the residuals."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from scipy import stats as st

from sciad._spec import entry_name
from sciad._vector import Vectorized

LOOSE = 1e-7  # a singular value this small, relative to the largest after scaling, is rounding of the solves
SHALLOW = 1e-2  # a curvature of the loss this small: the noise's parameter is unknown by a factor of exp(10)
SEVERAL = 4  # undetermined combinations that are told one by one
SHAPIRO = 5000  # residuals beyond which the p-value of Shapiro and Wilk is not calibrated


def location_covariance(
    jacobian: Float[np.ndarray, "n p"], names: Sequence[str]
) -> tuple[Float[np.ndarray, "p p"], float, list[str]]:
    """Return ``(JᵀJ)⁻¹``, the condition number of J with unit columns, and a warning for each undetermined combination.

    Parameters that take part in such a combination have NaN in their rows and columns.

    Examples
    --------
    >>> covariance, condition, warnings = location_covariance(np.array([[2.0, 0.0], [0.0, 5.0]]), ["a", "b"])
    >>> covariance.diagonal().tolist(), condition, warnings
    ([0.25, 0.04], 1.0, [])
    """
    lengths = np.linalg.norm(jacobian, axis=0)
    lengths = np.where(lengths > 0, lengths, 1.0)
    triangle = np.linalg.qr(jacobian / lengths, mode="r")  # small, with the same singular values and right vectors
    _, values, right = np.linalg.svd(triangle, full_matrices=True)
    values = np.concatenate([values, np.zeros(len(names) - values.size)])
    largest = values.max(initial=0.0)
    loose = values <= LOOSE * largest
    condition = np.inf if loose.any() else float(largest / values.min(initial=largest)) if values.size else 1.0
    inverse = (right[~loose].T / values[~loose] ** 2) @ right[~loose]
    return _open(inverse, right[loose]) / np.outer(lengths, lengths), condition, _undetermined(right[loose], names)


def noise_covariance(
    hessian: Float[np.ndarray, "q q"], names: Sequence[str]
) -> tuple[Float[np.ndarray, "q q"], list[str]]:
    """Return the inverse of the loss's Hessian, NaN where it is not positive, and a warning for each such direction."""
    if not np.all(np.isfinite(hessian)):
        return np.full(hessian.shape, np.nan), []
    values, axes = np.linalg.eigh(hessian)
    loose = values <= SHALLOW
    inverse = (axes[:, ~loose] / values[~loose]) @ axes[:, ~loose].T
    return _open(inverse, axes.T[loose]), _undetermined(axes.T[loose], names)


def _open(covariance: Float[np.ndarray, "p p"], directions: Float[np.ndarray, "k p"]) -> Float[np.ndarray, "p p"]:
    """Put NaN where a parameter takes part in one of the directions."""
    free = np.asarray(np.any(np.abs(directions) > 1e-3, axis=0))
    return np.where(np.logical_or.outer(free, free), np.nan, covariance)


def _undetermined(directions: Float[np.ndarray, "k p"], names: Sequence[str]) -> list[str]:
    warnings = []
    labels = list(names)
    if len(directions) > SEVERAL:
        return [
            f"The data leave {len(directions)} of {len(names)} combinations of the parameters open: fix parameters, "
            "add data, or give priors that count (`fit(priors=True)`)."
        ]
    for direction in directions:
        heaviest = np.argsort(-np.abs(direction), kind="stable")[:4]
        involved = [labels[i] for i in sorted(heaviest.tolist()) if abs(direction[i]) > 0.1]
        which = "one of them" if len(involved) > 1 else "it"
        warnings.append(f"The data do not determine {' and '.join(involved)}: fix {which}, or add data.")
    return warnings


def distance(jacobian: Float[np.ndarray, "n p"], residuals: Float[np.ndarray, " n"]) -> float:
    r"""Return how far the optimum is by linearisation, in standard errors: :math:`\lVert Q^\top r \rVert` with J = QR.

    Source: D. M. Bates and D. G. Watts, *A relative offset orthogonality convergence criterion for nonlinear least
    squares*, Technometrics 23 (1981).
    """
    lengths = np.linalg.norm(jacobian, axis=0)
    left, values, _ = np.linalg.svd(jacobian / np.where(lengths > 0, lengths, 1.0), full_matrices=False)
    return float(np.linalg.norm(left[:, values > LOOSE * values.max(initial=0.0)].T @ residuals))


def natural_covariance(
    slopes: Float[np.ndarray, "k d"], covariance: Float[np.ndarray, "d d"]
) -> Float[np.ndarray, "k k"]:
    """Return ``A C Aᵀ``, with NaN only where a number depends on one whose variance is NaN."""
    unknown = np.isnan(np.diag(covariance))
    carried = slopes @ np.nan_to_num(covariance) @ slopes.T
    lost = np.asarray(np.any(slopes[:, unknown] != 0, axis=1))
    return np.where(np.logical_or.outer(lost, lost), np.nan, carried)


class Natural:
    """The unconstrained vector as scalar parameters in natural units, in the order of `names`."""

    def __init__(self, full: Vectorized, label: Callable[[str], str]) -> None:
        self.names = tuple(
            entry_name(label(path), index, site.axis)
            for path, site in full.sites.items()
            for index in np.ndindex(site.shape)
        )
        self._alone = np.concatenate(
            [np.full(int(np.prod(site.shape)), site.bijection.domain.event_dim == 0) for site in full.sites.values()]
        )

        sizes = [int(np.prod(site.bijection.inverse_shape(site.shape))) for site in full.sites.values()]
        apart = [np.full(n, s.bijection.domain.event_dim == 0) for n, s in zip(sizes, full.sites.values(), strict=True)]
        # Where in the vector a number stands that can be moved alone, as one of a simplex cannot.
        entries = np.flatnonzero(np.concatenate(apart)).tolist()
        self.entries = dict(zip(np.array(self.names)[self._alone].tolist(), entries, strict=True))
        self._full = full

    def at(
        self, vector: Float[Array | np.ndarray, " d"], some: Sequence[int] | None = None
    ) -> tuple[Any, np.ndarray, np.ndarray]:
        """Return the program, its values in natural units, and their Jacobian, or `some` of its rows."""
        program, values, slopes = _natural(self._full, jnp.asarray(vector), None if some is None else tuple(some))
        return program, np.asarray(values), np.asarray(slopes)

    def bounds(
        self, vector: Float[np.ndarray, " d"], covariance: Float[np.ndarray, "d d"], quantile: float
    ) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Return natural limits, `quantile` standard errors apart from the value.

        A number with a bijection of its own is moved in unconstrained space, so that its limits respect its bounds;
        one of a constrained array, as of a simplex, in natural space.
        """
        _, values, slopes = self.at(vector)
        errors = quantile * np.sqrt(np.diag(natural_covariance(slopes, covariance)))
        limits = np.stack([values - errors, values + errors])
        moves = quantile * np.sqrt(np.diag(covariance))
        moved = np.stack([self.at(vector - moves)[1], self.at(vector + moves)[1]])
        limits[:, self._alone] = moved[:, self._alone]
        return limits.min(axis=0), limits.max(axis=0)


@eqx.filter_jit
def _natural(full: Vectorized, vector: Array, some: tuple[int, ...] | None) -> tuple[PyTree, Array, Array]:
    def values(vector: Array) -> tuple[Array, Array]:
        flat = jnp.concatenate([jnp.ravel(value).astype(vector.dtype) for value in full.values(vector).values()])
        return flat, flat

    if some is None:
        slopes, natural = jax.jacfwd(values, has_aux=True)(vector)
        return full.program(vector), natural, slopes
    slopes = jax.jacrev(lambda vector: values(vector)[0][np.array(some, int)])(vector)  # the whole would not fit
    return full.program(vector), values(vector)[0], slopes


def residual_tests(
    fields: Sequence[str], residuals: Float[np.ndarray, "e t f"], scores: Float[np.ndarray, "e t f"]
) -> dict[str, dict[str, float]]:
    """Return, by field, the root mean square of the residuals, and p-values of tests on them.

    ``p_normal`` is by Shapiro and Wilk on the quantile residuals `scores`, which are normal if the noise model is
    right; ``p_independent`` by the runs test of Wald and Wolfowitz in each experiment.
    """
    found = {}
    for i, name in enumerate(fields):
        series = [row[~np.isnan(row)] for row in residuals[..., i]]
        seen, scored = np.concatenate(series), scores[..., i][~np.isnan(residuals[..., i])]
        varied = seen.size >= 3 and np.ptp(scored) > 0
        found[name] = {
            "rms": float(np.sqrt(np.mean(seen**2))) if seen.size else np.nan,
            "p_normal": float(st.shapiro(scored).pvalue) if varied and seen.size <= SHAPIRO else np.nan,
            "p_independent": _runs(series),
        }
    return found


def _runs(series: Sequence[np.ndarray]) -> float:
    """Compare the number of runs of one sign, over all series, with the normal law that it follows by independence.

    A series all of one sign has one run, whatever the order; it counts by the chance of that sign.
    """
    runs, mean, variance, one_sided = 0.0, 0.0, 0.0, 1.0
    for x in series:
        positive = x[x != 0] > 0
        m, n = int(positive.sum()), int((~positive).sum())
        if min(m, n) == 0:
            one_sided = min(one_sided, len(series) * 2.0 ** (1 - positive.size))
            continue
        expected = 1 + 2 * m * n / (m + n)
        runs += 1 + int(np.sum(positive[1:] != positive[:-1]))
        mean += expected
        variance += (expected - 1) * (expected - 2) / (m + n - 1)
    if variance == 0:
        return one_sided if one_sided < 1 else np.nan
    return min(one_sided, float(2 * st.norm.sf(abs(runs - mean) / np.sqrt(variance))))

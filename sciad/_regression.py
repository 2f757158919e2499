"""Statistics of a fitted regression: information, parameters in natural units, tests of the residuals."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import stats as st

from sciad._vector import Vectorized

LOOSE = 1e-7  # a singular value this small, relative to the largest after scaling, is rounding of the solves


def information(
    jacobian: Float[np.ndarray, "n p"], names: Sequence[str]
) -> tuple[Float[np.ndarray, "p p"], float, list[str]]:
    """Return ``(JᵀJ)⁻¹``, the condition number of J with unit columns, and a warning for each undetermined combination."""
    norms = np.linalg.norm(jacobian, axis=0)
    dead = norms == 0
    scaled = jacobian / np.where(dead, 1.0, norms)
    _, values, right = np.linalg.svd(scaled, full_matrices=True)
    values = np.concatenate([values, np.zeros(len(names) - values.size)])
    loose = values <= LOOSE * values.max(initial=0.0)
    warnings = [
        f"The data do not determine {_combination(direction, names)}: fix one of them, or add data or a prior."
        for direction in right[loose]
    ]
    condition = float(values.max(initial=0.0) / values.min(initial=np.inf)) if not loose.any() else np.inf
    inverse = (right[~loose].T / values[~loose] ** 2) @ right[~loose]
    free = (np.abs(right[loose]) > 1e-3).any(axis=0)
    inverse[free, :] = inverse[:, free] = np.nan
    scale = np.where(dead, np.nan, norms)
    return inverse / np.outer(scale, scale), condition, warnings


def _combination(direction: Float[np.ndarray, " p"], names: Sequence[str]) -> str:
    heavy = np.flatnonzero(np.abs(direction) > 0.1 * np.abs(direction).max())
    heavy = heavy[np.argsort(-np.abs(direction[heavy]))][:4]
    return " and ".join(names[i] for i in heavy)


class Natural:
    """The unconstrained vector as scalar parameters in natural units, in the order of `names`."""

    def __init__(self, full: Vectorized, label: Callable[[str], str]) -> None:
        self._full = full
        self.names = tuple(
            label(path) + (f"[{','.join(map(str, index))}]" if index else "")
            for path, site in full.sites.items()
            for index in np.ndindex(site.shape)
        )

    def __call__(self, vector: Float[Array, " d"]) -> Float[Array, " k"]:
        return jnp.concatenate([jnp.ravel(value) for value in self._full.values(vector).values()])

    def bounds(
        self, vector: Float[Array, " d"], deviations: Float[np.ndarray, " d"], quantile: float
    ) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Return natural limits: both ends moved in unconstrained space, each number with its own deviation."""
        low, high = (np.asarray(self(vector + sign * quantile * deviations)) for sign in (-1.0, 1.0))
        return np.minimum(low, high), np.maximum(low, high)


def residual_tests(fields: Sequence[str], residuals: Float[np.ndarray, "e t f"]) -> dict[str, dict[str, float]]:
    """Return, by field, p-values that residuals are normal (Shapiro-Wilk) and free of serial correlation (runs test)."""
    found = {}
    for i, name in enumerate(fields):
        seen = residuals[..., i][~np.isnan(residuals[..., i])]
        varied = seen.size >= 3 and np.ptp(seen) > 0
        found[name] = {
            "rms": float(np.sqrt(np.mean(seen**2))) if seen.size else np.nan,
            "p_normal": float(st.shapiro(seen).pvalue) if varied else np.nan,
            "p_independent": _runs(seen) if varied else np.nan,
        }
    return found


def _runs(x: Float[np.ndarray, " n"]) -> float:
    """Wald-Wolfowitz: the number of runs of one sign against its normal approximation under independence."""
    positive = x > 0
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) == 0:
        return 0.0
    runs = 1 + int(np.sum(positive[1:] != positive[:-1]))
    mean = 1 + 2 * m * n / (m + n)
    variance = (mean - 1) * (mean - 2) / (m + n - 1)
    return float(2 * st.norm.sf(abs(runs - mean) / np.sqrt(variance))) if variance > 0 else np.nan

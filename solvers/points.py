"""Which of many candidate points to take."""

import numpy as np
from jaxtyping import Float, Int


def by_residual(magnitudes: Float[np.ndarray, " n"], number: int, seed: int) -> Int[np.ndarray, " m"]:
    r"""Return indices of so many distinct points, drawn with probabilities :math:`\propto \rho_i / \bar\rho + 1`.

    Half of them by the size of the residual, that is, and half evenly.

    Source: C. Wu et al., *A comprehensive study of non-adaptive and residual-based adaptive sampling for physics-
    informed neural networks*, Comput. Methods Appl. Mech. Eng. 403 (2023), equation 2 with k = c = 1.

    Examples
    --------
    >>> sorted(by_residual(np.array([0.0, 0.0, 0.0, 1e9]), 4, 0).tolist())
    [0, 1, 2, 3]
    """
    mean = magnitudes.mean()
    chances = (magnitudes / mean if mean > 0 else np.zeros_like(magnitudes)) + 1.0
    return np.random.default_rng(seed).choice(magnitudes.size, number, replace=False, p=chances / chances.sum())

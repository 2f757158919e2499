"""Quasi-random designs: points of the unit cube that are spread more evenly than random ones."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.stats import qmc

from sciad._errors import InputError

MOST, RARE = 2**20, 1000  # a domain that keeps fewer than one in a thousand of a million rows is all but empty


def spread(
    place: Callable[[Float[np.ndarray, "m k"]], Float[np.ndarray, "m c"]], numbers: int, wanted: int, seed: int
) -> Float[np.ndarray, "n c"]:
    """Return the first so many rows that `place` makes of a design and that do not begin with NaN.

    The design is a scrambled Sobol sequence of a power of two of points, doubled until enough are kept; since the
    shorter sequence begins the longer one, what is kept does not depend on where it was begun.
    """
    power = (wanted - 1).bit_length()
    while True:
        rows = place(design(numbers, power, seed))
        kept = rows[~np.isnan(rows[:, 0])]
        if len(kept) >= wanted:
            return kept[:wanted]
        if 2**power >= MOST and len(kept) * RARE < 2**power:
            msg = (
                f"{wanted} points were asked for, and {2**power} points of the box around the domain gave {len(kept)}: "
            )
            msg += "the domain is all but empty. Look at its shape, or describe it by smaller parts."
            raise InputError(msg)
        power += 1


def design(numbers: int, power: int, seed: int) -> Float[np.ndarray, "m k"]:
    """Return 2^power rows of so many numbers in [0, 1): a scrambled Sobol sequence."""
    if numbers == 0:
        return np.zeros((2**power, 0))
    return qmc.Sobol(numbers, rng=np.random.default_rng(seed)).random_base2(power)

"""The waterfall: where each descent of a fit ended, the best first."""

from collections.abc import Sequence
from typing import Any

import numpy as np

ALIKE = 0.01  # difference in log-likelihood of one minimum found twice
RIVAL = 2.0  # the same, within which another minimum fits nearly as well


def draw_waterfall(
    axes: Any, losses: Sequence[float], *, best: str = "C0", rest: str = "C1", faint: str = "0.5"
) -> None:
    """Draw the losses above the least, sorted: even up to one, in its logarithm above.

    A flat beginning means that several ways lead to the best answer. Those within the band fit nearly as well.
    """
    sorted_losses = np.sort(np.asarray([loss for loss in losses if np.isfinite(loss)], float))
    above = sorted_losses - sorted_losses.min(initial=np.inf)
    place = np.arange(1, above.size + 1)
    axes.axhspan(0.0, RIVAL, color=faint, alpha=0.14, lw=0)
    axes.plot(place, above, color=faint, lw=0.8)
    same = above < ALIKE
    axes.plot(place[same], above[same], "o", ms=5, color=best)
    axes.plot(place[~same], above[~same], "o", ms=5, mfc="none", mec=rest)
    top = float(above.max(initial=RIVAL))
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set(ylim=(-0.25, 2.0 * top), xlabel="descents, best first", ylabel="loss above the best")
    axes.set_xlim(0.4, max(above.size, 2) + 0.6)
    axes.xaxis.get_major_locator().set_params(integer=True)


def waterfall_words(losses: Sequence[float]) -> str:
    """Say how many descents ended at the best.

    Examples
    --------
    >>> waterfall_words([3.0, 3.001, 9.0, float("inf")])
    '2 of 4 descents ended at the best.'
    >>> waterfall_words([3.0])
    'There was one descent.'
    """
    if len(losses) < 2:
        return "There was one descent." if losses else "No start could be evaluated."
    number = int(np.sum(np.asarray(losses, float) - np.min(losses) < ALIKE))
    return f"{number} of {len(losses)} descents ended at the best."

"""Intervals of the criteria of scores and probabilities: a bootstrap of the rows within each true class.

As many rows of each class are drawn as the test has of it. Limits of means are quantiles of the values of the
resamples. Those of areas, which are near 1 and skewed, are normal on the scale of log(a / (1 - a)), with the deviation
of the resamples (M. Pepe, "The statistical evaluation of medical tests for classification and prediction", 2003). An
area of exactly 1 has none: no resample has a pair in the wrong order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from rcdp_hpc.model.criteria.base import Floats, Labels
from rcdp_hpc.model.criteria.bootstrap import FEWEST_RESAMPLES, resamples_within
from rcdp_hpc.model.intervals import Z_95

RESAMPLES = 1000
# Numbers (rows x columns x resamples) that a bootstrap may go through: some 10 seconds of one core.
MOST_NUMBERS = 200_000_000
# Numbers of a block of resamples.
BLOCK_NUMBERS = 1_000_000


def row_resamples(numbers: int) -> int:
    """Return the number of resamples of this many numbers: 200 to 1000; 0 if not even 200 are affordable."""
    if numbers * FEWEST_RESAMPLES > MOST_NUMBERS:
        return 0
    return resamples_within(MOST_NUMBERS, numbers, RESAMPLES)


def logit_interval(value: Floats, deviation: Floats) -> Floats:
    """Return the 95 % intervals of areas, shape (2, ...); NaN without a deviation, or for areas of 0 and 1.

    Parameters
    ----------
    value, deviation : ndarray of float
        Areas, and their standard deviations.
    """
    inside = (value > 0) & (value < 1) & (deviation > 0)
    safe = np.where(inside, value, 0.5)
    reach = Z_95 * deviation / (safe * (1 - safe))
    limits = np.stack([expit(logit(safe) - reach), expit(logit(safe) + reach)])
    return np.where(inside, limits, np.nan)


def bootstrap_rows(
    labels: Labels, statistic: Callable[[NDArray[np.int32]], Floats], resamples: int, seed: int = 0
) -> Floats:
    """Return a statistic of resamples of rows.

    Parameters
    ----------
    labels : ndarray of int, shape (rows,)
        True class numbers.
    statistic : callable
        Returns the values of weights of shape (rows, block), how often each row was drawn, as (..., block).
    resamples : int
    seed : int

    Returns
    -------
    ndarray, shape (..., resamples)
    """
    return np.concatenate([statistic(weights) for weights in multiplicities(labels, resamples, seed)], -1)


def multiplicities(labels: Labels, resamples: int, seed: int = 0) -> Iterator[NDArray[np.int32]]:
    """Yield blocks of resamples: how often each row was drawn, shape (rows, block)."""
    generator = np.random.default_rng(seed)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    block = max(1, BLOCK_NUMBERS // max(1, len(labels)))
    for first in range(0, resamples, block):
        count = min(block, resamples - first)
        drawn = np.empty((count, len(labels)), np.int64)
        for start, end in zip(starts, ends, strict=True):
            drawn[:, start:end] = generator.integers(start, end, (count, end - start))
        cells = order[drawn] * count + np.arange(count)[:, None]
        counts = np.bincount(cells.ravel(), minlength=count * len(labels))
        yield counts.astype(np.int32).reshape(len(labels), count)

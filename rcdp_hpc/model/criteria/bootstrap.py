"""Intervals of the criteria of a confusion matrix: a smoothed bootstrap within each true class.

The samples of each class are drawn again, as many as the test has of it, so that the class proportions of the test
stay as they are (B. Efron & R. Tibshirani, "An introduction to the bootstrap", 1993, chapters 8 and 13). Two additions
keep intervals honest for classes with few samples:

- Smoothing. A class of 5 samples that are all recognised would be drawn without an error for ever. The shares of a
  class are therefore (n_kj + a_kj) / (n_k + 1), with a_kk = 1/2, and 1/2 divided among other classes: the prior of
  H. Jeffreys for a share (L. Brown, T. Cai & A. DasGupta, "Interval estimation for a binomial proportion", Statistical
  Science 16 (2001)).
- Centring. Smoothing moves the shares towards 1/2, by little in each class, but together in a mean over many. The
  quantiles are moved back by the difference between the criterion of the test and that of the smoothed shares.

``benchmarks/interval_coverage.py`` measures how often such intervals cover the true value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.model.criteria.base import Floats
from rcdp_hpc.model.criteria.confusion import Counts

LEVEL = 0.95
RESAMPLES = 2000
FEWEST_RESAMPLES = 200
# Cells of matrices that are drawn in all: some seconds of one core.
MOST_DRAWS = 20_000_000
# The wrong half of the smoothing is divided among at most this number of classes, the next ones.
SMOOTHED_CLASSES = 20
Interval = tuple[float, float]


@dataclass(frozen=True)
class Resampled:
    """Confusion matrices drawn from the smoothed shares of one.

    Attributes
    ----------
    drawn : Counts, shape (resamples, classes)
    centre : Counts, shape (classes,)
        Of the smoothed shares themselves.
    """

    drawn: Counts
    centre: Counts

    def interval(self, measure: Callable[[Counts], Floats], observed: Counts, lowest: float = 0.0) -> Any:
        """Return the 95 % interval of a measure.

        Parameters
        ----------
        measure : callable
            Returns the values of counts, shape (...) for a criterion, (..., classes) for a score of each class.
        observed : Counts, shape (classes,)
            Of the test.
        lowest : float
            Least value of the measure; the largest is 1.

        Returns
        -------
        ndarray, shape (2,) or (2, classes)
            NaN where the measure is undefined.
        """
        moved = measure(observed) - measure(self.centre)
        return np.clip(quantiles(measure(self.drawn)) + moved, lowest, 1.0)


def resample(confusion: NDArray[Any], seed: int = 0, resamples: int | None = None) -> Resampled:
    """Draw confusion matrices.

    Parameters
    ----------
    confusion : ndarray of int, shape (classes, classes)
        Rows are true classes.
    seed : int
    resamples : int, optional
        Default: 2000, but for matrices with many cells fewer, and at least 200.
    """
    shares = [_smoothed(confusion[label], label) for label in range(len(confusion))]
    if resamples is None:
        resamples = resamples_within(MOST_DRAWS, sum(len(cells) for cells, _ in shares), RESAMPLES)
    generator = np.random.default_rng(seed)
    true = confusion.sum(1).astype(np.float64)
    hits, predicted = np.zeros((2, resamples, len(confusion)))
    hits_of_centre, predicted_of_centre = np.zeros((2, len(confusion)))
    for label in np.flatnonzero(true):
        cells, probabilities = shares[label]
        drawn = generator.multinomial(int(true[label]), probabilities, size=resamples)
        predicted[:, cells] += drawn
        hits[:, label] = drawn[:, cells == label][:, 0]
        predicted_of_centre[cells] += true[label] * probabilities
        hits_of_centre[label] = true[label] * probabilities[cells == label][0]
    drawn_true = np.broadcast_to(true, hits.shape)
    return Resampled(Counts(hits, drawn_true, predicted), Counts(hits_of_centre, true, predicted_of_centre))


def _smoothed(row: NDArray[Any], label: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the classes that samples of a class may be predicted as, and the smoothed shares of them."""
    classes = len(row)
    others = (label + 1 + np.arange(min(SMOOTHED_CLASSES, classes - 1))) % classes
    prior = np.zeros(classes)
    prior[others] = 0.5 / max(1, len(others))
    prior[label] = 0.5 if len(others) else 1.0
    cells = np.flatnonzero((row > 0) | (prior > 0))
    shares = row[cells] + prior[cells]
    return cells, shares / shares.sum()


def resamples_within(budget: int, size: int, most: int) -> int:
    """Return how many resamples of a size a budget allows: at most `most`, and no fewer than `FEWEST_RESAMPLES`."""
    return int(min(most, max(FEWEST_RESAMPLES, budget // max(1, size))))


def quantiles(values: Floats) -> Any:
    """Return the limits of the middle 95 % of resamples, shape (2, ...) for values of shape (resamples, ...).

    Resamples in which a value is undefined do not count for it.
    """
    tail = (1 - LEVEL) / 2
    if not np.isnan(values).any():
        return np.quantile(values, [tail, 1 - tail], axis=0)
    defined = ~np.isnan(values).all(axis=0)
    limits = np.full((2, *values.shape[1:]), np.nan)
    if defined.any():
        limits[:, defined] = np.nanquantile(values[:, defined], [tail, 1 - tail], axis=0)
    return limits

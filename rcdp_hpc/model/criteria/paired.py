"""Two classifiers on the same samples: the exact test of McNemar, and intervals of the differences of criteria."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.model.criteria import all_criteria
from rcdp_hpc.model.criteria.base import Floats, Labels
from rcdp_hpc.model.criteria.bootstrap import MOST_DRAWS, RESAMPLES, Interval, quantiles, resamples_within
from rcdp_hpc.model.criteria.confusion import ConfusionCriterion, Counts

# Samples that are added to each class for each of the four cases: recognised by both, one, the other, none.
SMOOTHING = 0.5


@dataclass(frozen=True)
class Difference:
    """The difference of a criterion: first minus other.

    Attributes
    ----------
    value : float
        NaN if the criterion is undefined.
    interval : tuple of float
        Its 95 % interval.
    """

    value: float
    interval: Interval


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same samples.

    Attributes
    ----------
    only_first, only_other : int
        Samples that only the first, or only the other classifier recognises.
    p : float
        Of the two-sided exact test of McNemar: of the samples that one of them recognises, each should have half.
    differences : dict of str to Difference
        By the name of the criterion.
    resamples : int
    """

    only_first: int
    only_other: int
    p: float
    differences: dict[str, Difference]
    resamples: int


def confusion_criteria(classes: Sequence[str]) -> list[ConfusionCriterion]:
    """Return the criteria of the table that need predicted classes only."""
    return [one for one in all_criteria(classes) if isinstance(one, ConfusionCriterion)]


def compare_predictions(
    labels: Labels, first: Labels, other: Labels, classes: Sequence[str], seed: int = 0, resamples: int | None = None
) -> Paired:
    """Compare the predictions of two classifiers for the same samples.

    Intervals are quantiles of a bootstrap that draws pairs of predictions within each true class. Half a sample of each
    of the four cases (recognised by both, by one, by the other, by none) is added to each class, so that classes of a
    few samples have no interval without width, and the quantiles are moved back by what that changes (A. Agresti & Y.
    Min, "Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine 24 (2005)).

    Parameters
    ----------
    labels, first, other : ndarray of int, shape (rows,)
        True class numbers, and those that each classifier predicts.
    classes : sequence of str
        Class names.
    seed : int
    resamples : int, optional
        Default: 2000, but for many samples and classes fewer, and at least 200.
    """
    only_first = int(((first == labels) & (other != labels)).sum())
    only_other = int(((other == labels) & (first != labels)).sum())
    drawn = drawn_pairs(labels, first, other, len(classes), seed, resamples)
    observed = [Counts.of_rows(labels, predicted, len(classes)) for predicted in (first, other)]
    differences = {one.name: drawn.difference(one, observed) for one in confusion_criteria(classes)}
    return Paired(only_first, only_other, mcnemar_p(only_first, only_other), differences, len(drawn.drawn[0].hits))


def mcnemar_p(only_first: int, only_other: int) -> float:
    """Return the two-sided p value of the exact test of McNemar; 1 if both recognise the same samples.

    References
    ----------
    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947); exact form: a sign test with the binomial distribution.
    """
    if only_first + only_other == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_other).pvalue)


@dataclass(frozen=True)
class PairedDraws:
    """Both classifiers in resamples of the samples of each class.

    Attributes
    ----------
    drawn : tuple of Counts
        Of the first and the other classifier, shape (resamples, classes).
    centre : tuple of Counts
        Of the shares that are drawn, shape (classes,).
    """

    drawn: tuple[Counts, Counts]
    centre: tuple[Counts, Counts]

    def interval(self, measure: Callable[[Counts], Floats], observed: Sequence[Counts]) -> Interval:
        """Return the 95 % interval of a measure of the first classifier minus that of the other.

        Parameters
        ----------
        measure : callable
            Returns the values of counts, shape (...).
        observed : sequence of Counts, shape (classes,)
            Of both classifiers on the samples themselves.
        """
        value, centre = (measure(first) - measure(other) for first, other in (observed, self.centre))
        low, high = quantiles(measure(self.drawn[0]) - measure(self.drawn[1])) + (value - centre)
        return float(low), float(high)

    def difference(self, one: ConfusionCriterion, observed: Sequence[Counts]) -> Difference:
        """Return the difference of a criterion and its interval."""
        low, high = self.interval(one.of_counts, observed)
        widest = 1 - one.lowest
        value = one.of_counts(observed[0]) - one.of_counts(observed[1])
        return Difference(float(value), (max(low, -widest), min(high, widest)))


def drawn_pairs(
    labels: Labels, first: Labels, other: Labels, classes: int, seed: int, resamples: int | None = None
) -> PairedDraws:
    """Draw the samples of each class again, both predictions together; parameters as of `compare_predictions`."""
    pairs = first.astype(np.int64) * classes + other
    kinds = {label: _smoothed(pairs[labels == label], label, classes) for label in np.unique(labels).tolist()}
    if resamples is None:
        resamples = resamples_within(MOST_DRAWS, sum(len(pair) for pair, _ in kinds.values()), RESAMPLES)
    generator = np.random.default_rng(seed)
    # The last row has the expected counts of the shares.
    hits, true, predicted = np.zeros((3, 2, resamples + 1, classes))
    for label, (pair, shares) in kinds.items():
        count = int((labels == label).sum())
        drawn = np.vstack([generator.multinomial(count, shares, size=resamples), count * shares])
        true[:, :, label] = count
        for which, answers in enumerate((pair // classes, pair % classes)):
            _add_columns(predicted[which], answers, drawn)
            hits[which, :, label] = drawn[:, answers == label].sum(1)
    parts = [
        tuple(Counts(hits[which, rows], true[which, rows], predicted[which, rows]) for which in (0, 1))
        for rows in (slice(-1), -1)
    ]
    return PairedDraws(*parts)  # type: ignore[arg-type]


def _smoothed(pairs: NDArray[np.int64], label: int, classes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs of answers to samples of a class, and the smoothed shares of them."""
    wrong = (label + 1) % classes
    added = [one * classes + two for one in (label, wrong) for two in (label, wrong)]
    cells, place = np.unique(np.concatenate([pairs, added]), return_inverse=True)
    counts = np.bincount(place, np.repeat([1.0, SMOOTHING], [len(pairs), len(added)]), len(cells))
    return cells, counts / counts.sum()


def _add_columns(total: NDArray[Any], columns: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Add columns of values, shape (resamples, n), to those columns of a total that are named, some more than once."""
    for column in np.unique(columns).tolist():
        total[:, column] += values[:, columns == column].sum(1)

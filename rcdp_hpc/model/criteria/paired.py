"""Two classifiers on the same samples: the exact test of McNemar, and intervals of the differences of criteria."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.model.criteria import all_criteria
from rcdp_hpc.model.criteria.base import Labels
from rcdp_hpc.model.criteria.bootstrap import MOST_DRAWS, RESAMPLES, Interval, quantiles, resamples_within
from rcdp_hpc.model.criteria.confusion import ConfusionCriterion, Counts


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

    Intervals are quantiles of a bootstrap that draws pairs of predictions within each true class.

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
    drawn = _drawn_pairs(labels, first, other, len(classes), seed, resamples)
    observed = [Counts.of_rows(labels, predicted, len(classes)) for predicted in (first, other)]
    differences = {one.name: _difference(one, observed, drawn) for one in confusion_criteria(classes)}
    return Paired(only_first, only_other, mcnemar_p(only_first, only_other), differences, len(drawn[0].hits))


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


def _difference(one: ConfusionCriterion, observed: Sequence[Counts], drawn: Sequence[Counts]) -> Difference:
    value = one.of_counts(observed[0]) - one.of_counts(observed[1])
    low, high = quantiles(one.of_counts(drawn[0]) - one.of_counts(drawn[1]))
    return Difference(float(value), (float(low), float(high)))


def _drawn_pairs(
    labels: Labels, first: Labels, other: Labels, classes: int, seed: int, resamples: int | None
) -> tuple[Counts, Counts]:
    """Return the counts of both classifiers in resamples of the samples of each class, shape (resamples, classes)."""
    pairs = first.astype(np.int64) * classes + other
    kinds = [(label, *np.unique(pairs[labels == label], return_counts=True)) for label in np.unique(labels).tolist()]
    if resamples is None:
        resamples = resamples_within(MOST_DRAWS, sum(len(pair) for _, pair, _ in kinds), RESAMPLES)
    generator = np.random.default_rng(seed)
    hits, true, predicted = np.zeros((3, 2, resamples, classes))
    for label, pair, counts in kinds:
        drawn = generator.multinomial(int(counts.sum()), counts / counts.sum(), size=resamples)
        true[:, :, label] = counts.sum()
        for which, answers in enumerate((pair // classes, pair % classes)):
            _add_columns(predicted[which], answers, drawn)
            hits[which, :, label] = drawn[:, answers == label].sum(1)
    one, two = (Counts(hits[which], true[which], predicted[which]) for which in (0, 1))
    return one, two


def _add_columns(total: NDArray[Any], columns: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Add columns of values, shape (resamples, n), to those columns of a total that are named, some more than once."""
    for column in np.unique(columns).tolist():
        total[:, column] += values[:, columns == column].sum(1)

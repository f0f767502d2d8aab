"""Values and 95 % intervals of all criteria for the rows of a test, overall and of each class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.model.criteria import all_criteria
from rcdp_hpc.model.criteria.base import Criterion, Floats, Labels, mean_of_defined, ratio
from rcdp_hpc.model.criteria.bootstrap import Interval, quantiles, resample
from rcdp_hpc.model.criteria.confusion import ConfusionCriterion, Counts
from rcdp_hpc.model.criteria.probabilities import BrierScore, LogLoss, expected_calibration_error, weighted_mean
from rcdp_hpc.model.criteria.ranking import RankedClass, average_precision, roc_area
from rcdp_hpc.model.criteria.row_bootstrap import bootstrap_rows, logit_interval, row_resamples
from rcdp_hpc.model.intervals import wilson
from rcdp_hpc.model.metrics import confusion_matrix

NO_MISTAKE = "no resample has samples in the wrong order"
SINGLE_SAMPLE = "a class has one sample only, of which no resample differs"
TOO_MANY_ROWS = "there are too many rows for a bootstrap"
# Scores of each class that are areas, by their name here and that of their mean in the table.
AREAS = {"pr_auc": ("macro_pr_auc", average_precision), "roc_auc": ("macro_roc_auc", roc_area)}


@dataclass
class Measured:
    """Values and intervals of some criteria.

    Attributes
    ----------
    values : dict of str to float
        By the names of the table of criteria; NaN if undefined.
    intervals : dict of str to tuple of float
        Limits of 95 % intervals; missing if there is none.
    undefined : dict of str to str
        Why a criterion has no value, in words.
    without_interval : dict of str to str
        Why a criterion has a value and no interval.
    class_values : dict of str to ndarray, shape (classes,)
        Scores of each class; NaN if undefined.
    class_intervals : dict of str to ndarray, shape (2, classes)
    resamples : dict of str to int
        Of the bootstrap, by the kind of criteria.
    """

    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    without_interval: dict[str, str] = field(default_factory=dict)
    class_values: dict[str, Floats] = field(default_factory=dict)
    class_intervals: dict[str, Floats] = field(default_factory=dict)
    resamples: dict[str, int] = field(default_factory=dict)

    def joined(self, other: Measured) -> Measured:
        """Return both together."""
        return Measured(**{name: {**value, **getattr(other, name)} for name, value in vars(self).items()})

    def add(self, name: str, value: float, interval: Any) -> None:
        """Add a criterion; an interval of NaN is none."""
        self.values[name] = float(value)
        low, high = (float(limit) for limit in interval)
        if np.isfinite((value, low, high)).all():
            self.intervals[name] = low, high


def measure_confusion(confusion: NDArray[np.int64], classes: Sequence[str], seed: int = 0) -> Measured:
    """Measure the criteria of a confusion matrix, and precision, recall and F1 of each class.

    Intervals of accuracy, precision and recall are Wilson's, those of the others from `bootstrap.resample`. A class
    without samples has no recall and no F1, also if it is predicted.

    Parameters
    ----------
    confusion : ndarray, shape (classes, classes)
        Rows are true classes.
    classes : sequence of str
    seed : int
    """
    found, counts, drawn = Measured(), Counts.of_matrix(confusion), resample(confusion, seed)
    present = np.flatnonzero(counts.true > 0)
    for one in all_criteria(classes):
        if isinstance(one, ConfusionCriterion):
            found.add(one.name, float(one.of_counts(counts)), drawn.interval(one.of_counts, counts, one.lowest))
            _explain(found, one, present)
    if "accuracy" in found.intervals:
        found.intervals["accuracy"] = wilson(int(counts.hits.sum()), int(counts.total))
    found.class_values = {"precision": counts.precision, "recall": counts.recall, "f1": _of_present(counts)}
    found.class_intervals = {
        "precision": _wilson_of_each(counts.hits, counts.predicted),
        "recall": _wilson_of_each(counts.hits, counts.true),
        "f1": drawn.interval(_of_present, counts),
    }
    found.resamples = {"confusion": len(drawn.drawn.hits)}
    return found


def _explain(found: Measured, one: Criterion, present: Labels) -> None:
    """Record why a criterion is undefined if the samples are of these classes."""
    reason = one.undefined(present, one.classes)
    if reason is None and np.isnan(found.values[one.name]):
        reason = "it is not defined for these predictions"
    if reason is not None:
        found.undefined[one.name] = reason


def _of_present(counts: Counts) -> Floats:
    """Return the F1 score of each class with samples; NaN for others."""
    return np.where(counts.true > 0, counts.f1, np.nan)


def _wilson_of_each(successes: Floats, trials: Floats) -> Floats:
    limits = [wilson(int(hits), int(count)) for hits, count in zip(successes, trials, strict=True)]
    return np.array(limits).reshape(-1, 2).T


@dataclass(frozen=True)
class RowNumbers:
    """What the criteria of probabilities use of each row.

    Attributes
    ----------
    log_loss, brier : ndarray of float64, shape (rows,)
        Contribution of each row.
    confidence : ndarray of float64, shape (rows,)
        Largest probability.
    right : ndarray of bool, shape (rows,)
        Whether the class of that probability is the true one.
    """

    log_loss: Floats
    brier: Floats
    confidence: Floats
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, labels: Labels, probabilities: Floats) -> RowNumbers:
        """Return the numbers of rows with probabilities of shape (rows, classes)."""
        return cls(
            LogLoss.per_row(labels, probabilities),
            BrierScore.per_row(labels, probabilities),
            probabilities.max(1).astype(np.float64),
            probabilities.argmax(1) == labels,
        )

    @classmethod
    def of_columns(cls, columns: Floats) -> RowNumbers:
        """Return the numbers of an array of shape (rows, 4)."""
        return cls(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3] > 0)

    def columns(self) -> NDArray[np.float64]:
        """Return an array of shape (rows, 4), for the messages between ranks."""
        return np.column_stack([self.log_loss, self.brier, self.confidence, self.right]).astype(np.float64)

    def statistics(self) -> dict[str, Callable[[NDArray[Any] | None], Floats]]:
        """Return each criterion as a function of how often rows count, None or shape (rows, ...)."""
        return {
            "log_loss": lambda weights: weighted_mean(self.log_loss, weights),
            "brier": lambda weights: weighted_mean(self.brier, weights),
            "ece": lambda weights: expected_calibration_error(self.confidence, self.right, weights),
        }


def measure_probabilities(labels: Labels, rows: RowNumbers, classes: Sequence[str], seed: int = 0) -> Measured:
    """Measure the criteria of probabilities; `labels` are class numbers, shape (rows,)."""
    found, statistics = Measured(), rows.statistics()
    resamples = row_resamples(len(labels)) if len(labels) else 0
    drawn = np.full((len(statistics), 1), np.nan)
    if resamples:
        drawn = bootstrap_rows(labels, lambda weights: np.stack([one(weights) for one in statistics.values()]),
                               resamples, seed)  # fmt: skip
    by_name = {one.name: one for one in all_criteria(classes)}
    for (name, statistic), values in zip(statistics.items(), drawn, strict=True):
        found.add(name, float(statistic(None)), quantiles(values))
        _explain(found, by_name[name], labels)
    _count_resamples(found, "probabilities", resamples)
    return found


class RankingScores:
    """Areas under the curves of each class against the rest, from scores that are read class by class.

    Parameters
    ----------
    labels : ndarray of int, shape (rows,)
        True class numbers.
    classes : sequence of str
    """

    def __init__(self, labels: Labels, classes: Sequence[str]) -> None:
        self._labels = labels
        self._classes = list(classes)
        self._areas = np.full((len(AREAS), len(classes)), np.nan)
        self._resamples = row_resamples(len(labels) * len(classes)) if len(labels) else 0
        # What a bootstrap needs of each class; without one, no class is kept.
        self._ranked: dict[int, RankedClass] = {}

    def add(self, label: int, scores: Floats) -> None:
        """Add the scores of a class, shape (rows,)."""
        positive = self._labels == label
        if positive.any():
            ranked = RankedClass.of(scores, positive)
            self._areas[:, label] = _areas(ranked)
            if self._resamples:
                self._ranked[label] = ranked

    def measured(self, seed: int = 0) -> Measured:
        """Return the areas and their intervals; all classes must have been added."""
        drawn = np.full((*self._areas.shape, 1), np.nan)
        if self._resamples:
            drawn = bootstrap_rows(self._labels, self._areas_of_resamples, self._resamples, seed)
        return _measured_areas(self._labels, self._areas, drawn, self._resamples, self._classes)

    def _areas_of_resamples(self, weights: NDArray[Any]) -> Floats:
        """Return the areas of all classes, shape (2, classes, block); NaN for those without samples."""
        areas = np.full((*self._areas.shape, weights.shape[1]), np.nan)
        for label, ranked in self._ranked.items():
            areas[:, label] = _areas(ranked, weights)
        return areas


def _areas(ranked: RankedClass, weights: NDArray[Any] | None = None) -> Floats:
    """Return the areas of a class, shape (2, ...)."""
    ranks = ranked.ranks(weights)
    return np.stack([area(ranks) for _, area in AREAS.values()])


def _measured_areas(labels: Labels, areas: Floats, drawn: Floats, resamples: int, classes: Sequence[str]) -> Measured:
    """Return areas, shape (2, classes), and their intervals from resamples, shape (2, classes, resamples)."""
    found, by_name = Measured(), {one.name: one for one in all_criteria(classes)}
    # A bootstrap of n samples has a variance that is smaller by (n - 1) / n.
    counts = np.bincount(labels, minlength=len(classes))
    single = bool((counts == 1).any())
    corrected = drawn.var(-1) * np.where(counts > 1, counts / np.maximum(counts - 1, 1), np.nan)
    for (of_class, (name, _)), values, resampled, variances in zip(AREAS.items(), areas, drawn, corrected, strict=True):
        mean = mean_of_defined(values)
        correction = ratio(np.nansum(variances), np.nansum(resampled.var(-1)))
        deviation = np.sqrt(mean_of_defined(resampled.T).var() * (np.nan if single else correction))
        found.add(name, float(mean), logit_interval(mean, deviation))
        found.class_values[of_class] = values
        found.class_intervals[of_class] = logit_interval(values, np.sqrt(variances))
        _explain(found, by_name[name], labels)
        if resamples and name not in found.intervals and name not in found.undefined:
            found.without_interval[name] = SINGLE_SAMPLE if single else NO_MISTAKE
    _count_resamples(found, "ranking", resamples)
    return found


def _count_resamples(found: Measured, kind: str, resamples: int) -> None:
    found.resamples[kind] = resamples
    if not resamples:
        found.without_interval |= {name: TOO_MANY_ROWS for name in found.values if name not in found.undefined}


def measure(
    labels: Labels, predicted: Labels, probabilities: Floats, classes: Sequence[str], seed: int = 0
) -> Measured:
    """Measure all criteria of rows in memory.

    Parameters
    ----------
    labels, predicted : ndarray of int, shape (rows,)
        True and predicted class numbers.
    probabilities : ndarray of float, shape (rows, classes)
    classes : sequence of str
        Class names.
    seed : int
        Of the bootstrap.
    """
    found = measure_confusion(confusion_matrix(labels, predicted, len(classes)), classes, seed)
    ranking = RankingScores(labels, classes)
    for label, column in enumerate(probabilities.T):
        ranking.add(label, column)
    rows = measure_probabilities(labels, RowNumbers.of(labels, probabilities), classes, seed)
    return found.joined(ranking.measured(seed)).joined(rows)

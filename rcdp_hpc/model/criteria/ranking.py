"""Criteria of the order of scores: areas under curves of one class against the rest.

Of a class, P samples are of it and N are not. Over the thresholds s_1 > s_2 > ... that occur as scores, TP_i and FP_i
count the samples of the class, and the others, with a score of at least s_i:

- average precision, the area under the precision-recall curve as steps: sum_i (TP_i - TP_(i-1)) / P * TP_i / (TP_i +
  FP_i) (`average_precision_score` of scikit-learn; J. Davis & M. Goadrich, "The relationship between precision-recall
  and ROC curves", ICML 2006, on why it is not interpolated);
- area under the ROC curve by trapezoids: sum_i (FP_i - FP_(i-1)) (TP_i + TP_(i-1)) / (2 P N), the share of pairs in
  which the sample of the class has the larger score, ties counting half (`roc_auc_score`; J. Hanley & B. McNeil, "The
  meaning and use of the area under a receiver operating characteristic (ROC) curve", Radiology 143 (1982)).

The macro averages are over the classes with samples. Both are defined for two classes: each of them is ranked by its
own score. With probabilities the two areas under the ROC curve are then the same; the two average precisions are not.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.model.criteria.base import Criterion, Floats, Labels, mean_of_defined, ratio, required


@dataclass(frozen=True)
class Ranks:
    """How many samples have larger scores than each sample of a class.

    Attributes
    ----------
    weights : ndarray of float64, shape (samples of the class, ...)
        How often each of them counts.
    true, false : ndarray of float64, of the same shape
        TP and FP at the score of each of them.
    false_before : ndarray of float64, of the same shape
        FP without the samples of the same score.
    negatives : ndarray of float64, shape (...)
        All samples of other classes.
    """

    weights: Floats
    true: Floats
    false: Floats
    false_before: Floats
    negatives: Floats


@dataclass(frozen=True)
class RankedClass:
    """Rows in the order of the scores of one class, the largest first.

    Attributes
    ----------
    order : ndarray of int, shape (rows,)
        Row numbers in that order.
    places : ndarray of int, shape (samples of the class,)
        Where they are in that order.
    before, until : ndarray of int, of the same shape
        Rows with a larger score than each of them; rows with at least its score.
    true_before, true_until : ndarray of int, of the same shape
        Those of them that are of the class.
    """

    order: NDArray[np.intp]
    places: NDArray[np.intp]
    before: NDArray[np.intp]
    until: NDArray[np.intp]
    true_before: NDArray[np.intp]
    true_until: NDArray[np.intp]

    @classmethod
    def of(cls, scores: Floats, positive: NDArray[np.bool_]) -> RankedClass:
        """Sort rows.

        Parameters
        ----------
        scores : ndarray of float, shape (rows,)
            Scores of the class.
        positive : ndarray of bool, shape (rows,)
            Whether each row is of the class.
        """
        falling = -np.ascontiguousarray(scores)
        # Ties in any order: only how many rows there are before and after a score counts.
        order = np.argsort(falling)
        falling, ranked = falling[order], positive[order]
        places = np.flatnonzero(ranked)
        of_class = falling[places]
        before, until = (np.searchsorted(falling, of_class, side) for side in ("left", "right"))
        true_before, true_until = (np.searchsorted(of_class, of_class, side) for side in ("left", "right"))
        return cls(order, places, before, until, true_before, true_until)

    def ranks(self, weights: NDArray[Any] | None = None) -> Ranks:
        """Return the ranks if rows count as often as weights of shape (rows, ...) say; None: each once."""
        if weights is None:
            weights = np.ones(len(self.order), np.int32)
        ranked = weights[self.order]
        of_class = ranked[self.places]
        rows, true_rows = _sums(ranked), _sums(of_class)
        true, true_before = true_rows[self.true_until], true_rows[self.true_before]
        false, false_before = rows[self.until] - true, rows[self.before] - true_before
        counts = (of_class, true, false, false_before, rows[-1] - true_rows[-1])
        return Ranks(*(np.asarray(one, np.float64) for one in counts))


def _sums(values: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of the first 0, 1, 2, ... values along the first axis."""
    sums = np.zeros((len(values) + 1, *values.shape[1:]), values.dtype)
    np.cumsum(values, 0, dtype=values.dtype, out=sums[1:])
    return sums


def average_precision(ranks: Ranks) -> Floats:
    """Return the average precision, shape (...); NaN without samples of the class, or of others."""
    found = ranks.true + ranks.false
    precision = np.divide(ranks.true, found, out=np.zeros_like(found), where=found > 0)
    area = ratio((ranks.weights * precision).sum(0), ranks.weights.sum(0))
    return np.where(ranks.negatives > 0, area, np.nan)


def roc_area(ranks: Ranks) -> Floats:
    """Return the area under the ROC curve, shape (...); NaN without samples of the class, or of others."""
    below = ranks.negatives - (ranks.false + ranks.false_before) / 2
    return ratio((ranks.weights * below).sum(0), ranks.weights.sum(0) * ranks.negatives)


class RankingCriterion(Criterion):
    """Mean over the classes of an area under a curve of each against the rest."""

    needs = "scores"
    needs_two_classes = True

    @staticmethod
    @abstractmethod
    def area(ranks: Ranks) -> Floats:
        """Return the area of a class, shape (...)."""

    def value(
        self, labels: Labels, predicted: Labels, scores: Floats | None = None, weights: Floats | None = None
    ) -> float:
        """Return the value; NaN if it is undefined."""
        return float(mean_of_defined(self.per_class(labels, required(scores, self.name), weights)))

    def per_class(self, labels: Labels, scores: Floats, weights: Floats | None = None) -> Floats:
        """Return the area of each class, shape (classes,); NaN for a class without samples, or with all of them."""
        areas = np.full(len(self.classes), np.nan)
        for label in np.unique(labels):
            ranked = RankedClass.of(scores[:, label], labels == label)
            areas[label] = self.area(ranked.ranks(weights))
        return areas


class MacroPRAUC(RankingCriterion):
    """Mean average precision."""

    area = staticmethod(average_precision)


class MacroROCAUC(RankingCriterion):
    """Mean area under the ROC curve."""

    area = staticmethod(roc_area)

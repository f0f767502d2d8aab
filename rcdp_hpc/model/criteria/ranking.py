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
class RankedClass:
    """Rows in the order of the scores of one class, the largest first.

    Attributes
    ----------
    order : ndarray of int, shape (rows,)
        Row numbers in that order.
    positive : ndarray of bool, shape (rows,)
        Whether each row in that order is of the class.
    ends : ndarray of int, shape (thresholds,)
        The last place of each score that occurs.
    """

    order: NDArray[np.intp]
    positive: NDArray[np.bool_]
    ends: NDArray[np.intp]

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
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        last = np.ones(len(ranked), bool)
        last[:-1] = ranked[:-1] != ranked[1:]
        return cls(order, positive[order], np.flatnonzero(last))

    def counts(self, weights: NDArray[Any] | None = None) -> tuple[Floats, Floats]:
        """Return TP and FP at each threshold, shape (..., thresholds), for weights of shape (..., rows)."""
        ranked = np.ones(len(self.order)) if weights is None else weights[..., self.order].astype(np.float64)
        of_class = np.where(self.positive, ranked, 0.0)
        return tuple(np.cumsum(part, -1)[..., self.ends] for part in (of_class, ranked - of_class))  # type: ignore[return-value]


def average_precision(true: Floats, false: Floats) -> Floats:
    """Return the average precision from counts TP and FP of shape (..., thresholds); NaN without both kinds."""
    gained = np.diff(true, prepend=0, axis=-1)
    area = (gained * np.nan_to_num(ratio(true, true + false))).sum(-1)
    return np.where(false[..., -1] > 0, ratio(area, true[..., -1]), np.nan)


def roc_area(true: Floats, false: Floats) -> Floats:
    """Return the area under the ROC curve from counts TP and FP of shape (..., thresholds); NaN without both kinds."""
    steps = np.diff(false, prepend=0, axis=-1)
    area = (steps * (true - np.diff(true, prepend=0, axis=-1) / 2)).sum(-1)
    return ratio(area, true[..., -1] * false[..., -1])


class RankingCriterion(Criterion):
    """Mean over the classes of an area under a curve of each against the rest."""

    needs = "scores"
    needs_two_classes = True

    @staticmethod
    @abstractmethod
    def area(true: Floats, false: Floats) -> Floats:
        """Return the area from counts TP and FP of shape (..., thresholds)."""

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
            areas[label] = self.area(*ranked.counts(weights))
        return areas


class MacroPRAUC(RankingCriterion):
    """Mean average precision."""

    area = staticmethod(average_precision)


class MacroROCAUC(RankingCriterion):
    """Mean area under the ROC curve."""

    area = staticmethod(roc_area)

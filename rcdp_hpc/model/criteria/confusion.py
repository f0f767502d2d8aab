"""Criteria of the confusion matrix.

Each depends on three counts of a class only: its hits, its samples and its predictions. With h_k, t_k and p_k for
class k, n = sum t_k, recall r_k = h_k / t_k and F1 score f_k = 2 h_k / (t_k + p_k):

- accuracy: sum h_k / n;
- balanced accuracy: mean of r_k over the classes with samples (`balanced_accuracy_score` of scikit-learn);
- macro F1: mean of f_k over the classes with samples or predictions (`f1_score`, average="macro");
- weighted F1: sum t_k f_k / n (`f1_score`, average="weighted");
- geometric mean: (product of r_k)^(1/K) over the K classes with samples (`geometric_mean_score` of imbalanced-learn,
  labels=unique(true); M. Kubat & S. Matwin, "Addressing the curse of imbalanced training sets", ICML 1997);
- Matthews' correlation, R_K of J. Gorodkin, "Comparing two K-category assignments by a K-category correlation
  coefficient", Computational Biology and Chemistry 28 (2004): (n sum h_k - sum t_k p_k) / sqrt((n^2 - sum p_k^2)
  (n^2 - sum t_k^2)), 0 if a single class is predicted (`matthews_corrcoef`);
- kappa: 1 - (n - sum h_k) / (n - sum t_k p_k / n) (J. Cohen, "A coefficient of agreement for nominal scales",
  Educational and Psychological Measurement 20 (1960); `cohen_kappa_score`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rcdp_hpc.config.choices.criteria import RECALL
from rcdp_hpc.model.criteria.base import Criterion, Floats, Labels, mean_of_defined, ratio


@dataclass(frozen=True)
class Counts:
    """What the criteria use of confusion matrices.

    Attributes
    ----------
    hits, true, predicted : ndarray of float64, shape (..., classes)
        Samples of each class that are recognised, all samples of it, and all predictions of it.
    """

    hits: Floats
    true: Floats
    predicted: Floats

    @classmethod
    def of_rows(cls, labels: Labels, predicted: Labels, classes: int, weights: Floats | None = None) -> Counts:
        """Return the counts of rows, each counted as often as its weight says."""
        right = labels == predicted
        of_right = None if weights is None else weights[right]
        return cls(
            np.bincount(labels[right], of_right, classes).astype(np.float64),
            np.bincount(labels, weights, classes).astype(np.float64),
            np.bincount(predicted, weights, classes).astype(np.float64),
        )

    @classmethod
    def of_matrix(cls, confusion: Floats | Labels) -> Counts:
        """Return the counts of confusion matrices, shape (..., classes, classes); rows are true classes."""
        hits = np.diagonal(confusion, axis1=-2, axis2=-1)
        return cls(*(values.astype(np.float64) for values in (hits, confusion.sum(-1), confusion.sum(-2))))

    @property
    def total(self) -> Floats:
        """Number of samples, shape (...)."""
        total: Floats = self.true.sum(-1)
        return total

    @property
    def recall(self) -> Floats:
        """Recall of each class; NaN for a class without samples."""
        return ratio(self.hits, self.true)

    @property
    def precision(self) -> Floats:
        """Precision of each class; NaN for a class that is never predicted."""
        return ratio(self.hits, self.predicted)

    @property
    def f1(self) -> Floats:
        """F1 score of each class; NaN for a class without samples and predictions."""
        return ratio(2 * self.hits, self.true + self.predicted)


class ConfusionCriterion(Criterion):
    """A criterion of the confusion matrix.

    Attributes
    ----------
    lowest : float
        Least value; the largest is 1.
    """

    needs = "labels"
    lowest: ClassVar[float] = 0.0

    def value(
        self, labels: Labels, predicted: Labels, scores: Floats | None = None, weights: Floats | None = None
    ) -> float:
        """Return the value; NaN if it is undefined."""
        return float(self.of_counts(Counts.of_rows(labels, predicted, len(self.classes), weights)))

    @abstractmethod
    def of_counts(self, counts: Counts) -> Floats:
        """Return the values of confusion matrices, shape (...); NaN where undefined."""


class Accuracy(ConfusionCriterion):
    """Share of the samples with the right class."""

    def of_counts(self, counts: Counts) -> Floats:
        """Return the accuracies."""
        return ratio(counts.hits.sum(-1), counts.total)


class BalancedAccuracy(ConfusionCriterion):
    """Mean recall of the classes with samples."""

    def of_counts(self, counts: Counts) -> Floats:
        """Return the balanced accuracies."""
        return mean_of_defined(counts.recall)


class MacroF1(ConfusionCriterion):
    """Mean F1 score of the classes with samples or predictions."""

    def of_counts(self, counts: Counts) -> Floats:
        """Return the means."""
        return mean_of_defined(counts.f1)


class WeightedF1(ConfusionCriterion):
    """Mean F1 score of the classes, weighted by their samples."""

    def of_counts(self, counts: Counts) -> Floats:
        """Return the means."""
        return ratio((counts.true * np.nan_to_num(counts.f1)).sum(-1), counts.total)


class GeometricMean(ConfusionCriterion):
    """Geometric mean of the recalls of the classes with samples."""

    def of_counts(self, counts: Counts) -> Floats:
        """Return the means."""
        with np.errstate(divide="ignore"):
            return np.exp(mean_of_defined(np.log(counts.recall)))


class MatthewsCorrelation(ConfusionCriterion):
    """Correlation of true and predicted classes, from -1 to 1."""

    needs_two_classes = True
    lowest = -1.0

    def of_counts(self, counts: Counts) -> Floats:
        """Return the correlations; 0 if a single class is predicted."""
        total = counts.total
        covariance = counts.hits.sum(-1) * total - (counts.true * counts.predicted).sum(-1)
        of_true = total**2 - (counts.true**2).sum(-1)
        of_predicted = total**2 - (counts.predicted**2).sum(-1)
        constant = (of_predicted == 0) & (of_true != 0)
        return np.where(constant, 0.0, ratio(covariance, np.sqrt(of_true * of_predicted)))


class CohenKappa(ConfusionCriterion):
    """Agreement of true and predicted classes beyond that of chance."""

    needs_two_classes = True
    lowest = -1.0

    def of_counts(self, counts: Counts) -> Floats:
        """Return the kappas."""
        total = counts.total
        by_chance = total - ratio((counts.true * counts.predicted).sum(-1), total)
        kappa = 1 - ratio(total - counts.hits.sum(-1), by_chance)
        return np.where(counts.true.max(-1, initial=0) == total, np.nan, kappa)


class Recall(ConfusionCriterion):
    """Share of the samples of one class that are recognised."""

    def __init__(self, name: str, classes: Sequence[str]) -> None:
        super().__init__(name, classes)
        self.label = self.classes.index(name.removeprefix(RECALL))

    def of_counts(self, counts: Counts) -> Floats:
        """Return the recalls of the class."""
        return counts.recall[..., self.label]

    def undefined(self, labels: Labels, classes: Sequence[str]) -> str | None:
        """Return why the recall is undefined: the class has no samples."""
        reason = super().undefined(labels, classes)
        if reason is None and not (labels == self.label).any():
            return f"class {classes[self.label]} has no samples"
        return reason

"""Criteria of probabilities: lower is better.

With p_ik the probability of class k for sample i, and y_i its class:

- log loss: mean of -log p_(i, y_i), probabilities clipped to [eps, 1 - eps] of their number format (`log_loss` of
  scikit-learn);
- Brier score: mean of sum_k (p_ik - [y_i = k])^2, from 0 to 2; for two classes half of it, which is the squared error
  of the probability of one of them (`brier_score_loss` of scikit-learn; G. Brier, "Verification of forecasts expressed
  in terms of probability", Monthly Weather Review 78 (1950));
- expected calibration error: samples are put into 15 bins of equal width by their largest probability, ECE = sum over
  bins of n_b / n |share of them whose most probable class is right - mean largest probability| (C. Guo et al., "On
  calibration of modern neural networks", ICML 2017, eq. 3; M. Naeini et al., AAAI 2015). Bin b holds probabilities in
  ((b - 1) / 15, b / 15].
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.model.criteria.base import Criterion, Floats, Labels, ratio, required

BINS = 15


class ProbabilityCriterion(Criterion):
    """A criterion of probabilities."""

    needs = "probabilities"
    higher_is_better = False


class RowMean(ProbabilityCriterion):
    """A criterion that is the mean of a number of each row."""

    @staticmethod
    @abstractmethod
    def per_row(labels: Labels, probabilities: Floats) -> Floats:
        """Return the number of each row, shape (rows,), float64."""

    def value(
        self, labels: Labels, predicted: Labels, scores: Floats | None = None, weights: Floats | None = None
    ) -> float:
        """Return the mean; NaN if there are no rows."""
        rows = self.per_row(labels, required(scores, self.name))
        return float(weighted_mean(rows, weights))


class LogLoss(RowMean):
    """Mean negative logarithm of the probability of the true class."""

    @staticmethod
    def per_row(labels: Labels, probabilities: Floats) -> Floats:
        """Return the loss of each row."""
        least = np.finfo(probabilities.dtype).eps
        of_true = probabilities[np.arange(len(labels)), labels]
        return -np.log(np.clip(of_true, least, 1 - least).astype(np.float64))


class BrierScore(RowMean):
    """Mean squared error of the probabilities."""

    @staticmethod
    def per_row(labels: Labels, probabilities: Floats) -> Floats:
        """Return the squared error of each row, halved for two classes."""
        errors = probabilities.astype(np.float64)
        errors[np.arange(len(labels)), labels] -= 1
        squares = np.einsum("ij,ij->i", errors, errors)
        return squares / 2 if probabilities.shape[1] == 2 else squares


class CalibrationError(ProbabilityCriterion):
    """Expected calibration error of the largest probability."""

    def value(
        self, labels: Labels, predicted: Labels, scores: Floats | None = None, weights: Floats | None = None
    ) -> float:
        """Return the error; NaN if there are no rows."""
        probabilities = required(scores, self.name)
        right = probabilities.argmax(1) == labels
        return float(expected_calibration_error(probabilities.max(1), right, weights))


def expected_calibration_error(
    confidence: Floats, right: NDArray[np.bool_], weights: NDArray[Any] | None = None, bins: int = BINS
) -> Floats:
    """Return the expected calibration error, shape (...), for weights of shape (rows, ...); NaN if there are no rows.

    Parameters
    ----------
    confidence : ndarray of float, shape (rows,)
        Largest probability of each row.
    right : ndarray of bool, shape (rows,)
        Whether the class with that probability is the true one.
    weights : ndarray, shape (rows, ...), or None
        How often each row counts.
    bins : int
    """
    # Sum over a bin of (right - confidence) is n_b times the difference of both means.
    gaps: Floats = right - confidence.astype(np.float64)
    numbers = bin_of(confidence, bins)
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    if not len(starts):
        return np.asarray(np.nan)
    counted = np.ones(len(gaps)) if weights is None else weights
    sums = np.add.reduceat((counted.T * gaps).T[order], starts, axis=0)
    return ratio(np.abs(sums).sum(0), counted.sum(0))


def bin_of(confidence: Floats, bins: int = BINS) -> NDArray[np.int64]:
    """Return the bin of each probability, 0 to bins - 1; a limit of two bins belongs to the lower one."""
    limits = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(limits, confidence.astype(np.float64), side="left").astype(np.int64)


def weighted_mean(rows: Floats, weights: NDArray[Any] | None = None) -> Floats:
    """Return the mean of numbers of rows, shape (...), for weights of shape (rows, ...); NaN if there are no rows."""
    if weights is None:
        return ratio(rows.sum(), len(rows))
    return ratio(rows @ weights, weights.sum(0))

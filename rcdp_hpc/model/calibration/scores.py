"""The scores of held-out rows, by which probabilities are calibrated, and how good probabilities are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.model.criteria.probabilities import expected_calibration_error
from rcdp_hpc.reservoir.positive_shares import positive_shares

Floats = NDArray[np.float64]

# Lower bound of a probability in a logarithm.
LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True, eq=False)
class HeldOutScores:
    """Scores of rows by a model that was not fitted to them.

    Attributes
    ----------
    scores : ndarray of float64, shape (rows, classes)
        What a calibration reads (`rcdp_hpc.networks.base.Network.calibration_scores`).
    raw : ndarray of float64, shape (rows, classes)
        The probabilities of the model itself.
    labels : ndarray of int64, shape (rows,)
    kind : str
        What the rows are: "validation" or "left-out".
    weights : ndarray of float64, shape (rows,), optional
        Weight of each row, so that classes have their natural shares; None if they have them already.
    """

    scores: Floats
    raw: Floats
    labels: NDArray[np.int64]
    kind: str = "validation"
    weights: Floats | None = None

    @classmethod
    def of_solved(
        cls, scores: NDArray[np.floating], labels: NDArray[np.integer], kind: str, weights: Floats | None = None
    ) -> HeldOutScores:
        """Return the scores z of a solved readout, which approximate one-hot classes."""
        z = np.asarray(scores, np.float64)
        return cls(z, positive_shares(z), np.asarray(labels, np.int64), kind, weights)

    @property
    def row_weights(self) -> Floats:
        """The weight of each row, with mean 1."""
        if self.weights is None:
            return np.ones(len(self.labels))
        return np.asarray(self.weights / self.weights.mean())

    @property
    def class_rows(self) -> NDArray[np.int64]:
        """Rows of each class."""
        return np.bincount(self.labels, minlength=self.scores.shape[1])

    @property
    def shares(self) -> Floats:
        """Natural share of each class, shape (classes,)."""
        counts = np.bincount(self.labels, self.row_weights, minlength=self.scores.shape[1])
        return np.asarray(counts / counts.sum())

    def smoothed(self, smoothing: float) -> HeldOutScores:
        """Return the scores of a solved readout whose targets are (1 - s) y + s / classes."""
        scores = (1 - smoothing) * self.scores + smoothing / self.scores.shape[1]
        return HeldOutScores.of_solved(scores, self.labels, self.kind, self.weights)

    def part(self, rows: NDArray[np.bool_]) -> HeldOutScores:
        """Return some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        return HeldOutScores(self.scores[rows], self.raw[rows], self.labels[rows], self.kind, weights)


def natural_weights(labels: NDArray[np.int64], natural: NDArray[np.integer]) -> Floats | None:
    """Return weights by which rows have the natural class counts; None if they have them already.

    Parameters
    ----------
    labels : ndarray of int64, shape (rows,)
    natural : ndarray of int, shape (classes,)
        Counts of the classes before any balancing.
    """
    counts = np.bincount(labels, minlength=len(natural))
    if not counts.sum() or np.array_equal(counts * natural.sum(), natural * counts.sum()):
        return None
    factors = np.where(counts > 0, natural / np.maximum(counts, 1), 0.0)
    weights = factors[labels]
    return None if not weights.any() else np.asarray(weights / weights.mean())


def log_loss(probabilities: Floats, labels: NDArray[np.int64], weights: Floats) -> float:
    """Return the weighted mean of -log p of the true class."""
    return float(weights @ row_losses(probabilities, labels) / weights.sum())


def row_losses(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return -log p of the true class of each row, shape (rows,)."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.maximum(chosen, LEAST_PROBABILITY))


def calibration_error(probabilities: Floats, labels: NDArray[np.int64], weights: Floats) -> float:
    """Return the expected calibration error of the most probable class, as `rcdp_hpc.model.criteria` has it."""
    return float(expected_calibration_error(probabilities.max(1), probabilities.argmax(1) == labels, weights))

"""Class probabilities of a solved readout, from its scores, which approximate one-hot classes. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Scores below it count as it, so that no probability is 0.
LEAST_SHARE = 1e-6


def positive_shares(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``max(z, 1e-6)`` divided by its sum over the classes, shape (rows, classes), of scores z."""
    positive = np.maximum(scores, LEAST_SHARE)
    return np.asarray(positive / positive.sum(1, keepdims=True))

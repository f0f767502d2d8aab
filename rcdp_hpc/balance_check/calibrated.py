"""Calibrated probabilities of held-out rows: each fold by a calibration that is fitted to the other folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.model.calibration.choose import FITS, MOST_AUTO_CLASSES, refusal
from rcdp_hpc.model.calibration.scores import HeldOutScores, calibration_error
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.held_out_scores import thinned_places

# Tried in this order: the first one that the rows of the other folds allow. Of many classes only the last one, as
# vector scaling takes minutes for each fold.
METHODS = ("vector", "temperature")
# Rows that a calibration is fitted to.
MOST_ROWS = 10_000


def calibrated_probabilities(
    scores: NDArray[np.float64], labels: NDArray[np.int64], folds: NDArray[np.int64], classes: list[str]
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the probabilities of all rows, and the method of each fold; "none" if its rows are too few.

    Parameters
    ----------
    scores : ndarray, shape (rows, classes), float64
        Held-out scores of a readout that is solved for one-hot classes.
    labels, folds : ndarray, shape (rows,), int64
    classes : list of str
    """
    rows = HeldOutScores.of_solved(scores, labels, "left-out")
    probabilities, methods = rows.raw.copy(), []
    tried = METHODS if len(classes) <= MOST_AUTO_CLASSES else METHODS[1:]
    with limit_threads(1):
        for fold in range(int(folds.max()) + 1):
            here = folds == fold
            others = rows.part(_spread(~here))
            method = next((name for name in tried if not refusal(name, others.class_rows, classes)), "none")
            if method != "none":
                probabilities[here] = FITS[method](others).probabilities(scores[here])
            methods.append(method)
    return probabilities, methods


def _spread(rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return at most `MOST_ROWS` of the rows, from all parts of them: a calibration has few parameters."""
    places = np.flatnonzero(rows)
    chosen = np.zeros(len(rows), bool)
    chosen[places[thinned_places(len(places), MOST_ROWS)]] = True
    return chosen


def ece(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the expected calibration error."""
    return calibration_error(probabilities, labels, np.ones(len(labels)))


def raw_probabilities(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the probabilities of the readout itself."""
    return HeldOutScores.of_solved(scores, labels, "left-out").raw

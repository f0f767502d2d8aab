"""Scores of a classifier, computed from its confusion matrix."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(
    labels: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """Count samples by true class (rows) and predicted class (columns). Matrices of disjoint samples can be added.

    Parameters
    ----------
    labels, predicted : ndarray, shape (samples,)
        Class numbers, 0 to classes - 1.
    classes : int
        Number of classes.

    Returns
    -------
    ndarray, shape (classes, classes), int64
    """
    flat = labels.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


class Scores(TypedDict):
    """Scores of a classifier.

    Attributes
    ----------
    samples, correct : int
        Number of samples, and of those with the right class.
    accuracy, macro_f1, balanced_accuracy : float
    precision, recall, f1 : list of float
        Of each class.
    """

    samples: int
    correct: int
    accuracy: float
    macro_f1: float
    balanced_accuracy: float
    precision: list[float]
    recall: list[float]
    f1: list[float]


def scores(confusion: NDArray[np.int64]) -> Scores:
    """Return accuracy, macro F1, balanced accuracy, and precision, recall and F1 of each class, as scikit-learn does.

    A class that is never predicted has precision 0, and one without samples has recall 0, as with ``zero_division=0``.
    The macro F1 is the unweighted mean over the classes that occur as a true or a predicted class, like
    ``f1_score(true, predicted, average="macro")``; it is 0 if there are no samples.
    The balanced accuracy is the unweighted mean over the classes with samples, like ``balanced_accuracy_score``.

    Parameters
    ----------
    confusion : ndarray, shape (classes, classes)
        Rows are true classes.

    Returns
    -------
    Scores
    """
    hits = np.diag(confusion).astype(float)
    true, predicted = confusion.sum(1), confusion.sum(0)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(true, 1)
    # 2PR / (P + R) in terms of counts, which needs no special case for P + R = 0.
    f1 = 2 * hits / np.maximum(true + predicted, 1)
    occurring, present = f1[true + predicted > 0], recall[true > 0]
    return {
        "samples": int(confusion.sum()),
        "correct": int(hits.sum()),
        "accuracy": float(hits.sum() / max(confusion.sum(), 1)),
        "macro_f1": float(occurring.mean()) if occurring.size else 0.0,
        "balanced_accuracy": float(present.mean()) if present.size else 0.0,
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
    }

"""What a classifier's confusion matrix says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(
    labels: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """Count samples by true class (rows) and predicted class (columns); matrices of disjoint samples add up.

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


def scores(confusion: NDArray[np.int64]) -> dict[str, Any]:
    """Return accuracy, macro F1 and the precision, recall and F1 of each class, as scikit-learn does.

    A class that is never predicted has precision 0, one without samples recall 0, as with ``zero_division=0``. The
    macro F1 is the plain mean over the classes that occur, as a true or as a predicted class: what
    ``f1_score(true, predicted, average="macro")`` returns for the same samples. It is 0 without samples.

    Parameters
    ----------
    confusion : ndarray, shape (classes, classes)
        Rows are true classes.

    Returns
    -------
    dict
        samples, correct, accuracy, macro_f1, precision, recall, f1 (lists over classes).
    """
    hits = np.diag(confusion).astype(float)
    true, predicted = confusion.sum(1), confusion.sum(0)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(true, 1)
    # 2PR / (P + R) written with counts, which needs no guard against P + R = 0 of its own.
    f1 = 2 * hits / np.maximum(true + predicted, 1)
    occurring = f1[true + predicted > 0]
    return {
        "samples": int(confusion.sum()),
        "correct": int(hits.sum()),
        "accuracy": float(hits.sum() / max(confusion.sum(), 1)),
        "macro_f1": float(occurring.mean()) if occurring.size else 0.0,
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
    }

"""What a criterion is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]
Needs = Literal["labels", "scores", "probabilities"]


class Criterion(ABC):
    """A number that says how good the answers of a classifier are.

    Parameters
    ----------
    name : str
    classes : sequence of str
        Class names, in the order of the class numbers.

    Attributes
    ----------
    needs : {"labels", "scores", "probabilities"}
        The least that it is computed from: predicted classes, scores that rank the rows, or probabilities.
    higher_is_better : bool
    """

    needs: ClassVar[Needs]
    higher_is_better: ClassVar[bool] = True
    # Whether samples of one class alone say nothing.
    needs_two_classes: ClassVar[bool] = False

    def __init__(self, name: str, classes: Sequence[str]) -> None:
        self.name = name
        self.classes = list(classes)

    @abstractmethod
    def value(
        self, labels: Labels, predicted: Labels, scores: Floats | None = None, weights: Floats | None = None
    ) -> float:
        """Return the value; NaN if it is undefined.

        Parameters
        ----------
        labels, predicted : ndarray of int, shape (rows,)
            True and predicted class numbers.
        scores : ndarray of float, shape (rows, classes), or None
            Scores, or probabilities if `needs` says so; None if it needs labels only.
        weights : ndarray of float, shape (rows,), or None
            How often each row counts; None for once.
        """

    def fitness(
        self, labels: Labels, predicted: Labels, scores: Floats | None = None, weights: Floats | None = None
    ) -> float:
        """Return the value with the sign that makes a larger one better; parameters as of `value`."""
        value = self.value(labels, predicted, scores, weights)
        return value if self.higher_is_better else -value

    def undefined(self, labels: Labels, classes: Sequence[str]) -> str | None:
        """Return why the criterion is undefined for these true classes, in words; None if it is defined.

        Parameters
        ----------
        labels : ndarray of int, shape (rows,)
        classes : sequence of str
            Class names, in the order of the class numbers.
        """
        if not len(labels):
            return "there are no samples"
        if self.needs_two_classes and labels.min() == labels.max():
            return f"all samples are of class {classes[int(labels[0])]}"
        return None


def required(scores: Floats | None, name: str) -> Floats:
    """Return the scores that a criterion needs; a `ValueError` if there are none."""
    if scores is None:
        raise ValueError(f"{name} needs the scores of each row")
    return scores


def mean_of_defined(values: Floats) -> Floats:
    """Return the mean over the last axis of the values that are not NaN; NaN if there is none."""
    defined = ~np.isnan(values)
    counts = defined.sum(-1)
    return ratio(np.where(defined, values, 0.0).sum(-1), counts)


def ratio(part: Any, whole: Any) -> Floats:
    """Return part / whole in float64; NaN where `whole` is 0."""
    shape = np.broadcast_shapes(np.shape(part), np.shape(whole))
    return np.divide(part, whole, out=np.full(shape, np.nan), where=np.asarray(whole) != 0)

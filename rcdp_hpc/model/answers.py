"""What a model answers for samples: classes, and the probabilities that are reported with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of a model for some rows.

    Attributes
    ----------
    predicted : ndarray of int64, shape (rows,)
        Index of the class that is answered. It need not be the one with the largest reported probability.
    probabilities : ndarray of float32, shape (rows, classes)
        Class probabilities as reported: calibrated if the model is.
    raw : ndarray of float32, shape (rows, classes)
        Class probabilities of the model itself.
    disagreement : ndarray of float32, shape (rows,), optional
        Disagreement of the members of an ensemble; None if the model has no members.
    """

    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    raw: NDArray[np.float32]
    disagreement: NDArray[np.float32] | None = None

    @classmethod
    def of_raw(cls, raw: NDArray[np.float32]) -> Answers:
        """Return the answers of a model without calibration: the most probable class of each row."""
        return cls(np.asarray(raw.argmax(1), np.int64), raw, raw)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.predicted)


def joined(parts: Sequence[Answers], classes: int) -> Answers:
    """Return the answers of consecutive rows as one; of no parts, those of no rows."""
    if not parts:
        return Answers.of_raw(np.empty((0, classes), np.float32))
    disagreement = [part.disagreement for part in parts if part.disagreement is not None]
    return Answers(
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.raw for part in parts]),
        np.concatenate(disagreement) if disagreement else None,
    )

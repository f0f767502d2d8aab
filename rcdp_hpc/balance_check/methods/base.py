"""What a way with uneven classes states: its rows, their weights, and how scores become answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config

# Returns a number that is larger for better answers, of labels and predicted classes.
Worth = Callable[[NDArray[np.int64], NDArray[np.int64]], float]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Scores of all original rows, each by the readout that was solved without its fold.

    Attributes
    ----------
    scores : ndarray, shape (rows, classes), float64
    probabilities : ndarray, shape (rows, classes), float64
        Of these scores, calibrated by the other folds.
    labels : ndarray, shape (rows,), int64
    folds : ndarray, shape (rows,), int64
        Fold of each row, from 0.
    shares : ndarray, shape (folds, classes), float64
        Share of each class in the original rows of the training part of each fold.
    worth : callable
        The criterion that choices maximise.
    """

    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    folds: NDArray[np.int64]
    shares: NDArray[np.float64]
    worth: Worth


@dataclass(frozen=True, eq=False)
class Answered:
    """The classes that a method answers for held-out rows.

    Attributes
    ----------
    predicted : ndarray, shape (rows,), int64
    chosen : mapping
        What was chosen on the way, for the report and for `Method.settings`.
    """

    predicted: NDArray[np.int64]
    chosen: Mapping[str, Any] = field(default_factory=dict)


class Method(ABC):
    """A way with uneven classes.

    Parameters
    ----------
    name, meaning : str
        As in the table of methods.

    Attributes
    ----------
    balance : str
        The value of ``data.balance`` whose rows it is solved from; "none" for the rows as they are.
    weighs : bool
        Whether it weighs classes.
    shares_scores_of : str
        Name of the method whose scores it uses; empty if it has its own.
    """

    balance: str = "none"
    weighs: bool = False
    shares_scores_of: str = ""

    def __init__(self, name: str, meaning: str) -> None:
        self.name = name
        self.meaning = meaning

    @property
    def scores_of(self) -> str:
        """The method whose scores it uses: itself if it has its own."""
        return self.shares_scores_of or self.name

    def class_weights(self, counts: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Return the weight of a row of each class, shape (classes,); None if all rows count the same.

        Parameters
        ----------
        counts : ndarray of int64, shape (classes,)
            Rows of each class in the training part.
        """
        return None

    def answers(self, held_out: HeldOut) -> Answered:
        """Return the answers: by default the class with the largest score."""
        return Answered(held_out.scores.argmax(axis=1))

    @abstractmethod
    def settings(self, config: Config, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of the configuration, and their values, with which a run does the same.

        Parameters
        ----------
        config : Config
        chosen : mapping
            `Answered.chosen` of all rows.
        """

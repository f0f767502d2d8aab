"""The interface of losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import LossSection


class Loss(ABC):
    """A loss of each row, which depends on no other row, and its link from scores to probabilities.

    The training minimises its weighted mean over the rows of the global batch. Ranks compute shares of that mean, so a
    loss must not depend on other rows, on the number of rows, or on random numbers. The same holds for the link.

    Attributes
    ----------
    warm_start_factor : float
        Scores of a network that starts from a ridge readout, in units of the readout's scores, which are near 0 and 1.
    """

    # Before a softmax, a difference of 1/2 between ridge scores makes a class 150 times as probable.
    warm_start_factor: float = 10.0

    @classmethod
    def of(cls, settings: LossSection) -> Self:
        """Return the loss with the constants of ``[loss]``; by default the constructor is called without arguments."""
        return cls()

    def use_class_counts(self, counts: NDArray[np.integer]) -> None:  # noqa: B027 - most losses need none
        """Take what the loss needs of the class sizes; by default nothing.

        Called once before the first loss. The link from scores to probabilities must not depend on it: prediction does
        not call it.

        Parameters
        ----------
        counts : numpy.ndarray of int, shape (classes,)
            Rows of each class that the training reads, over all ranks and including synthetic rows: the same on every
            rank.

        Raises
        ------
        InputError
            If the loss is not defined for these counts.
        """

    @abstractmethod
    def __call__(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row.

        Parameters
        ----------
        scores : torch.Tensor, shape (rows, classes), float32
            Outputs of the network, before the link; there may be no rows.
        targets : torch.Tensor, shape (rows, classes), of the dtype of `scores`
            Probabilities of the classes: one-hot rows, smoothed by ``loss.label_smoothing`` or mixed by
            ``augment.mixup``.

        Returns
        -------
        torch.Tensor, shape (rows,), of the dtype of `scores`
            Finite, and differentiable by `scores`.
        """

    def probabilities(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the probabilities that scores stand for, the link of the loss; by default their softmax.

        Parameters
        ----------
        scores : torch.Tensor, shape (rows, classes), float32 or float64
            There may be no rows.

        Returns
        -------
        torch.Tensor, shape (rows, classes), of the dtype of `scores`
            Rows that are not negative and sum to 1. The class with the highest score has the highest probability.
        """
        return torch.softmax(scores, 1)

    def driven(self, scores: torch.Tensor) -> torch.Tensor:
        """Return what the loss drives to the targets, by default the probabilities; E of eq. 5 measures it.

        Parameters and shape as of `probabilities`. The class with the highest score has the highest value.
        """
        return self.probabilities(scores)

    @property
    def has_own_link(self) -> bool:
        """Whether the probabilities are not the softmax of the scores."""
        return type(self).probabilities is not Loss.probabilities


class FunctionLoss(Loss):
    """A loss that a function of scores and targets computes.

    Parameters
    ----------
    function : callable
        As `Loss.__call__`.
    link : callable, optional
        As `Loss.probabilities`; default: the softmax.
    counted : callable, optional
        As `Loss.use_class_counts`; default: nothing.
    """

    def __init__(
        self,
        function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        link: Callable[[torch.Tensor], torch.Tensor] | None = None,
        counted: Callable[[NDArray[np.integer]], None] | None = None,
    ) -> None:
        self.function = function
        self.link = link
        self.counted = counted

    @property
    def has_own_link(self) -> bool:
        """Whether a link was given."""
        return self.link is not None

    def use_class_counts(self, counts: NDArray[np.integer]) -> None:
        """Pass the counts to the function that was given; parameters as `Loss.use_class_counts`."""
        if self.counted is not None:
            self.counted(counts)

    def probabilities(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of scores; parameters as `Loss.probabilities`."""
        return super().probabilities(scores) if self.link is None else self.link(scores)

    def __call__(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return what the function returns."""
        return self.function(scores, targets)

"""The interface of losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch

from rcdp_hpc.config import LossSection


class Loss(ABC):
    """A loss of each row, which depends on no other row.

    The training minimises its weighted mean over the rows of the global batch. Ranks compute shares of that mean, so a
    loss must not depend on other rows, on the number of rows, or on random numbers.
    """

    @classmethod
    def of(cls, settings: LossSection) -> Self:
        """Return the loss with the constants of ``[loss]``; by default the constructor is called without arguments."""
        return cls()

    @abstractmethod
    def __call__(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row.

        Parameters
        ----------
        scores : torch.Tensor, shape (rows, classes), float32
            Outputs of the network, before the softmax; there may be no rows.
        targets : torch.Tensor, shape (rows, classes), of the dtype of `scores`
            Probabilities of the classes: one-hot rows, smoothed by ``loss.label_smoothing`` or mixed by
            ``augment.mixup``.

        Returns
        -------
        torch.Tensor, shape (rows,), of the dtype of `scores`
            Finite, and differentiable by `scores`.
        """


class FunctionLoss(Loss):
    """A loss that a function of scores and targets computes.

    Parameters
    ----------
    function : callable
        As `Loss.__call__`.
    """

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self.function = function

    def __call__(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return what the function returns."""
        return self.function(scores, targets)

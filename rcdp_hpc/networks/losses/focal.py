"""Focal loss."""

from __future__ import annotations

from typing import Self

import torch
from torch.nn import functional

from rcdp_hpc.config import LossSection
from rcdp_hpc.networks.losses.base import Loss


class Focal(Loss):
    """``-sum_c y_c (1 - p_c)^gamma log p_c`` of each row, with the targets y and p = softmax(scores).

    Well-predicted rows count little, so that rare and hard rows have more influence (Lin et al., "Focal loss for dense
    object detection", 2017). gamma = 0 is the cross-entropy.

    Parameters
    ----------
    gamma : float
        Focusing parameter, 0 or more.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    @classmethod
    def of(cls, settings: LossSection) -> Self:
        """Return the loss with ``loss.focal_gamma``."""
        return cls(settings.focal_gamma)

    def __call__(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row."""
        logs = functional.log_softmax(scores, 1)
        # 1 - p from its logarithm; the lower bound keeps the gradient of a power below 1 finite if p is 1.
        others = (-torch.expm1(logs)).clamp_min(torch.finfo(scores.dtype).tiny)
        return -(targets * others**self.gamma * logs).sum(1)

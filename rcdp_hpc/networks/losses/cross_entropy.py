"""Cross-entropy."""

from __future__ import annotations

import torch
from torch.nn import functional

from rcdp_hpc.networks.losses.base import Loss


class CrossEntropy(Loss):
    """``-sum_c y_c log p_c`` of each row, with the targets y and p = softmax(scores)."""

    def __call__(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row."""
        return functional.cross_entropy(scores, targets, reduction="none")

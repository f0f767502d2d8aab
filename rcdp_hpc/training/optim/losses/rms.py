"""Root of the squared error (eq. 12 of the paper)."""

from __future__ import annotations

import torch

from rcdp_hpc.training.optim.losses.base import Loss


class RootSquaredError(Loss):
    """``sqrt(sum_c (z_c - y_c)^2)`` of each row, with the scores z and the targets y (eq. 12 of the paper)."""

    def __call__(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row."""
        # The root has no gradient at 0, for a row predicted exactly. The constant is far below float32's resolution.
        return torch.sqrt(((scores - targets) ** 2).sum(1) + 1e-16)

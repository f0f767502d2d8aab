"""Root of the squared error (eq. 12 of the paper)."""

from __future__ import annotations

import torch

from rcdp_hpc.networks.losses.base import Loss

# Scores below it count as it, so that no probability is 0.
LEAST_SCORE = 1e-6


class RootSquaredError(Loss):
    """``sqrt(sum_c (z_c - y_c)^2)`` of each row, with the scores z and the targets y (eq. 12 of the paper).

    The scores themselves are driven to the targets. The probabilities are ``max(z, 1e-6)`` divided by its sum over the
    classes. If no score of a row is above 1e-6, a constant is added to the row first, so that its sum is 1, like that
    of a target: the order of the classes stays visible.
    """

    warm_start_factor = 1.0

    def __call__(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row."""
        # The root has no gradient at 0, for a row predicted exactly. The constant is far below float32's resolution.
        return torch.sqrt(((scores - targets) ** 2).sum(1) + 1e-16)

    def probabilities(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of the classes, shape (rows, classes); parameters as `Loss.probabilities`."""
        largest = scores.amax(1, keepdim=True)
        shifted = scores - scores.mean(1, keepdim=True) + 1 / scores.shape[1]
        values = torch.where(largest > LEAST_SCORE, scores, shifted).clamp_min(LEAST_SCORE)
        # The sum of large scores must not overflow.
        values = values / values.amax(1, keepdim=True).clamp_min(1)
        return values / values.sum(1, keepdim=True)

    def driven(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        return scores

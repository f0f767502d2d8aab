"""Losses, summed over rows so that shares of several ranks add up to the mean of the global batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the sum over rows of the cross-entropy of softmax(scores); scores (rows, classes), labels (rows,)."""
    return functional.cross_entropy(scores, labels, reduction="sum")


def eq12(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the sum over rows of sqrt(sum_c (z_c - y_c)^2), y the one-hot label (eq. 12 of the paper)."""
    targets = functional.one_hot(labels, scores.shape[1]).to(scores.dtype)
    # A row predicted exactly has no gradient of its root; the constant is far below float32's resolution of 1.
    return torch.sqrt(((scores - targets) ** 2).sum(1) + 1e-16).sum()


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "eq12": eq12}

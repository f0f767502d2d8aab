"""Losses, row by row, and their weighted sum, which shares of several ranks add up to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from rcdp_hpc.config import Config, LossSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.collective import agreed

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Mixed = tuple[torch.Tensor, torch.Tensor]


def cross_entropy(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return ``-sum_c y_c log p_c`` of each row, p = softmax(scores); scores and targets y (rows, classes)."""
    return functional.cross_entropy(scores, targets, reduction="none")


def focal(scores: torch.Tensor, targets: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return ``-sum_c y_c (1 - p_c)^gamma log p_c`` of each row, p = softmax(scores).

    What is predicted well counts little, so that rare and hard rows are heard (Lin et al., "Focal loss for dense object
    detection", 2017); gamma = 0 is the cross-entropy.
    """
    logs = functional.log_softmax(scores, 1)
    # 1 - p from its logarithm; the floor keeps the gradient of a power below 1 finite where p is 1.
    others = (-torch.expm1(logs)).clamp_min(torch.finfo(scores.dtype).tiny)
    return -(targets * others**gamma * logs).sum(1)


def rms_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return ``sqrt(sum_c (z_c - y_c)^2)`` of each row, z the scores and y the targets (eq. 12 of the paper)."""
    # A row predicted exactly has no gradient of its root; the constant is far below float32's resolution of 1.
    return torch.sqrt(((scores - targets) ** 2).sum(1) + 1e-16)


LOSSES: dict[str, Callable[[LossSection], Loss]] = {
    "cross_entropy": lambda settings: cross_entropy,
    "focal": lambda settings: lambda scores, targets: focal(scores, targets, settings.focal_gamma),
    "eq12": lambda settings: rms_loss,
}


class Objective:
    """What the training minimises: the weighted mean of a loss over the rows of the global batch.

    ``sum_i w_i l_i / sum_i w_i``, both sums over all ranks, with w_i = 1, or with ``loss.class_weights =
    "balanced"`` the weight N / (C n_c) of row i's class c: N training rows, C classes, n_c rows of class c. The target
    is the one-hot label, smoothed to ``(1 - s) y + s / C`` with s = ``loss.label_smoothing`` (Szegedy et al. 2016).

    Parameters
    ----------
    config : Config
        Names the loss, its constants, and whether classes are weighted.
    class_counts : ndarray of int, shape (classes,)
        Training rows of each class, over all ranks.

    Raises
    ------
    InputError
        If classes are to be weighted and one has no row.
    """

    def __init__(self, config: Config, class_counts: NDArray[np.int64]) -> None:
        self.classes, self.smoothing = len(class_counts), config.loss.label_smoothing
        self.loss = LOSSES[config.loss.kind](config.loss)
        self.class_weights: torch.Tensor | None = None
        if config.loss.class_weights == "balanced":
            if not class_counts.all():
                raise agreed(
                    InputError(
                        f"loss.class_weights = 'balanced' needs training rows of every class, and class number "
                        f"{int(np.argmin(class_counts))} has none: set it to 'none', or bring such samples."
                    )
                )
            self.class_weights = torch.from_numpy(class_counts.sum() / (self.classes * class_counts))

    def weights(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the weight of each row, float64, shape (rows,)."""
        if self.class_weights is None:
            return torch.ones(len(labels), dtype=torch.float64, device=labels.device)
        return self.class_weights.to(labels.device)[labels]

    def sum(self, scores: torch.Tensor, labels: torch.Tensor, mixed: Mixed | None = None) -> torch.Tensor:
        """Return the weighted sum of the loss over rows.

        Parameters
        ----------
        scores : torch.Tensor, shape (rows, classes)
        labels : torch.Tensor, shape (rows,), int64
            Classes of the rows, which their weights are those of.
        mixed : (torch.Tensor, torch.Tensor), optional
            Of mixed rows, the classes of their partners, and each row's own share m: the target is then
            ``m y_i + (1 - m) y_j``.
        """
        targets = functional.one_hot(labels, self.classes).to(scores.dtype)
        if mixed is not None:
            targets = targets.lerp(functional.one_hot(mixed[0], self.classes).to(scores.dtype), 1 - mixed[1][:, None])
        if self.smoothing:
            targets = targets * (1 - self.smoothing) + self.smoothing / self.classes
        rows = self.loss(scores, targets)
        return rows.sum() if self.class_weights is None else (rows * self.weights(labels).to(rows.dtype)).sum()

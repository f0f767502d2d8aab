"""Cross-entropy of scores that are adjusted by the shares of the classes."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from rcdp_hpc.config import LossSection
from rcdp_hpc.networks.losses.counted import CountedLoss


class LogitAdjusted(CountedLoss):
    """``-sum_c y_c log q_c`` of each row, with the targets y and ``q = softmax(scores + tau log pi)``.

    pi_c is the share of class c in the training rows (Menon et al., "Long-tail learning via logit adjustment", 2021).
    The scores need not learn that a class is frequent: the probabilities, softmax(scores) without the adjustment, are
    for tau = 1 those of a world in which all classes are equally frequent.

    Parameters
    ----------
    tau : float
        Above 0; above 1 rare classes are preferred.
    """

    kind = "logit_adjusted"

    def __init__(self, tau: float) -> None:
        self.tau = tau

    @classmethod
    def of(cls, settings: LossSection) -> Self:
        """Return the loss with ``loss.logit_tau``."""
        return cls(settings.logit_tau)

    def constants_of(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``tau log pi``, shape (classes,)."""
        return np.asarray(self.tau * np.log(counts / counts.sum()))

    def __call__(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row."""
        return functional.cross_entropy(scores + self.constants(scores), targets, reduction="none")


class BalancedSoftmax(LogitAdjusted):
    """``-sum_c y_c log q_c`` of each row, with ``q_c = n_c exp(z_c) / sum_k n_k exp(z_k)`` and n_c rows of class c.

    Ren et al., "Balanced meta-softmax for long-tailed visual recognition", 2020. It is the logit-adjusted loss with
    tau = 1, because softmax does not change if log N is subtracted from all log n_c.
    """

    kind = "balanced_softmax"

    @classmethod
    def of(cls, settings: LossSection) -> Self:
        """Return the loss; it reads no constants."""
        return cls(1.0)

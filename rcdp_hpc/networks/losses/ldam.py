"""Cross-entropy with a margin for each class."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from rcdp_hpc.config import LossSection
from rcdp_hpc.networks.losses.counted import CountedLoss


class LDAM(CountedLoss):
    """``-sum_c y_c log q_c`` of each row, with the targets y and ``q = softmax(scores - margin * y)``.

    The margin of class c is ``m (n_min / n_c)^(1/4)`` with n_c training rows: m for the smallest class, less for larger
    ones (Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", 2019). There the scores
    are cosines between -1 and 1 times a scale s; here they have no bounds, so that s is part of them and m is in their
    units: the paper's largest margin times its s.

    Parameters
    ----------
    margin : float
        m, above 0.
    """

    kind = "ldam"

    def __init__(self, margin: float) -> None:
        self.margin = margin

    @classmethod
    def of(cls, settings: LossSection) -> Self:
        """Return the loss with ``loss.ldam_margin``."""
        return cls(settings.ldam_margin)

    def constants_of(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the margins, shape (classes,)."""
        return np.asarray(self.margin * (counts.min() / counts) ** 0.25)

    def __call__(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row."""
        return functional.cross_entropy(scores - self.constants(scores) * targets, targets, reduction="none")

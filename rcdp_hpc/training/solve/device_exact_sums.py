"""Exact sums of the rows of one unit on the device of the states; they are copied to the host when the unit ends.

Products, rounding and limits are those of `rcdp_hpc.training.solve.exact_sums`. The sums of a group of rows in float64
may differ from those of the CPU in their last bits, which changes a rounded sum by one quantum at most.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.training.solve.exact_sums import BITS, ExactSums, packed_column, refuse_not_finite, refuse_too_large

# Matrices of X'X that exist at once: the sums, a product, and its rounded numbers.
MATRICES = 3


class DeviceExactSums:
    """The sums of `ExactSums` on a device.

    Parameters
    ----------
    features, classes : int
        F and K.
    by_class : bool
        Whether X'X is kept for each class.
    device : torch.device

    Attributes
    ----------
    xx : torch.Tensor, shape (G, F, F), int64
    xy : torch.Tensor, shape (F, K), int64
    counts : numpy.ndarray, shape (K,), int64
    """

    def __init__(self, features: int, classes: int, by_class: bool, device: torch.device) -> None:
        self.by_class = by_class
        self.xx = torch.zeros((classes if by_class else 1, features, features), dtype=torch.int64, device=device)
        self.xy = torch.zeros((features, classes), dtype=torch.int64, device=device)
        self.counts = np.zeros(classes, np.int64)

    def add_blocks(self, blocks: list[tuple[torch.Tensor, NDArray[np.int64]]]) -> None:
        """Add a group of rows; parameters and errors as of `ExactSums.add_blocks`."""
        features = torch.cat([states.to(self.xx.device, torch.float64) for states, _ in blocks])
        labels = np.concatenate([numbers for _, numbers in blocks])
        refuse_not_finite(bool(features.isfinite().all()))
        classes = len(self.counts)
        targets = torch.from_numpy(np.eye(classes)[labels]).to(features.device)
        self.xy += _rounded(features.T @ targets)
        self.counts += np.bincount(labels, minlength=classes)
        for group, sums in enumerate(self.xx):
            rows = features
            if self.by_class:
                rows = features[torch.from_numpy(np.flatnonzero(labels == group)).to(features.device)]
            if len(rows):
                sums += _rounded(rows.T @ rows)
        squares = self.xx.diagonal(dim1=1, dim2=2).double().sum(0)
        refuse_too_large(float(squares.max()) * 2.0**-BITS if len(squares) else 0.0, int(self.counts.sum()))

    def on_host(self) -> ExactSums:
        """Return the sums in main memory."""
        groups, width = self.xx.shape[:2]
        host = ExactSums.empty(width, len(self.counts), self.by_class)
        for group in range(groups):
            # Of the lower triangle by rows: the columns of the upper one.
            lower = self.xx[group].cpu().numpy()
            for column in range(width):
                host.xx[group, packed_column(column)] = lower[column, : column + 1]
        host.xy[:] = self.xy.cpu().numpy()
        host.counts[:] = self.counts
        return host


def device_bytes(features: int, classes: int, by_class: bool) -> int:
    """Return the bytes that the sums of a unit need on a device."""
    groups = classes if by_class else 1
    return 8 * features * (features * (groups + MATRICES - 1) + 2 * classes)


def _rounded(sums: torch.Tensor) -> torch.Tensor:
    """Return float64 sums as multiples of the quantum."""
    if sums.numel():
        refuse_too_large(float(sums.abs().max()), None)
    # The quantum is a power of two, so the multiplication is exact.
    return (sums * 2.0**BITS).round_().long()

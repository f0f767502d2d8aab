"""Adam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from rcdp_hpc.training.optim.optimizers.on_device import DeviceOptimizer, Tensors


class Adam(DeviceOptimizer, torch.optim.Adam):
    """Adam (Kingma and Ba 2015), one pass over all tensors per step.

    Parameters
    ----------
    params : iterable
        Tensors, or groups of them.
    lr : float
        Learning rate.
    weight_decay : float
        L2 penalty: its gradient is added to that of the loss.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, fused=True)

    def _update(self, weights: Tensors, gradients: Tensors, group: dict[str, Any]) -> None:
        self._adam_step(weights, gradients, group, decoupled=False)

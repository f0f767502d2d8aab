"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from rcdp_hpc.config import Config


class SGD(torch.optim.SGD):
    """Stochastic gradient descent with momentum, one pass over each tensor per step.

    Parameters
    ----------
    params : iterable
        Tensors, or groups of them.
    lr : float
        Learning rate.
    momentum : float
        Decay of the moving sum of gradients; 0 is none.
    weight_decay : float
        L2 penalty: its gradient is added to that of the loss.
    nesterov : bool
        Whether the momentum is Nesterov's.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True)

    @classmethod
    def options(cls, config: Config) -> dict[str, Any]:
        """Return the arguments that ``[optimizer]`` sets besides the learning rate and the weight decay."""
        return {"momentum": config.optimizer.momentum, "nesterov": config.optimizer.nesterov}

"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from rcdp_hpc.config import Config
from rcdp_hpc.training.optim.optimizers.on_device import DeviceOptimizer, Tensors


class SGD(DeviceOptimizer, torch.optim.SGD):
    """Stochastic gradient descent with momentum, one pass over all tensors per step.

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

    def _update(self, weights: Tensors, gradients: Tensors, group: dict[str, Any]) -> None:
        moving_sums = self._moving_sums(weights) if group["momentum"] else []
        torch._fused_sgd_(
            weights, gradients, moving_sums,
            lr=group["lr"], momentum=group["momentum"], weight_decay=group["weight_decay"], dampening=0.0,
            nesterov=group["nesterov"], maximize=False, is_first_step=False, grad_scale=None, found_inf=self.found_inf,
        )  # fmt: skip

    def _moving_sums(self, weights: Tensors) -> Tensors:
        """Return the moving sum of the gradients of each tensor.

        It is 0 before the first step, which then is a step as all others, also if it has to change nothing.
        """
        for values in weights:
            if self.state[values].get("momentum_buffer") is None:
                self.state[values]["momentum_buffer"] = torch.zeros_like(values)
        return [self.state[values]["momentum_buffer"] for values in weights]

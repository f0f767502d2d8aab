"""The optimisers that a configuration may name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from rcdp_hpc.config import Config
from rcdp_hpc.training.optim.muon import Muon
from rcdp_hpc.training.optim.per_tensor import PerTensorOptimizer


class Lamb(PerTensorOptimizer):
    """Layer-wise adaptive moments for large batches.

    With the gradient g_t, the weights x of one tensor, and all products elementwise:

    - ``m_t = b1 m_(t-1) + (1 - b1) g_t`` and ``v_t = b2 v_(t-1) + (1 - b2) g_t^2``
    - ``r_t = (m_t / (1 - b1^t)) / (sqrt(v_t / (1 - b2^t)) + eps)``
    - ``u_t = r_t + weight_decay x_t``
    - ``x_(t+1) = x_t - lr (|x_t| / |u_t|) u_t``

    with Euclidean norms; where one of them is 0 their ratio counts as 1 (You et al., "Large batch optimization for deep
    learning: training BERT in 76 minutes", 2020, algorithm 2, with phi the identity).

    Parameters
    ----------
    params : iterable
        Tensors, or groups of them.
    lr : float
        Learning rate.
    betas : tuple of float
        b1 and b2.
    eps : float
        What keeps the quotient away from a division by zero.
    weight_decay : float
        Share of the weights in the step, not in the moments.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update(self, weights: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        first, second = self._adam_moments(weights, gradient, group["betas"])
        update = first / (second.sqrt() + group["eps"]) + group["weight_decay"] * weights
        lengths = weights.norm(), update.norm()
        trust = torch.where((lengths[0] > 0) & (lengths[1] > 0), lengths[0] / lengths[1], torch.ones_like(lengths[0]))
        weights.sub_(group["lr"] * trust * update)


def make_optimizer(config: Config, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of ``optimizer.kind``.

    Adam and SGD take ``optimizer.weight_decay`` into the gradient, AdamW, LAMB and Muon into the step (decoupled).
    """
    weights = [weights for weights in network.parameters() if weights.requires_grad]
    rate, decay = config.optimizer.learning_rate, config.optimizer.weight_decay
    if config.optimizer.kind == "sgd":
        return torch.optim.SGD(
            weights,
            lr=rate,
            momentum=config.optimizer.momentum,
            weight_decay=decay,
            nesterov=config.optimizer.nesterov,
            fused=True,
        )
    if config.optimizer.kind == "muon":
        dtype = torch.bfloat16 if config.training.precision == "bf16" else torch.float32
        return Muon(weights, lr=rate, momentum=config.optimizer.momentum, weight_decay=decay, dtype=dtype)
    if config.optimizer.kind == "lamb":
        return Lamb(weights, lr=rate, weight_decay=decay)
    # Fused: one pass over each tensor. Readouts are small, and a dozen calls a tensor take longer than the arithmetic.
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer.kind]
    return kind(weights, lr=rate, weight_decay=decay, fused=True)

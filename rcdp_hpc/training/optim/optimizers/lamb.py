"""LAMB: layer-wise adaptive moments for large batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from rcdp_hpc.training.optim.optimizers.per_tensor import PerTensorOptimizer


class Lamb(PerTensorOptimizer):
    """Layer-wise adaptive moments for large batches.

    With the gradient g_t, the weights x of one tensor, and all products elementwise:

    - ``m_t = b1 m_(t-1) + (1 - b1) g_t`` and ``v_t = b2 v_(t-1) + (1 - b2) g_t^2``
    - ``r_t = (m_t / (1 - b1^t)) / (sqrt(v_t / (1 - b2^t)) + eps)``
    - ``u_t = r_t + weight_decay x_t``
    - ``x_(t+1) = x_t - lr (|x_t| / |u_t|) u_t``

    with Euclidean norms; if one of the norms is 0, their ratio is replaced by 1 (You et al., "Large batch optimization
    for deep learning: training BERT in 76 minutes", 2020, algorithm 2, with phi the identity).

    Parameters
    ----------
    params : iterable
        Tensors, or groups of them.
    lr : float
        Learning rate.
    betas : tuple of float
        b1 and b2.
    eps : float
        Added to the denominator of r_t.
    weight_decay : float
        Decoupled weight decay: part of the step, not of the moments.
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

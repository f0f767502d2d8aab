"""LAMB: layer-wise adaptive moments for large batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from rcdp_hpc.training.optim.optimizers.on_device import DeviceOptimizer, GradientMask, Tensors, rate_of, unless


class Lamb(DeviceOptimizer):
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

    def _update(self, weights: Tensors, gradients: Tensors, group: dict[str, Any]) -> None:
        steps, first, second = self._adam_state(weights)
        flag = None if self.found_inf is None else self.found_inf.bool()
        scratch = self._scratch_of(weights, lambda: _Scratch(weights, group))
        gradients = scratch.mask.of(gradients, flag)
        (b1, b2), decays = group["betas"], unless(flag, scratch.betas).unbind()
        torch._foreach_add_(steps, 1)
        torch._foreach_mul_(first, decays[0])
        torch._foreach_add_(first, gradients, alpha=1 - b1)
        torch._foreach_mul_(second, decays[1])
        torch._foreach_addcmul_(second, gradients, gradients, value=1 - b2)
        corrections = (1 - scratch.betas[:, None] ** torch.stack(steps)).flatten().unbind()
        updates = torch._foreach_div(first, corrections[: len(steps)])
        scales = torch._foreach_div(second, corrections[len(steps) :])
        torch._foreach_sqrt_(scales)
        torch._foreach_add_(scales, group["eps"])
        torch._foreach_div_(updates, scales)
        torch._foreach_add_(updates, weights, alpha=group["weight_decay"])
        trusts = _trust_ratios(weights, list(updates)) * rate_of(group, self.found_inf, weights[0].device)
        torch._foreach_mul_(updates, trusts.unbind())
        torch._foreach_sub_(weights, updates)
        if self.found_inf is not None:
            torch._foreach_sub_(steps, [self.found_inf] * len(steps))


class _Scratch:
    """What a step uses: buffers, and the decay rates of the moments."""

    def __init__(self, weights: Tensors, group: dict[str, Any]) -> None:
        self.mask = GradientMask(weights)
        self.betas = torch.tensor(group["betas"], dtype=torch.float64, device=weights[0].device)


def _trust_ratios(weights: Tensors, updates: Tensors) -> torch.Tensor:
    """Return the norm of each tensor over that of its update, or 1 where one of them is 0, shape (tensors,)."""
    norms = torch.stack(torch._foreach_norm([*weights, *updates])).view(2, -1)
    return torch.where((norms > 0).all(0), norms[0] / norms[1], 1.0)

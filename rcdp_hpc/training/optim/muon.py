"""The optimiser Muon: steps of matrices and kernels along orthogonal directions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from rcdp_hpc.training.optim.per_tensor import PerTensorOptimizer

# Of the quintic a x + b x^3 + c x^5 that takes singular values from 0 .. 1 to about 1 (Jordan et al. 2024).
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# The root of the mean square of an AdamW step, as Liu et al. measured it, in learning rates.
ADAM_STEP = 0.2


class Muon(PerTensorOptimizer):
    """Momentum, orthogonalised, for weights of two axes and more; AdamW for all others.

    A kernel of a convolution is taken as the matrix (channels, all the rest). With its gradient g_t, seen as p x q,

    - ``m_t = mu m_(t-1) + g_t`` and ``n_t = g_t + mu m_t`` (Nesterov's momentum)
    - ``O_t`` about ``U V'``, where ``n_t = U S V'`` (`orthogonalised`)
    - ``x_(t+1) = x_t - lr (0.2 sqrt(max(p, q)) O_t + weight_decay x_t)``

    (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024). The factor, of Liu et al. ("Muon
    is scalable for LLM training", 2025), makes a step as long as one of AdamW, so that one rate suits both.

    Parameters
    ----------
    params : iterable
        Tensors, or groups of them.
    lr : float
        Learning rate.
    momentum : float
        mu.
    betas : tuple of float
        Those of AdamW.
    eps : float
        AdamW's, which keeps the quotient away from a division by zero.
    weight_decay : float
        Share of the weights in the step.
    dtype : torch.dtype
        What matrices are multiplied in on the way to O_t; bfloat16 is enough.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "dtype": dtype})

    def _update(self, weights: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        weights.mul_(1 - group["lr"] * group["weight_decay"])
        (self._matrix if weights.ndim > 1 else self._vector)(weights, gradient, group)

    def _matrix(self, weights: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state, momentum = self.state[weights], group["momentum"]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weights)
        moving = state["momentum_buffer"].mul_(momentum).add_(gradient)
        ahead = gradient.add(moving, alpha=momentum).flatten(1)
        update = orthogonalised(ahead, group["dtype"]).view_as(weights)
        weights.sub_(update, alpha=group["lr"] * ADAM_STEP * max(ahead.shape) ** 0.5)

    def _vector(self, weights: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        first, second = self._adam_moments(weights, gradient, group["betas"])
        weights.addcdiv_(first, second.sqrt().add_(group["eps"]), value=-group["lr"])


def orthogonalised(matrix: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return about U V' of a matrix U S V', shape and dtype kept; 0 of 0.

    Newton and Schulz's iteration from X = M / |M|: ``X <- a X + b A X + c A A X`` with A = X X', five times. What
    remains of S lies in 0.7 .. 1.2, except where it was far below the largest.

    Parameters
    ----------
    matrix : torch.Tensor, shape (p, q)
    dtype : torch.dtype
        What is multiplied in.
    """
    a, b, c = QUINTIC
    x = (matrix / matrix.norm().clamp_min(1e-30)).to(dtype)
    tall = len(x) > x.shape[1]
    x = x.T if tall else x
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)

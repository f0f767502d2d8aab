"""The optimiser Muon: matrices and kernels are updated along orthogonal directions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from rcdp_hpc.config import Config
from rcdp_hpc.training.optim.optimizers.per_tensor import PerTensorOptimizer

# Coefficients a, b, c of the quintic a x + b x^3 + c x^5 that maps singular values from 0 .. 1 to about 1 (Jordan et
# al. 2024).
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# Root mean square of an AdamW step in units of the learning rate, as measured by Liu et al.
ADAM_STEP = 0.2


class Muon(PerTensorOptimizer):
    """Orthogonalised momentum for weights with two or more axes; AdamW for all others.

    The kernel of a convolution is treated as a matrix of shape (channels, all other axes). With the gradient g_t,
    reshaped to p x q,

    - ``m_t = mu m_(t-1) + g_t`` and ``n_t = g_t + mu m_t`` (Nesterov's momentum)
    - ``O_t``, an approximation of ``U V'``, with ``n_t = U S V'`` (`orthogonalised`)
    - ``x_(t+1) = x_t - lr (0.2 sqrt(max(p, q)) O_t + weight_decay x_t)``

    (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024). The factor, from Liu et al. ("Muon
    is scalable for LLM training", 2025), makes a step as long as one of AdamW, so that one learning rate suits both.

    Parameters
    ----------
    params : iterable
        Tensors, or groups of them.
    lr : float
        Learning rate.
    momentum : float
        mu.
    betas : tuple of float
        Decay rates of AdamW's moments.
    eps : float
        Added to the denominator of AdamW's step.
    weight_decay : float
        Decoupled weight decay.
    dtype : torch.dtype
        Number format of the matrix products that give O_t; bfloat16 is precise enough.
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

    @classmethod
    def options(cls, config: Config) -> dict[str, Any]:
        """Return the arguments that the configuration sets besides the learning rate and the weight decay."""
        dtype = torch.bfloat16 if config.training.precision == "bf16" else torch.float32
        return {"momentum": config.optimizer.momentum, "dtype": dtype}

    def _update(self, weights: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        weights.mul_(1 - group["lr"] * group["weight_decay"])
        (self._update_matrix if weights.ndim > 1 else self._update_vector)(weights, gradient, group)

    def _update_matrix(self, weights: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state, momentum = self.state[weights], group["momentum"]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weights)
        moving_sum = state["momentum_buffer"].mul_(momentum).add_(gradient)
        matrix = gradient.add(moving_sum, alpha=momentum).flatten(1)
        update = orthogonalised(matrix, group["dtype"]).view_as(weights)
        weights.sub_(update, alpha=group["lr"] * ADAM_STEP * max(matrix.shape) ** 0.5)

    def _update_vector(self, weights: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        first, second = self._adam_moments(weights, gradient, group["betas"])
        weights.addcdiv_(first, second.sqrt().add_(group["eps"]), value=-group["lr"])


def orthogonalised(matrix: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return an approximation of U V' for a matrix U S V', with the same shape and dtype; 0 for a matrix of zeros.

    Five Newton-Schulz iterations from X = M / |M|: ``X <- a X + b A X + c A A X`` with A = X X'. The singular values of
    the result are in 0.7 .. 1.2, except those that were far below the largest.

    Parameters
    ----------
    matrix : torch.Tensor, shape (p, q)
    dtype : torch.dtype
        Number format of the products.
    """
    a, b, c = QUINTIC
    x = (matrix / matrix.norm().clamp_min(1e-30)).to(dtype)
    tall = len(x) > x.shape[1]
    x = x.T if tall else x
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)

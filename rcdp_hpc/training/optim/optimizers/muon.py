"""The optimiser Muon: matrices and kernels are updated along orthogonal directions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from rcdp_hpc.config import Config
from rcdp_hpc.training.optim.optimizers.on_device import DeviceOptimizer, GradientMask, Tensors, rate_of, unless
from rcdp_hpc.training.optim.optimizers.orthogonal import Orthogonaliser

# Root mean square of an AdamW step in units of the learning rate, as measured by Liu et al.
ADAM_STEP = 0.2


class Muon(DeviceOptimizer):
    """Orthogonalised momentum for weights with two or more axes; AdamW for all others.

    The kernel of a convolution is treated as a matrix of shape (channels, all other axes). With the gradient g_t,
    reshaped to p x q,

    - ``m_t = mu m_(t-1) + g_t`` and ``n_t = g_t + mu m_t`` (Nesterov's momentum)
    - ``O_t``, an approximation of ``U V'``, with ``n_t = U S V'`` (`Orthogonaliser`)
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

    def _update(self, weights: Tensors, gradients: Tensors, group: dict[str, Any]) -> None:
        for update, of_matrices in ((self._update_matrices, True), (self._update_vectors, False)):
            chosen = [pair for pair in zip(weights, gradients, strict=True) if (pair[0].ndim > 1) == of_matrices]
            if chosen:
                update([values for values, _ in chosen], [gradient for _, gradient in chosen], group)

    def _update_matrices(self, weights: Tensors, gradients: Tensors, group: dict[str, Any]) -> None:
        scratch = self._scratch_of(weights, lambda: _Scratch(weights, group))
        flag = None if self.found_inf is None else self.found_inf.bool()
        gradients = scratch.mask.of(gradients, flag)
        moving_sums = self._moving_sums(weights)
        torch._foreach_mul_(moving_sums, unless(flag, scratch.momentum))
        torch._foreach_add_(moving_sums, gradients)
        directions = torch._foreach_add(gradients, moving_sums, alpha=group["momentum"])
        updates = scratch.orthogonaliser(list(directions))
        rate = rate_of(group, self.found_inf, weights[0].device)
        torch._foreach_mul_(weights, torch.rsub(rate, 1, alpha=group["weight_decay"]))
        torch._foreach_addcmul_(weights, updates, (rate * scratch.lengths).unbind(), value=-1)

    def _update_vectors(self, weights: Tensors, gradients: Tensors, group: dict[str, Any]) -> None:
        self._adam_step(weights, gradients, group, decoupled=True)

    def _moving_sums(self, weights: Tensors) -> Tensors:
        for values in weights:
            if not self.state[values]:
                self.state[values]["momentum_buffer"] = torch.zeros_like(values)
        return [self.state[values]["momentum_buffer"] for values in weights]


class _Scratch:
    """What a step of some matrices uses: buffers and constants.

    Attributes
    ----------
    momentum : torch.Tensor, 0-dim
    lengths : torch.Tensor, shape (matrices,)
        Length of a step of each matrix in units of the learning rate.
    """

    def __init__(self, weights: Tensors, group: dict[str, Any]) -> None:
        device, shapes = weights[0].device, [values.shape for values in weights]
        self.mask = GradientMask(weights)
        self.orthogonaliser = Orthogonaliser(shapes, group["dtype"], device)
        self.momentum = torch.tensor(group["momentum"], dtype=torch.float64, device=device)
        lengths = [ADAM_STEP * max(shape[0], math.prod(shape[1:])) ** 0.5 for shape in shapes]
        self.lengths = torch.tensor(lengths, dtype=torch.float64, device=device)

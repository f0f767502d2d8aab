"""Weights in the 16 bits of a mixed-precision step, cast together instead of one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

# Layers whose weights and biases torch.autocast casts for their products, and that use them for nothing else.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
# Each tensor starts at a multiple of so many elements, as kernels for matrix products prefer.
ALIGNMENT = 64


def halved_weights(network: nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return the weights of linear layers and convolutions in 16 bits, as a differentiable function of them.

    The values and gradients are those of torch.autocast, which needs a call for each tensor and each gradient.

    Parameters
    ----------
    network : nn.Module
    dtype : torch.dtype

    Returns
    -------
    dict of str to torch.Tensor
        By the names of the network's parameters.
    """
    weights: dict[str, torch.Tensor] = {}
    for name, module in network.named_modules():
        if type(module) in LAYERS:
            own = module.named_parameters(prefix=name, recurse=False)
            weights.update({key: value for key, value in own if value.requires_grad})
    if not weights:
        return {}
    return dict(zip(weights, _Cast.apply(dtype, *weights.values()), strict=True))


class _Cast(torch.autograd.Function):
    """Tensors in another number format, in one piece of memory, and their gradients in that of the tensors."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.dtype = weights[0].dtype
        return tuple(_copied(weights, dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, *_copied(gradients, ctx.dtype)


def _copied(values: Sequence[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    """Return contiguous copies of tensors in a number format."""
    sizes = [-(-value.numel() // ALIGNMENT) * ALIGNMENT for value in values]
    room = torch.empty(sum(sizes), dtype=dtype, device=values[0].device).split(sizes)
    copies = [part[: value.numel()].view(value.shape) for part, value in zip(room, values, strict=True)]
    torch._foreach_copy_(copies, list(values))
    return copies

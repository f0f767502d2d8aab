"""Training with weights that are rounded to 8 bits in each forward pass."""

from __future__ import annotations

import torch
from torch import nn

from rcdp_hpc.model.packing import LARGEST_CODE
from rcdp_hpc.model.quantization import is_rounded


def rounded_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the matrices of a network rounded to 8 bits, as a differentiable function of its weights.

    Each tensor of two or more axes (matrices, kernels of convolutions) becomes ``w' = s round(w / s)`` with the scale
    ``s = max |w| / 127`` of its channel along the first axis: the values of `rcdp_hpc.model.packing.Quantized`. The
    gradient by w is that by w', as if nothing was rounded: the straight-through estimator (Bengio, Leonard and
    Courville, arXiv:1308.3432; Jacob et al., arXiv:1712.05877, section 3). No value is cut off, since the largest
    absolute value of a channel has the code 127.

    Parameters
    ----------
    network : nn.Module

    Returns
    -------
    dict of str to torch.Tensor
        By the names of the network's state, one for each tensor of a layer, so that ``torch.func.functional_call``
        needs ``tie_weights=False``. Vectors (biases, normalisations) are not in it.
    """
    rounded: dict[str, torch.Tensor] = {}
    # Weights that layers share are rounded once; a layer that is used in several places has one name.
    by_weights: dict[torch.Tensor, torch.Tensor] = {}
    for path, layer in network.named_modules():
        own = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        for name, value in own:
            if name not in layer._non_persistent_buffers_set and is_rounded(value):
                if value not in by_weights:
                    by_weights[value] = _straight_through(value)
                rounded[f"{path}.{name}".lstrip(".")] = by_weights[value]
    return rounded


def _straight_through(weights: torch.Tensor) -> torch.Tensor:
    exact = weights.detach()
    largest = exact.abs().flatten(1).amax(1).double()
    scale = (largest / LARGEST_CODE).to(exact.dtype)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale).view(-1, *[1] * (exact.ndim - 1))
    codes = torch.round(exact / scale).clamp(-LARGEST_CODE, LARGEST_CODE)
    return _Replaced.apply(weights, codes * scale)  # type: ignore[no-any-return, no-untyped-call]


class _Replaced(torch.autograd.Function):
    """Other values with the gradient of the given ones."""

    @staticmethod
    def forward(context: object, weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return values

    @staticmethod
    def backward(context: object, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None

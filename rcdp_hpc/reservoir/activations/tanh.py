"""The activation ``tanh``."""

from __future__ import annotations

import torch
from torch import Tensor

from rcdp_hpc.reservoir.activations.base import Activation


class Tanh(Activation):
    """f(x) = tanh(x)."""

    bound = 1.0
    onednn = "tanh"
    native = True

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        return torch.tanh(x)

    def apply_(self, x: Tensor) -> Tensor:
        """Replace `x` by f(x) in place."""
        return x.tanh_()

"""The activation ``sigmoid``."""

from __future__ import annotations

import torch
from torch import Tensor

from rcdp_hpc.reservoir.activations.base import Activation


class Sigmoid(Activation):
    """f(x) = 1 / (1 + exp(-x))."""

    bound = 1.0
    onednn = "sigmoid"
    native = True

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        return torch.sigmoid(x)

    def apply_(self, x: Tensor) -> Tensor:
        """Replace `x` by f(x) in place."""
        return x.sigmoid_()

"""The activation ``relu``."""

from __future__ import annotations

import torch
from torch import Tensor

from rcdp_hpc.reservoir.activations.base import Activation


class Relu(Activation):
    """f(x) = max(0, x)."""

    onednn = "relu"
    native = True

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        return torch.relu(x)

    def apply_(self, x: Tensor) -> Tensor:
        """Replace `x` by f(x) in place."""
        return x.relu_()

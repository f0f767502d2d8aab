"""The running statistics of normalisation layers."""

from __future__ import annotations

import torch
from torch import nn


def running_statistics(network: nn.Module) -> list[torch.Tensor]:
    """Return the running statistics of all normalisation layers: the buffers that a training step changes."""
    norms = [module for module in network.modules() if hasattr(module, "running_mean")]
    return [buffer for module in norms for buffer in module.buffers(recurse=False)]

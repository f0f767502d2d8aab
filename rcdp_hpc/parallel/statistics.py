"""The running statistics of normalisations, which ranks have to agree on."""

from __future__ import annotations

import torch
from torch import nn


def running_statistics(network: nn.Module) -> list[torch.Tensor]:
    """Return the buffers that a forward pass in training changes: the running statistics of normalisations."""
    norms = [module for module in network.modules() if hasattr(module, "running_mean")]
    return [buffer for module in norms for buffer in module.buffers(recurse=False)]

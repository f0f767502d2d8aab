"""The strategy in which all ranks train one network together, step by step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rcdp_hpc.parallel.base import Strategy


class Synchronous(Strategy):
    """Synchronous data parallelism: gradients and batch statistics are summed over all ranks in every step."""

    def wrap(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, during_backward: bool = True
    ) -> torch.optim.Optimizer:
        """Return the engine's optimizer, whose gradients it can sum."""
        return self.engine.wrap(optimizer, model, during_backward)

    def sum(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the sum over all ranks."""
        return self.engine.sum(values, name)

    def expect_passes(self, optimizer: Any, count: int) -> None:
        """Make the engine sum the gradients in the last of this number of backward passes."""
        self.engine.expect_passes(optimizer, count)

    def sum_gradients(self, optimizer: Any) -> None:
        """Replace the gradients of this rank by their sums over ranks."""
        self.engine.sum_gradients(optimizer)

    def update(self, optimizer: Any) -> None:
        """Update the weights, equally on all ranks."""
        self.engine.update(optimizer)

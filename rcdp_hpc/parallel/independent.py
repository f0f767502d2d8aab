"""Strategies in which ranks take steps independently: the interface they share, and replicas that never meet."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rcdp_hpc.parallel.base import Strategy


class OwnSteps(Strategy):
    """Each rank takes steps with its own gradients and batch statistics."""

    syncs_gradients = False

    def wrap(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, during_backward: bool = True
    ) -> torch.optim.Optimizer:
        """Return the optimizer itself."""
        return optimizer

    def sum(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the tensor itself: each rank has its own batch statistics."""
        return values

    def expect_passes(self, optimizer: Any, count: int) -> None:
        """Do nothing: gradients are not summed."""

    def sum_gradients(self, optimizer: Any) -> None:
        """Do nothing: each rank has its own gradients."""

    def update(self, optimizer: Any) -> None:
        """Update this rank's weights."""
        optimizer.step()


class IndependentReplicas(OwnSteps):
    """Each rank trains a network of its own to the end (``parallel.replicas``)."""

    independent = True

"""The engine of a single process."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.parallel.base import Engine, Strategy
from rcdp_hpc.parallel.synchronous import Synchronous


class SingleProcessEngine(Engine):
    """The engine of one process: its values are the sums over all ranks."""

    name = "a single process"
    alone = True

    def wrap(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, during_backward: bool = True
    ) -> torch.optim.Optimizer:
        """Return the optimizer itself."""
        return optimizer

    def expect_passes(self, optimizer: Any, count: int) -> None:
        """Do nothing."""

    def sum_gradients(self, optimizer: Any) -> None:
        """Do nothing."""

    def update(self, optimizer: Any) -> None:
        """Update the weights with the current gradients."""
        optimizer.step()

    def allreduce(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the tensor itself."""
        return values

    def sum(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the tensor itself."""
        return values

    def broadcast_model(self, model: nn.Module) -> None:
        """Do nothing."""

    def exchange(self, rows: torch.Tensor, counts: NDArray[np.int64]) -> torch.Tensor:
        """Return the rows themselves."""
        return rows


def single_process() -> Strategy:
    """Return the strategy of one process, for networks and trainings without other ranks."""
    return Synchronous(SingleProcessEngine())

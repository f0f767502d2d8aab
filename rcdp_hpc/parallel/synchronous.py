"""The strategy in which all ranks train one network together, step by step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rcdp_hpc.parallel.base import Engine, Strategy
from rcdp_hpc.parallel.statistics import PooledStatistics


class Synchronous(Strategy):
    """Synchronous data parallelism: gradients and batch statistics are summed over all ranks in every step.

    Parameters
    ----------
    engine : Engine
    batch_statistics : {"all", "rank"}
        "rank" normalises the rows of a rank by their own statistics. The passes of a step then send nothing; one
        message after them adds the statistics of all ranks to the running ones, which stay equal.
    """

    def __init__(self, engine: Engine, batch_statistics: str = "all") -> None:
        super().__init__(engine)
        self.batch_statistics = batch_statistics
        self.statistics: PooledStatistics | None = None

    @property
    def sums_batches(self) -> bool:
        """Whether the batch statistics of a pass are sums over ranks."""
        return self.sums_over_ranks and self.batch_statistics == "all"

    def wrap(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, during_backward: bool = True
    ) -> torch.optim.Optimizer:
        """Return the engine's optimizer, whose gradients it can sum."""
        if self.pools_statistics:
            self.statistics = PooledStatistics(model, self.engine)
        return self.engine.wrap(optimizer, model, during_backward)

    def sum(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the sum over all ranks."""
        return self.engine.sum(values, name)

    def expect_passes(self, optimizer: Any, count: int) -> None:
        """Make the engine sum the gradients in the last of this number of backward passes."""
        self.engine.expect_passes(optimizer, count)

    def sum_gradients(self, optimizer: Any) -> None:
        """Replace the gradients of this rank by their sums over ranks, and update pooled running statistics."""
        self.engine.sum_gradients(optimizer)
        if self.statistics is not None:
            self.statistics.update()

    def update(self, optimizer: Any) -> None:
        """Update the weights, equally on all ranks."""
        self.engine.update(optimizer)

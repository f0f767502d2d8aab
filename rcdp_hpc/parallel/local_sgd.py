"""Ranks that step by themselves: their weights are averaged every few steps, or never."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rcdp_hpc.parallel.horovod import HorovodEngine
from rcdp_hpc.parallel.statistics import running_statistics


class LocalSGD(HorovodEngine):
    """Local SGD: ranks take steps by themselves, and every so many steps their weights are averaged.

    ``x <- sum_r n_r x_r / sum_r n_r``, n_r the rows that rank r took steps with since the last time (McMahan et al.
    2017; with equal shares, the local SGD of Stich 2019). The optimiser's moments and the running statistics are
    averaged with the weights, so that all ranks are equal then, and one checkpoint is that of all.
    """

    local = True

    def wrap(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return optimizer

    def sum(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the tensor: batch statistics are this rank's own."""
        return values

    def expect_passes(self, optimizer: Any, count: int) -> None:
        """Do nothing: no pass is waited for."""

    def sum_gradients(self, optimizer: Any) -> None:
        """Do nothing: the gradients are this rank's own."""

    def update(self, optimizer: Any) -> None:
        """Update this rank's weights."""
        optimizer.step()

    def average(self, network: nn.Module, optimizer: Any, rows: int) -> None:
        """Put the mean over ranks, weighted by rows, in place of weights, moments and statistics, by one message."""
        moments = [value for state in optimizer.state_dict()["state"].values() for value in state.values()]
        # Counts of steps are the same on all ranks, and would not come back whole from float32.
        moments = [value for value in moments if torch.is_tensor(value) and value.ndim]
        trained = [weights for weights in network.parameters() if weights.requires_grad]
        values = [*trained, *running_statistics(network), *moments]
        flat = torch.cat([value.detach().float().flatten() * rows for value in values])
        total = self.allreduce(torch.cat([flat, flat.new_tensor([rows])]), "rcdp.average")
        for value, mean in zip(values, (total[:-1] / total[-1]).split([v.numel() for v in values]), strict=True):
            value.detach().copy_(mean.view(value.shape))


class IndependentReplicas(LocalSGD):
    """Ranks that train networks of their own to the end (`slices`)."""

    apart = True

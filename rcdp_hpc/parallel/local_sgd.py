"""Strategies in which ranks take steps independently: their weights are averaged every few steps, or never."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rcdp_hpc.parallel.horovod import HorovodEngine
from rcdp_hpc.parallel.statistics import running_statistics


class LocalSGD(HorovodEngine):
    """Local SGD: each rank takes steps with its own gradients; the weights are averaged every few steps.

    ``x <- sum_r n_r x_r / sum_r n_r``, with n_r the rows of rank r since the last average (McMahan et al. 2017; with
    equal shares, the local SGD of Stich 2019). The optimiser's moments and the running statistics are averaged, too, so
    that all ranks are then equal, and one checkpoint is enough for all.
    """

    syncs_gradients = False

    def wrap(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
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

    def average(self, network: nn.Module, optimizer: Any, rows: int) -> None:
        """Replace weights, moments and statistics by their mean over ranks, weighted by `rows`, with one message."""
        moments = [value for state in optimizer.state_dict()["state"].values() for value in state.values()]
        # Step counters are equal on all ranks, and float32 does not represent all integers.
        moments = [value for value in moments if torch.is_tensor(value) and value.ndim]
        trained = [weights for weights in network.parameters() if weights.requires_grad]
        values = [*trained, *running_statistics(network), *moments]
        flat = torch.cat([value.detach().float().flatten() * rows for value in values])
        total = self.allreduce(torch.cat([flat, flat.new_tensor([rows])]), "rcdp.average")
        for value, mean in zip(values, (total[:-1] / total[-1]).split([v.numel() for v in values]), strict=True):
            value.detach().copy_(mean.view(value.shape))


class IndependentReplicas(LocalSGD):
    """Each rank trains a network of its own to the end (``parallel.replicas``)."""

    independent = True

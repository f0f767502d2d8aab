"""The strategy in which ranks take steps independently, and average their weights every few steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rcdp_hpc.parallel.independent import OwnSteps
from rcdp_hpc.parallel.statistics import running_statistics


class LocalSGD(OwnSteps):
    """Local SGD: each rank takes steps with its own gradients; the weights are averaged every few steps.

    ``x <- sum_r n_r x_r / sum_r n_r``, with n_r the rows of rank r since the last average (McMahan et al. 2017; with
    equal shares, the local SGD of Stich 2019). The optimiser's moments and the running statistics are averaged, too, so
    that all ranks are then equal, and one checkpoint is enough for all.
    """

    def average(self, network: nn.Module, optimizer: Any, rows: int) -> None:
        """Replace weights, moments and statistics by their mean over ranks, weighted by `rows`, with one message."""
        moments = [value for state in optimizer.state_dict()["state"].values() for value in state.values()]
        # Step counters are equal on all ranks, and float32 does not represent all integers.
        moments = [value for value in moments if torch.is_tensor(value) and value.ndim]
        trained = [weights for weights in network.parameters() if weights.requires_grad]
        values = [*trained, *running_statistics(network), *moments]
        flat = torch.cat([value.detach().float().flatten() * rows for value in values])
        total = self.engine.allreduce(torch.cat([flat, flat.new_tensor([rows])]), "rcdp.average")
        for value, mean in zip(values, (total[:-1] / total[-1]).split([v.numel() for v in values]), strict=True):
            value.detach().copy_(mean.view(value.shape))

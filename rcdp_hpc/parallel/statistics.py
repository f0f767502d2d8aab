"""The running statistics of normalisation layers."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import nn

from rcdp_hpc.parallel.base import Engine


def running_statistics(network: nn.Module) -> list[torch.Tensor]:
    """Return the running statistics of all normalisation layers: the buffers that a training step changes."""
    norms = [module for module in network.modules() if hasattr(module, "running_mean")]
    return [buffer for module in norms for buffer in module.buffers(recurse=False)]


class PooledStatistics:
    """Running statistics of layers that normalise the rows of each rank by the statistics of that rank.

    A forward pass of a layer adds count, sum and sum of squares of its batch to ``layer.batch_sums`` (float64: the
    sums, the sums of squares, and the count). Once a step, one message adds those of all layers over the ranks, and the
    running statistics of every rank move by the statistics of the global batch. Means of ranks have variances, too, so
    these are the statistics that ``parallel.batch_statistics = "all"`` has.

    Parameters
    ----------
    network : nn.Module
        Its layers with ``batch_sums`` are updated.
    engine : Engine
        Sums over the ranks.
    """

    def __init__(self, network: nn.Module, engine: Engine) -> None:
        self.layers: list[Any] = [module for module in network.modules() if hasattr(module, "batch_sums")]
        self.engine = engine

    @cached_property
    def _layer_of(self) -> torch.Tensor:
        """The layer of each feature."""
        widths = [len(layer.running_mean) for layer in self.layers]
        places = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))
        return places.to(self.layers[0].running_mean.device)

    @cached_property
    def _momenta(self) -> torch.Tensor:
        momenta = [layer.momentum for layer in self.layers]
        return torch.tensor(momenta, dtype=torch.float64, device=self._layer_of.device)

    def update(self) -> None:
        """Add the batch sums of all ranks to the running statistics, and set them to 0. Collective."""
        if not self.layers:
            return
        widths = [len(layer.running_mean) for layer in self.layers]
        sums = [layer.batch_sums for layer in self.layers]
        features, parts = sum(widths), zip(sums, widths, strict=True)
        firsts, squares, counts = zip(*(values.split([width, width, 1]) for values, width in parts), strict=True)
        total = self.engine.allreduce(torch.cat([*firsts, *squares, *counts]), "rcdp.statistics")
        counted = total[2 * features :]
        count = counted.clamp_min(1)[self._layer_of]
        mean = total[:features] / count
        variance = (total[features : 2 * features] / count - mean * mean).clamp_min(0)
        unbiased = variance * (count / (count - 1).clamp_min(1))
        # As in a single process: the weight of a batch is proportional to its size.
        largest = [layer.largest_batch for layer in self.layers]
        largest_now = torch.maximum(torch.stack(largest), counted)
        torch._foreach_copy_(largest, list(largest_now.unbind()))
        weight = (self._momenta * counted / largest_now)[self._layer_of].float().split(widths)
        running = [layer.running_mean for layer in self.layers] + [layer.running_var for layer in self.layers]
        torch._foreach_lerp_(running, [*mean.float().split(widths), *unbiased.float().split(widths)], weight * 2)
        torch._foreach_zero_(sums)

"""Batch normalisation with the statistics of all ranks."""

from __future__ import annotations

import torch
from torch import nn

from rcdp_hpc.training.parallel import Alone


class SyncBatchNorm(nn.Module):
    """Batch normalisation with the statistics of the global batch, on CPU and GPU.

    ``y = (x - m) / sqrt(v + eps) * weight + bias``, m and v the mean and variance over the rows of all ranks, and over
    the places of a feature map (Ioffe and Szegedy 2015). Count, sum and sum of squares are added over ranks in float64
    by one allreduce, so that ranks may hold unequal numbers of rows, or none; ``hvd.SyncBatchNorm`` refuses tensors on
    the CPU.

    Parameters
    ----------
    width : int
        Features of the input, of shape (rows, width), or (rows, width, ...) for feature maps.
    parallel : Alone
        How sums over ranks are made.
    name : str
        Name of the allreduce, the same on all ranks.
    momentum, eps : float
        Weight of a batch in the running statistics, and what keeps the root away from 0.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    largest_batch: torch.Tensor

    def __init__(self, width: int, parallel: Alone, name: str, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.width, self.parallel, self.name, self.momentum, self.eps = width, parallel, name, momentum, eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("largest_batch", torch.ones((), dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise x, shape (rows, width) or (rows, width, ...)."""
        mean, variance = self._batch_statistics(x) if self.training else (self.running_mean, self.running_var)
        if x.ndim == 2:
            return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        # A feature map is large: one pass over it, in its own precision.
        scale = torch.rsqrt(variance + self.eps) * self.weight
        shift = self.bias - mean * scale
        form = (-1, *(1,) * (x.ndim - 2))
        return torch.addcmul(shift.view(form).to(x.dtype), x, scale.view(form).to(x.dtype))

    def _batch_statistics(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sums = self.parallel.sum(_sums(x), self.name)
        total = sums[-1].detach()
        mean = sums[: self.width] / total
        variance = (sums[self.width : -1] / total - mean * mean).clamp_min(0)
        with torch.no_grad():
            unbiased = variance * (total / (total - 1).clamp_min(1))
            # The last batch of an epoch may be a single row: it counts by its size.
            self.largest_batch.copy_(torch.maximum(self.largest_batch, total))
            weight = (self.momentum * total / self.largest_batch).float()
            self.running_mean.lerp_(mean.float(), weight)
            self.running_var.lerp_(unbiased.float(), weight)
        return mean.float(), variance.float()


def _sums(x: torch.Tensor) -> torch.Tensor:
    """Return sum and sum of squares of each feature, and the count, shape (2 * width + 1,), float64."""
    count = x.new_full((1,), float(x.numel() // x.shape[1]), dtype=torch.float64)
    if x.ndim == 2 or not len(x):
        wide = x.double().transpose(0, 1).flatten(1)
        return torch.cat([wide.sum(1), (wide * wide).sum(1), count])
    # Summing a map in float64 takes several times as long; around its mean, float32 loses nothing that matters.
    variance, mean = torch.var_mean(x.float(), dim=(0, *range(2, x.ndim)), correction=0)
    mean, variance = mean.double(), variance.double()
    return torch.cat([mean * count, (variance + mean * mean) * count, count])

"""Batch normalisation with the statistics of all ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rcdp_hpc.parallel.base import Strategy


class SyncBatchNorm(nn.Module):
    """Batch normalisation with the statistics of the global batch, on CPU and GPU.

    ``y = (x - m) / sqrt(v + eps) * weight + bias``, with m and v the mean and variance over the rows of all ranks, and
    over the positions of a feature map (Ioffe and Szegedy 2015). One allreduce in float64 adds count, sum and sum of
    squares over the ranks, so that ranks may have different numbers of rows, or none. ``hvd.SyncBatchNorm`` does not
    accept tensors on the CPU.

    A rank that normalises its rows by their own statistics (no other ranks, local steps, or ``parallel.batch_statistics
    = "rank"``) uses torch's own kernel. Its sums have another order, which changes the last digits of a result: about
    1e-6 of it in float32, one unit of the last place in bfloat16.

    Parameters
    ----------
    width : int
        Features of the input, of shape (rows, width), or (rows, width, ...) for feature maps.
    parallel : Strategy
        Sums over the ranks that share a batch.
    name : str
        Name of the allreduce, the same on all ranks.
    momentum, eps : float
        Weight of a batch in the running statistics, and the number added to the variance.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    largest_batch: torch.Tensor
    batch_sums: torch.Tensor

    def __init__(self, width: int, parallel: Strategy, name: str, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.width = width
        self.name = name
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("largest_batch", torch.ones((), dtype=torch.float64))
        # The host knows the size of a batch that has no rows on other ranks, and need not ask the device.
        self._largest = 1.0
        self.follow(parallel)

    def follow(self, parallel: Strategy) -> None:
        """Normalise with the statistics that a strategy sums."""
        self.parallel = parallel
        if parallel.pools_statistics:
            # Sums of this rank's batches since the last update: of each feature, of its square, and the count.
            sums = self.running_mean.new_zeros(2 * self.width + 1, dtype=torch.float64)
            self.register_buffer("batch_sums", sums, persistent=False)

    @property
    def largest(self) -> float:
        """The largest batch so far of a rank that is alone: a number on the host, which a recorded pass has fixed."""
        return self._largest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise x, shape (rows, width) or (rows, width, ...)."""
        if not self.training:
            if x.ndim == 2:
                scale = torch.rsqrt(self.running_var + self.eps)
                return (x - self.running_mean) * scale * self.weight + self.bias
            return _normalised(x, self.weight, self.bias, self.running_mean, self.running_var, self.eps)
        if not self.parallel.sums_batches:
            return self._of_this_rank(x)
        y, mean, variance, total = _Normalised.apply(x, self.weight, self.bias, self.parallel, self.name, self.eps)
        self._update_running(mean, variance, total)
        return y

    def _of_this_rank(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise the rows of this rank with their own statistics, and add these to the running ones."""
        count = x.numel() // self.width
        if not count:
            return _normalised(x, self.weight, self.bias, self.running_mean, self.running_var, self.eps)
        if self.parallel.alone:
            return self._by_kernel(x, count)
        y, mean, scale = torch.native_batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps)
        self._note(mean.detach().double(), scale.detach().double() ** -2 - self.eps, count)
        return y

    @torch.no_grad()
    def _note(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        """Add the statistics of this rank's batch, float64, to the running ones, or to those of the other ranks."""
        one = mean.new_ones(1)
        if self.parallel.pools_statistics:
            self.batch_sums.add_(torch.cat([mean, variance + mean * mean, one]), alpha=count)
        else:
            self._update_running(mean.float(), variance.float(), one[0] * count)

    def _by_kernel(self, x: torch.Tensor, count: int) -> torch.Tensor:
        """Normalise the rows of a single process; torch's kernel updates the running statistics.

        Their weight is a number of the host, which a recorded step repeats until there is a larger batch (`largest`).
        """
        if count > self._largest:
            self._largest = float(count)
            self.largest_batch.fill_(self._largest)
        weight = self.momentum * count / self._largest
        # The kernel divides by count - 1 for the unbiased variance; that of a single number is 0 here.
        running_mean, running_var = (self.running_mean, self.running_var) if count > 1 else (None, None)
        y, mean, _ = torch.native_batch_norm(
            x, self.weight, self.bias, running_mean, running_var, True, weight, self.eps
        )
        if count == 1:
            self.running_mean.lerp_(mean.detach(), weight)
            self.running_var.mul_(1 - weight)
        return y

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self.parallel.alone:
            # A step that is taken back restores the buffers, but has still had its size.
            self.largest_batch.fill_(self._largest)
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._largest = 1.0 if self.largest_batch.is_meta else float(self.largest_batch)

    @torch.no_grad()
    def _update_running(self, mean: torch.Tensor, variance: torch.Tensor, total: torch.Tensor) -> None:
        """Add the statistics of a batch, float32, and its size, float64, to the running statistics."""
        unbiased = variance * (total / (total - 1).clamp_min(1))
        # The last batch of an epoch may have a single row, so the weight of a batch is proportional to its size.
        torch.maximum(self.largest_batch, total, out=self.largest_batch)
        weight = (total * self.momentum / self.largest_batch).float()
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(unbiased, weight)


class _Normalised(torch.autograd.Function):
    """y = (x - m) / sqrt(v + eps) * w + b over all ranks, by kernels of torch and in the precision of x.

    With h = (x - m) / sqrt(v + eps), N rows (or positions of maps) over all ranks, and sums over all of them,

    ``dx = w / sqrt(v + eps) * (dy - sum(dy) / N - h sum(dy h) / N)``,  dw = sum(dy h) and db = sum(dy) of this rank.

    Automatic differentiation would write a map several more times, in float32, which takes as long as several
    convolutions.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        parallel: Strategy,
        name: str,
        eps: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, variance, total = _mean_and_variance(parallel.sum(_sums(x), name), len(weight))
        ctx.save_for_backward(x, weight, mean, variance, total)
        ctx.parallel = parallel
        ctx.name = name
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, total)
        return _normalised(x, weight, bias, mean, variance, eps), mean, variance, total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dy = gradients[0]
        x, weight, mean, variance, total = ctx.saved_tensors
        scale = torch.rsqrt(variance + ctx.eps)
        if len(x):
            # These treat mean and variance as constants; the sums over all ranks give the remaining terms.
            dx, dw, db = torch.ops.aten.native_batch_norm_backward(
                dy, x, weight, mean, variance, mean, scale, False, ctx.eps, [True, True, True]
            )
        else:  # the kernel of torch divides by the rows, and a rank may have none
            dx, dw, db = dy.new_zeros(x.shape), torch.zeros_like(weight), torch.zeros_like(weight)
        sums = ctx.parallel.sum(torch.cat([dw, db]).double(), ctx.name + ".backward")
        slope, shift = ((sums / total).float().view(2, -1) * (weight * scale)).unbind()
        dx -= _normalised(x, slope, shift, mean, variance, ctx.eps)
        return dx, dw, db, None, None, None


def _normalised(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, eps: float
) -> torch.Tensor:
    """Return (x - mean) / sqrt(variance + eps) * weight + bias with these statistics."""
    if not len(x):  # the kernel of torch divides by the rows; this empty result still depends on weight and bias
        form = (-1, *(1,) * (x.ndim - 2))
        return torch.addcmul(bias.view(form), x.to(bias.dtype), weight.view(form)).to(x.dtype)
    return torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]


def _statistics_of_shape(
    x: torch.Tensor, mean: torch.Tensor | None, variance: torch.Tensor | None, momentum: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tensors of the shape and dtype that ``torch.batch_norm_update_stats`` returns, without values."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty(x.shape[1], dtype=dtype), x.new_empty(x.shape[1], dtype=dtype)


# Torch has no such function for the meta device, which torch.compile and checks of shapes compute on.
if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::batch_norm_update_stats", "Meta"):
    _META = torch.library.Library("aten", "IMPL", "Meta")
    _META.impl("batch_norm_update_stats", _statistics_of_shape)


def _sums(x: torch.Tensor) -> torch.Tensor:
    """Return sum and sum of squares of each channel of a map, and the count, shape (2 * channels + 1,), float64."""
    channels = x.shape[1]
    count = x.numel() // channels
    if not count:
        return x.new_zeros(2 * channels + 1, dtype=torch.float64)
    # Summing a map in float64 takes several times as long; the variance around the mean is accurate enough in float32.
    mean, variance = torch.cat(torch.batch_norm_update_stats(x, None, None, 0.0)).double().view(2, -1)
    return torch.cat([mean, torch.addcmul(variance, mean, mean), mean.new_ones(1)]) * count


def _mean_and_variance(sums: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return mean and variance of each feature, float32, and the count, float64, from their sums over all ranks."""
    total = sums[-1]
    moments = sums[:-1] / total
    mean = moments[:width]
    variance = torch.addcmul(moments[width:], mean, mean, value=-1).clamp_min_(0)
    mean, variance = torch.cat([mean, variance]).float().view(2, -1)
    return mean, variance, total

"""The readout network of eq. 10 and 11, with batch normalisation over all ranks and repeatable dropout."""

from __future__ import annotations

import torch
from torch import nn

from rcdp_hpc.training.parallel import Alone

LEAST_DEVIATION = 1e-3


class SyncBatchNorm(nn.Module):
    """Batch normalisation with the statistics of the global batch, on CPU and GPU.

    ``y = (x - m) / sqrt(v + eps) * weight + bias``, m and v the mean and variance over the rows of all ranks
    (Ioffe and Szegedy 2015). Count, sum and sum of squares are added over ranks in float64 by one allreduce, so that
    ranks may hold unequal numbers of rows, or none; ``hvd.SyncBatchNorm`` refuses CPU tensors.

    Parameters
    ----------
    width : int
        Features of the input, of shape (rows, width).
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
        """Normalise x, shape (rows, width)."""
        mean, variance = self._batch_statistics(x) if self.training else (self.running_mean, self.running_var)
        return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias

    def _batch_statistics(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        wide = x.double()
        count = wide.new_full((1,), float(len(x)))
        sums = self.parallel.sum(torch.cat([wide.sum(0), (wide * wide).sum(0), count]), self.name)
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


class ReadoutNetwork(nn.Module):
    """Class scores from reservoir states.

    ``o = W_out s`` (eq. 10), ``z = ReLU(w_1 ReLU(w_2 o + b_2) + b_1)`` (eq. 11), scores = W z + b. Each ReLU's input is
    batch-normalised, and its bias b_2, b_1 is the normalisation's shift. The states s are standardised first, by
    the mean and deviation of the training states: many nodes hardly move, and Adam is slow where scales differ.

    Parameters
    ----------
    features, outputs, hidden, classes : int
        Width of the states s, of the reservoir output o, of both ReLU layers, and of the scores.
    relu_slope : float
        Slope below zero; 0 is the plain ReLU.
    dropout : float
        Share of hidden units dropped in training.
    parallel : Alone, optional
        How batch statistics are summed over ranks; default: one process.
    """

    state_mean: torch.Tensor
    state_scale: torch.Tensor

    def __init__(
        self,
        features: int,
        outputs: int,
        hidden: int,
        classes: int,
        relu_slope: float = 0.0,
        dropout: float = 0.0,
        parallel: Alone | None = None,
    ) -> None:
        super().__init__()
        parallel = parallel or Alone()
        self.register_buffer("state_mean", torch.zeros(features))
        self.register_buffer("state_scale", torch.ones(features))
        self.output_map = nn.Linear(features, outputs, bias=False)
        self.inner = nn.Linear(outputs, hidden, bias=False)
        self.inner_norm = SyncBatchNorm(hidden, parallel, "norm.inner")
        self.outer = nn.Linear(hidden, hidden, bias=False)
        self.outer_norm = SyncBatchNorm(hidden, parallel, "norm.outer")
        self.scores = nn.Linear(hidden, classes)
        self.relu = nn.LeakyReLU(relu_slope)
        self.dropout = dropout

    def forward(self, states: torch.Tensor, draw: DropoutDraw | None = None) -> torch.Tensor:
        """Return class scores (rows, classes) of states (rows, features); `draw` drops hidden units."""
        standard = (states - self.state_mean) * self.state_scale
        hidden = self.relu(self.inner_norm(self.inner(self.output_map(standard))))
        hidden = self._drop(hidden, draw, layer=0)
        hidden = self.relu(self.outer_norm(self.outer(hidden)))
        hidden = self._drop(hidden, draw, layer=1)
        scores: torch.Tensor = self.scores(hidden)
        return scores

    def standardise(self, sums: torch.Tensor, squares: torch.Tensor, rows: int) -> None:
        """Fix the standardisation of the states.

        Parameters
        ----------
        sums, squares : torch.Tensor, shape (features,), float64
            Sum and sum of squares of each feature over the training rows of all ranks.
        rows : int
            How many rows these are.
        """
        mean = sums / rows
        deviation = (squares / rows - mean * mean).clamp_min(0).sqrt()
        self.state_mean.copy_(mean.float())
        # A node that does not move at all would otherwise be blown up into rounding noise.
        self.state_scale.copy_((1 / (deviation + LEAST_DEVIATION)).float())

    def _drop(self, hidden: torch.Tensor, draw: DropoutDraw | None, layer: int) -> torch.Tensor:
        if draw is None or not self.dropout or not self.training:
            return hidden
        return hidden * draw.keep_mask(hidden.shape[1], self.dropout, layer)


class DropoutDraw:
    """Random numbers that depend on (seed, epoch, sample, unit) alone, not on the rank or the batch they fall in.

    A counter-based generator: each number is the counter, scrambled by the finaliser of SplitMix64 (Steele, Lea and
    Flood 2014) in wrapping 64-bit arithmetic.

    Parameters
    ----------
    seed, epoch : int
        Key of the draw.
    samples : torch.Tensor, shape (rows,), int64
        Number of each sample in the training split.
    """

    def __init__(self, seed: int, epoch: int, samples: torch.Tensor) -> None:
        self.key = seed * 1_000_003 + epoch
        self.samples = samples

    def keep_mask(self, width: int, share: float, layer: int) -> torch.Tensor:
        """Return a (rows, width) float32 mask: 0 for dropped units, 1 / (1 - share) for the others."""
        units = torch.arange(width, dtype=torch.int64, device=self.samples.device)
        # Scrambled twice, so that no sample's numbers in one layer are another's in the next.
        layer_key = _scramble(torch.tensor(_signed(self.key * 0x9E3779B97F4A7C15 + layer), device=units.device))
        sample_keys = _scramble(self.samples ^ layer_key)
        bits = _scramble(sample_keys[:, None] + units * _signed(0x9E3779B97F4A7C15))
        uniform = _shift_right(bits, 40).float() / 2**24
        return (uniform >= share).float() / (1 - share)


def _scramble(value: torch.Tensor) -> torch.Tensor:
    value = (value ^ _shift_right(value, 30)) * _signed(0xBF58476D1CE4E5B9)
    value = (value ^ _shift_right(value, 27)) * _signed(0x94D049BB133111EB)
    return value ^ _shift_right(value, 31)


def _shift_right(value: torch.Tensor, bits: int) -> torch.Tensor:
    # torch has no unsigned shift: clear the copies of the sign bit.
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value

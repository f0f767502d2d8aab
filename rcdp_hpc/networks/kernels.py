"""Random convolution kernels for series: a fixed extractor whose features follow the reservoir's states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from rcdp_hpc.config import ExtractorSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.kernel_outputs import KERNELS, LENGTH, WORD, Block, Counter, channel_subsets, native
from rcdp_hpc.networks.shapes import bias_counts

# Values of a channel in a block of series: with the values computed from them they fit in the cache of a core.
BLOCK_VALUES = 2**16
# The same on a device with memory of its own, which needs more parallel work.
DEVICE_BLOCK_VALUES = 2**22
# As in MiniRocket.
MOST_DILATIONS = 32


class RandomKernels(nn.Module):
    """Fractions of the steps at which random convolutions of a series exceed a bias (MiniRocket, Dempster et al. 2021).

    Kernel k has nine weights ``w_k0 .. w_k8``, of which three are 2 and six are -1; there are 84 such kernels. With
    dilation d its output for a series x of T steps is

    ``C_t = sum over m in M of sum over j of w_kj x_m,(t + (j - 4) d)``,

    where x is 0 outside the series and M are the channels of the kernel: the only channel if there is one, otherwise a
    random subset for each bias and each pair of positions of the first two weights 2. A feature is the fraction
    ``mean over t of [C_t > b]`` with a bias b. Dilations grow exponentially from 1 to (T - 1) / 8. Every second bias of
    a kernel and dilation leaves out the 4 d steps at both ends, at which the kernel reads zeros. Steps of padding do
    not count.

    The inputs are the values of a series, its first differences (0 at the first step), and its values scaled to mean 0
    and standard deviation 1 over its steps in each channel.

    Parameters
    ----------
    settings : ExtractorSection
        ``kernels`` is the number of features. ``kernel_inputs`` are the inputs; the first one has twice the features
        of each other input.
    channels : int
        Features of a step.
    seed : int
        Seed of the channels that a kernel reads.

    Attributes
    ----------
    features : int
        Features of a series, a multiple of 84.
    biases : torch.Tensor, shape (features / 84, 84), float32
        Learned from training series (`rcdp_hpc.networks.kernel_learning`).
    dilations : torch.Tensor, shape (features / 84,), int64
        Learned from training series; ascending for each input.
    """

    biases: Tensor
    dilations: Tensor

    def __init__(self, settings: ExtractorSection, channels: int, seed: int) -> None:
        super().__init__()
        self.inputs = list(settings.kernel_inputs)
        self.channels = channels
        self.seed = seed
        self.bias_counts = bias_counts(settings)
        rows = sum(self.bias_counts)
        self.features = rows * len(KERNELS)
        self.register_buffer("biases", torch.zeros(rows, len(KERNELS)))
        self.register_buffer("dilations", torch.ones(rows, dtype=torch.int64))

    @torch.no_grad()
    def forward(self, series: Tensor, lengths: ArrayLike | None = None, out: Tensor | None = None) -> Tensor:
        """Return the features (rows, features), float32.

        Parameters
        ----------
        series : torch.Tensor, shape (rows, steps, channels)
        lengths : array of int, shape (rows,), optional
            Steps of each series; default: all steps.
        out : torch.Tensor, shape (rows, features), optional
            Output array; it may be strided.
        """
        rows, steps, channels = series.shape
        if channels != self.channels:
            raise InputError(f"series of {channels} channels: expected {self.channels}")
        if out is None:
            out = series.new_empty(rows, self.features, dtype=torch.float32)
        ends = np.full(rows, steps) if lengths is None else np.asarray(torch.as_tensor(lengths).cpu())
        # Series of equal length are in one block, which then needs no mask.
        order = np.argsort(-ends, kind="stable")
        values = DEVICE_BLOCK_VALUES if series.device.type != "cpu" else BLOCK_VALUES
        start = 0
        while start < rows:
            longest = int(ends[order[start]])
            count = max(WORD, values // (longest * max(1, channels // WORD)) // WORD * WORD)
            chosen = order[start : start + count]
            index = torch.from_numpy(chosen).to(series.device)
            out[index] = self._block(series[index, :longest].float(), ends[chosen])
            start += count
        return out

    def _block(self, series: Tensor, lengths: NDArray[Any]) -> Tensor:
        """Return the features of a few series (rows, steps, channels)."""
        rows, steps, _ = series.shape
        # Steps first, and the number of series rounded up to whole words.
        padded = series.new_zeros(series.shape[2], steps, math.ceil(rows / WORD) * WORD)
        inside = torch.zeros(steps, padded.shape[2], dtype=torch.bool)
        inside[:, :rows] = torch.arange(steps)[:, None] < torch.from_numpy(lengths)
        inside = inside.to(series.device)
        padded[:, :, :rows] = series.permute(2, 1, 0)
        padded.masked_fill_(~inside, 0)
        unpadded = bool((lengths == steps).all())
        counter = Counter(steps, padded.shape[2], series.device)
        features, start = [], 0
        for number, count in enumerate(self.bias_counts):
            values = input_of(self.inputs[number], padded, inside)
            features.append(
                self._input_features(values, number, slice(start, start + count), inside, unpadded, counter)
            )
            start += count
        return torch.cat(features).view(self.features, -1)[:, :rows].T

    def _input_features(
        self, series: Tensor, number: int, chosen: slice, inside: Tensor, unpadded: bool, counter: Counter
    ) -> Tensor:
        """Return the features (biases, kernels, series) of one input, (channels, steps, series)."""
        dilations = self.dilations[chosen].tolist()
        biases = native(self.biases[chosen])
        block = Block(series, max(dilations))
        steps, lengths = series.shape[1], inside.sum(0)
        ends = [
            # Every second bias of a dilation leaves out the ends.
            _Ends(LENGTH // 2 * dilation * ((row - dilations.index(dilation)) % 2), steps, lengths, inside, unpadded)
            for row, dilation in enumerate(dilations)
        ]
        counts = torch.empty(len(ends), len(KERNELS), series.shape[2], dtype=torch.int32, device=series.device)
        for rows in self.groups(dilations):
            for first, outputs in block.outputs(dilations[rows[0]], self.subsets(number, rows[0])):
                last = first + len(outputs)
                for row in rows:
                    counted = ends[row]
                    thresholds = biases[row, first:last, None, None]
                    counter.count(outputs[:, counted.steps], thresholds, counted.inside, counts[row, first:last])
        return counts / torch.stack([counted.count for counted in ends])[:, None]

    def groups(self, dilations: Sequence[int]) -> list[list[int]]:
        """Return groups of biases of an input that use the same outputs.

        These are the biases of a dilation. If there are several channels, each bias is its own group, because it has
        its own subset of channels.

        Parameters
        ----------
        dilations : sequence of int
            Dilation of each bias of a kernel; ascending.
        """
        if self.channels > 1:
            return [[row] for row in range(len(dilations))]
        return [list(rows) for _, rows in groupby(range(len(dilations)), lambda row: dilations[row])]

    def subsets(self, number: int, row: int) -> list[list[int]] | None:
        """Return the channels of each pair of positions, for the number of an input and of a bias."""
        return channel_subsets(self.channels, (self.seed, number, row))


class _Ends:
    """The steps of a block that count for a feature: all, or all but `left_out` at both ends.

    All steps of a series count if it is too short for that.

    Attributes
    ----------
    steps : slice
        Steps that are compared with a bias.
    inside : torch.Tensor, shape (steps, series / 8), int64, or None
        Whether a step counts, a byte for each series; None if all steps count.
    count : torch.Tensor, shape (series,), float32
        Number of steps that count.
    """

    def __init__(self, left_out: int, steps: int, lengths: Tensor, inside: Tensor, unpadded: bool) -> None:
        self.steps = slice(0, steps)
        self.inside = None if unpadded else inside.view(torch.int64)
        self.count = lengths.clamp_min(1).float()
        if not left_out:
            return
        if unpadded:
            if steps > 2 * left_out:
                self.steps = slice(left_out, steps - left_out)
                self.count = torch.full_like(self.count, steps - 2 * left_out)
            return
        step = torch.arange(steps, device=inside.device)[:, None]
        enough = lengths > 2 * left_out
        inner = (step >= left_out) & (step < lengths - left_out)
        self.inside = torch.where(enough, inner, inside).view(torch.int64)
        self.count = torch.where(enough, self.count - 2 * left_out, self.count)


def dilations_for(steps: int, count: int) -> NDArray[np.int64]:
    """Return `count` dilations for series of this many steps, ascending, spread exponentially from 1 to (T - 1) / 8."""
    grid = min(count, MOST_DILATIONS)
    highest = math.log2(max(1.0, (steps - 1) / (LENGTH - 1)))
    spread = np.floor(2 ** np.linspace(0, highest, grid) + 1e-9).astype(np.int64)
    return spread[np.arange(count) * grid // count]


def input_of(name: str, series: Tensor, inside: Tensor) -> Tensor:
    """Return an input of the kernels for series (channels, steps, series); steps outside `inside` are 0."""
    if name == "values":
        return series
    if name == "differences":
        differences = torch.zeros_like(series)
        torch.sub(series[:, 1:], series[:, :-1], out=differences[:, 1:])
        return differences.masked_fill_(~inside, 0)
    # Sums in float64 round so little that the result is the same in any block. The value of the first step is
    # subtracted first, so that a constant series becomes exactly 0.
    count = inside.sum(0).clamp_min(1)
    wide = series.double()
    shifted = (wide - wide[:, :1]).masked_fill_(~inside, 0)
    centred = (shifted - shifted.sum(1, keepdim=True) / count).masked_fill_(~inside, 0)
    deviation = (centred.square().sum(1, keepdim=True) / count).sqrt()
    return torch.where(deviation > 0, centred / deviation, 0.0).float()

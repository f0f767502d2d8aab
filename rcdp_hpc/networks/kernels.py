"""Random convolution kernels for series: a frozen extractor whose features are joined to the reservoir's states."""

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
from rcdp_hpc.networks.shapes import feature_shares

# Values of a channel that a block of series has: with what is made of them they stay in a core's cache.
BLOCK_VALUES = 2**16
# A device with a memory of its own takes this many, so that it has enough to do.
DEVICE_BLOCK_VALUES = 2**22
# As in MiniRocket.
MOST_DILATIONS = 32


class RandomKernels(nn.Module):
    """Shares of the steps at which random convolutions of a series are positive (MiniRocket, Dempster et al. 2021).

    Kernel k has nine weights ``w_k0 .. w_k8``: three are 2 and six are -1, in each of the 84 possible ways. With
    dilation d its output on a series x of T steps is

    ``C_t = sum over m in M of sum over j of w_kj x_m,(t + (j - 4) d)``,

    x being 0 outside the series and M the channels of the kernel: all if there is one, otherwise a random subset for
    each bias and pair of the first two weights 2. A feature is the share of positive values ``mean over t of
    [C_t > b]``, b being a bias. Dilations grow exponentially from 1 to (T - 1) / 8. Every second bias of a kernel and
    dilation leaves out the 4 d steps at both ends, at which the kernel reads zeros. Only the series' own steps count.

    The inputs are the values of a series, its first differences (0 at the first step), and its values brought to mean 0
    and deviation 1 over its own steps in each channel.

    Parameters
    ----------
    settings : ExtractorSection
        ``kernels``: the number of features. ``kernel_inputs``: what the kernels read; the first one has twice the
        features of each other.
    channels : int
        Features of a step.
    seed : int
        Of the channels that a kernel reads.

    Attributes
    ----------
    features : int
        Of a series: a multiple of 84.
    biases : torch.Tensor, shape (features / 84, 84), float32
        Learned from training series (`rcdp_hpc.networks.kernel_learning`).
    dilations : torch.Tensor, shape (features / 84,), int64
        Those of the training series; ascending for each input.
    """

    biases: Tensor
    dilations: Tensor

    def __init__(self, settings: ExtractorSection, channels: int, seed: int) -> None:
        super().__init__()
        self.inputs, self.channels, self.seed = list(settings.kernel_inputs), channels, seed
        self.shares = feature_shares(settings)
        rows = sum(self.shares)
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
            Steps of each series; without it all are whole.
        out : torch.Tensor, shape (rows, features), optional
            Where the features are written; it need not be contiguous.
        """
        rows, steps, channels = series.shape
        if channels != self.channels:
            raise InputError(f"series of {channels} channels: expected {self.channels}")
        if out is None:
            out = series.new_empty(rows, self.features, dtype=torch.float32)
        own = np.full(rows, steps) if lengths is None else np.asarray(torch.as_tensor(lengths).cpu())
        # Series of one length together: those need no mask.
        order = np.argsort(-own, kind="stable")
        values = DEVICE_BLOCK_VALUES if series.device.type != "cpu" else BLOCK_VALUES
        start = 0
        while start < rows:
            longest = int(own[order[start]])
            count = max(WORD, values // (longest * max(1, channels // WORD)) // WORD * WORD)
            chosen = order[start : start + count]
            taken = torch.from_numpy(chosen).to(series.device)
            out[taken] = self._block(series[taken, :longest].float(), own[chosen])
            start += count
        return out

    def _block(self, series: Tensor, lengths: NDArray[Any]) -> Tensor:
        """Return the features of a few series (rows, steps, channels)."""
        rows, steps, _ = series.shape
        # Steps first, and series filled up to whole words.
        room = series.new_zeros(series.shape[2], steps, math.ceil(rows / WORD) * WORD)
        inside = torch.zeros(steps, room.shape[2], dtype=torch.bool)
        inside[:, :rows] = torch.arange(steps)[:, None] < torch.from_numpy(lengths)
        inside = inside.to(series.device)
        room[:, :, :rows] = series.permute(2, 1, 0)
        room.masked_fill_(~inside, 0)
        whole = bool((lengths == steps).all())
        counter = Counter(steps, room.shape[2], series.device)
        found, start = [], 0
        for place, share in enumerate(self.shares):
            ready = input_of(self.inputs[place], room, inside)
            found.append(self._of_input(ready, place, slice(start, start + share), inside, whole, counter))
            start += share
        return torch.cat(found).view(self.features, -1)[:, :rows].T

    def _of_input(
        self, series: Tensor, place: int, chosen: slice, inside: Tensor, whole: bool, counter: Counter
    ) -> Tensor:
        """Return the features (biases, kernels, series) of one input, (channels, steps, series)."""
        dilations = self.dilations[chosen].tolist()
        biases = native(self.biases[chosen])
        block = Block(series, max(dilations))
        steps, lengths = series.shape[1], inside.sum(0)
        ends = [
            # Every second one of a dilation leaves out the ends.
            _Ends(LENGTH // 2 * dilation * ((row - dilations.index(dilation)) % 2), steps, lengths, inside, whole)
            for row, dilation in enumerate(dilations)
        ]
        counts = torch.empty(len(ends), len(KERNELS), series.shape[2], dtype=torch.int32, device=series.device)
        for rows in self.groups(dilations):
            for first, outputs in block.outputs(dilations[rows[0]], self.subsets(place, rows[0])):
                last = first + len(outputs)
                for row in rows:
                    own, above = ends[row], biases[row, first:last, None, None]
                    counter.count(outputs[:, own.steps], above, own.inside, counts[row, first:last])
        return counts / torch.stack([own.count for own in ends])[:, None]

    def groups(self, dilations: Sequence[int]) -> list[list[int]]:
        """Return the biases of an input that share outputs: those of a dilation, or each alone if it has own channels.

        Parameters
        ----------
        dilations : sequence of int
            Of the biases of one kernel; ascending.
        """
        if self.channels > 1:
            return [[row] for row in range(len(dilations))]
        return [list(rows) for _, rows in groupby(range(len(dilations)), lambda row: dilations[row])]

    def subsets(self, place: int, row: int) -> list[list[int]] | None:
        """Return the channels of each pair of places for an input and the number of a bias."""
        return channel_subsets(self.channels, (self.seed, place, row))


class _Ends:
    """The steps of a block that count for a feature: all, or all but `left_out` at both ends.

    A series that is too short for that counts whole.

    Attributes
    ----------
    steps : slice
        Steps to look at.
    inside : torch.Tensor, shape (steps, series / 8), int64, or None
        Those of them that count, a byte for each series; None: all.
    count : torch.Tensor, shape (series,), float32
        How many count.
    """

    def __init__(self, left_out: int, steps: int, lengths: Tensor, inside: Tensor, whole: bool) -> None:
        self.steps, self.inside = slice(0, steps), None if whole else inside.view(torch.int64)
        self.count = lengths.clamp_min(1).float()
        if not left_out:
            return
        if whole:
            if steps > 2 * left_out:
                self.steps = slice(left_out, steps - left_out)
                self.count = torch.full_like(self.count, steps - 2 * left_out)
            return
        place = torch.arange(steps, device=inside.device)[:, None]
        enough = lengths > 2 * left_out
        inner = (place >= left_out) & (place < lengths - left_out)
        self.inside = torch.where(enough, inner, inside).view(torch.int64)
        self.count = torch.where(enough, self.count - 2 * left_out, self.count)


def dilations_for(steps: int, count: int) -> NDArray[np.int64]:
    """Return `count` dilations for series of this many steps, ascending, spread exponentially from 1 to (T - 1) / 8."""
    grid = min(count, MOST_DILATIONS)
    highest = math.log2(max(1.0, (steps - 1) / (LENGTH - 1)))
    spread = np.floor(2 ** np.linspace(0, highest, grid) + 1e-9).astype(np.int64)
    return spread[np.arange(count) * grid // count]


def input_of(name: str, series: Tensor, inside: Tensor) -> Tensor:
    """Return what kernels read of series (channels, steps, series): zeros at steps (steps, series) not inside."""
    if name == "values":
        return series
    if name == "differences":
        found = torch.zeros_like(series)
        torch.sub(series[:, 1:], series[:, :-1], out=found[:, 1:])
        return found.masked_fill_(~inside, 0)
    # Sums of float64 round so little that the result is the same in any block. From the first step on: a constant
    # series is then 0 exactly.
    count = inside.sum(0).clamp_min(1)
    wide = series.double()
    shifted = (wide - wide[:, :1]).masked_fill_(~inside, 0)
    centred = (shifted - shifted.sum(1, keepdim=True) / count).masked_fill_(~inside, 0)
    deviation = (centred.square().sum(1, keepdim=True) / count).sqrt()
    return torch.where(deviation > 0, centred / deviation, 0.0).float()

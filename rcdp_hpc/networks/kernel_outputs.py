"""Outputs of the 84 convolution kernels of MiniRocket, and counts of outputs above a bias, for a block of series.

A kernel has nine weights: three are 2 and six are -1. With s_t the sum of the nine values that a kernel reads at step
t, its output is ``C_t = 3 (x_a + x_b + x_c) - s_t``; s_t is the same for all kernels. Only elementwise additions in a
fixed order are applied to a series, so that its outputs are the same bits in any block and on any device.

The axes of a block are steps and then series: a shift in time is a view, and one addition counts eight comparisons.
NumPy does the work on the CPU, because it compares ten times as fast as torch and has less overhead; torch does it on
other devices, by functions of the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Positions of the weights 2 of each kernel. Kernels with the same first two positions are next to each other.
KERNELS: tuple[tuple[int, int, int], ...] = tuple(combinations(range(9), 3))
# The first two positions; the third one takes all later values.
PAIRS: tuple[tuple[int, int], ...] = tuple(dict.fromkeys((first, second) for first, second, _ in KERNELS))
LENGTH = 9
# A byte can count this number of comparisons.
BYTE = 255
# The number of series of a block is a multiple of this: comparisons of eight series fill a 64-bit word.
WORD = 8
# A NumPy array on the CPU, a tensor on another device.
Array = Any


def native(values: Tensor) -> Array:
    """Return a tensor as a NumPy array if it is on the CPU, without a copy; otherwise the tensor itself."""
    return values.numpy() if values.device.type == "cpu" else values


def _functions(values: Array) -> Any:
    return np if isinstance(values, np.ndarray) else torch


class Block:
    """The outputs of the kernels for a block of series, which are padded with zeros.

    Parameters
    ----------
    series : torch.Tensor, shape (channels, steps, series), float32
        Values are 0 after the end of a series.
    dilation : int
        Largest dilation that `outputs` will be called with.
    """

    def __init__(self, series: Tensor, dilation: int) -> None:
        channels, self.steps, self.count = series.shape
        self.pad = LENGTH // 2 * dilation
        self.values = series.new_zeros(channels, self.steps + 2 * self.pad, self.count)
        self.values[:, self.pad : self.pad + self.steps] = series
        self.thrice = 3 * self.values
        self._buffer = native(series.new_empty(LENGTH, self.steps, self.count))
        # Sums of nine values by channel, for one dilation.
        self._sums: dict[int, Array] = {}
        self._sums_dilation = 0
        self._channel_sum = torch.empty_like(self.values[0])

    def outputs(self, dilation: int, subsets: Sequence[Sequence[int]] | None) -> Iterator[tuple[int, Array]]:
        """Yield the index of the first kernel of each pair of positions, and the outputs of the kernels of the pair.

        The outputs have the shape (kernels, steps, series). The next iteration overwrites them.

        Parameters
        ----------
        dilation : int
            Steps between the values that a kernel reads.
        subsets : sequence of sequences of int, or None
            Channels that the kernels of each pair sum over; None if there is one channel.
        """
        do = _functions(self._buffer)
        channel_lists = subsets or [[0]]
        if dilation != self._sums_dilation:
            self._sums = {}
            self._sums_dilation = dilation
        sums = self._sums
        for channel in sorted({channel for channels in channel_lists for channel in channels} - sums.keys()):
            sums[channel] = self._sum(channel, dilation, do)
        if subsets is None:
            shifts, total = self._shifts(self.thrice[0], dilation), sums[0]
        buffer, one, two = self._buffer, self._buffer[-2], self._buffer[-1]
        kernel, previous = 0, -1
        for pair, (first, second) in enumerate(PAIRS):
            if subsets is not None:
                shifts, total = self._channels_together(subsets[pair], dilation, sums, do)
            if subsets is not None or first != previous:
                do.subtract(shifts[first], total, out=one)
                previous = first
            do.add(one, shifts[second], out=two)
            thirds = shifts[second + 1 :]
            outputs = do.add(two, thirds, out=buffer[: len(thirds)])
            yield kernel, outputs
            kernel += len(thirds)

    def _shifts(self, padded: Tensor, dilation: int) -> Array:
        """Return the values that each of the nine weights reads at each step, shape (9, steps, series), as a view."""
        start = padded.storage_offset() + (self.pad - LENGTH // 2 * dilation) * self.count
        shape, strides = (LENGTH, self.steps, self.count), (dilation * self.count, self.count, 1)
        return native(padded.as_strided(shape, strides, start))

    def _sum(self, channel: int, dilation: int, do: Any) -> Array:
        """Return the sum of the nine values that a kernel reads at each step, shape (steps, series)."""
        shifts = self._shifts(self.values[channel], dilation)
        total = do.add(shifts[0], shifts[1])
        for shift in shifts[2:]:
            do.add(total, shift, out=total)
        return total

    def _channels_together(
        self, channels: Sequence[int], dilation: int, sums: dict[int, Array], do: Any
    ) -> tuple[Array, Array]:
        """Return the shifted values and the sum of nine values, both summed over several channels."""
        thrice, total = self.thrice[channels[0]], sums[channels[0]]
        for channel in channels[1:]:
            do.add(native(thrice), native(self.thrice[channel]), out=native(self._channel_sum))
            total = do.add(total, sums[channel], out=self._buffer[-3])
            thrice = self._channel_sum
        return self._shifts(thrice, dilation), total


class Counter:
    """Counts the steps at which outputs are above a bias.

    Parameters
    ----------
    steps, series : int
        Largest numbers of steps and series that `count` will be called with.
    device : torch.device
    """

    def __init__(self, steps: int, series: int, device: torch.device) -> None:
        self._buffer = torch.empty((LENGTH - 2) * steps * series, dtype=torch.bool, device=device)
        self._native = native(self._buffer)
        self._words = self._buffer.view(torch.int64)

    def count(self, outputs: Array, biases: Array, inside: Tensor | None, out: Tensor) -> None:
        """Count the comparisons.

        Parameters
        ----------
        outputs : array, shape (kernels, steps, series), float32
        biases : array, shape (kernels, 1, 1), float32
        inside : torch.Tensor, shape (steps, series / 8), int64, or None
            A byte for each step and series, 1 if the step counts; None if all steps count.
        out : torch.Tensor, shape (kernels, series), int32
            Output array.
        """
        kernels, steps, series = outputs.shape
        size = kernels * steps * series
        _functions(outputs).greater(outputs, biases, out=self._native[:size].reshape(kernels, steps, series))
        words = self._words[: size // WORD].view(kernels, steps, series // WORD)
        if inside is not None:
            words &= inside
        # Each byte of a word counts the comparisons of one series.
        out.copy_(words[:, :BYTE].sum(1).view(torch.uint8))
        for start in range(BYTE, steps, BYTE):
            out += words[:, start : start + BYTE].sum(1).view(torch.uint8)


def channel_subsets(channels: int, seed: Sequence[int]) -> list[list[int]] | None:
    """Return the channels that the kernels of each pair of positions sum over; None if there is one channel.

    Their number is random and at most nine, as in MiniRocket. They depend only on the arguments.
    """
    if channels == 1:
        return None
    random = np.random.default_rng([*seed, channels])
    most = np.log2(min(channels, LENGTH) + 1)
    counts: NDArray[np.int64] = np.floor(2 ** random.uniform(0, most, len(PAIRS))).astype(np.int64).clip(1, channels)
    return [sorted(random.choice(channels, count, replace=False).tolist()) for count in counts]

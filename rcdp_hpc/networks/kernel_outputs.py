"""Outputs of the 84 convolution kernels of MiniRocket, and how many of them are above a bias, for a block of series.

A kernel has nine weights: three of 2 and six of -1. With s_t the sum of the nine values that a kernel reads at step t,
its output is ``C_t = 3 (x_a + x_b + x_c) - s_t``, and s_t serves all kernels. Nothing but elementwise additions is done
to a series, in a fixed order, so that its outputs are the same bits in any block and on any device.

A block is laid out by step, then series: a shift in time is a view, and eight comparisons are counted by one addition.
On a CPU NumPy does the work, which compares ten times as fast as torch and starts faster; on other devices torch does,
by functions of the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# The places of the weights 2 of each kernel. Kernels that share their first two places follow one another.
KERNELS: tuple[tuple[int, int, int], ...] = tuple(combinations(range(9), 3))
# Those two places; the third takes every later one.
PAIRS: tuple[tuple[int, int], ...] = tuple(dict.fromkeys((first, second) for first, second, _ in KERNELS))
LENGTH = 9
# A byte counts this many comparisons.
BYTE = 255
# Series of a block are a multiple of it: the comparisons of eight fill a 64-bit word.
WORD = 8
# An array of NumPy, or a tensor on another device than the CPU.
Array = Any


def native(values: Tensor) -> Array:
    """Return a tensor as what the functions here work on; without a copy."""
    return values.numpy() if values.device.type == "cpu" else values


def _functions(values: Array) -> Any:
    return np if isinstance(values, np.ndarray) else torch


class Block:
    """Series of one block with zeros around them, and the outputs of the kernels.

    Parameters
    ----------
    series : torch.Tensor, shape (channels, steps, series), float32
        Zeros after the end of a series.
    dilation : int
        The largest dilation that outputs are asked for.
    """

    def __init__(self, series: Tensor, dilation: int) -> None:
        channels, self.steps, self.count = series.shape
        self.pad = LENGTH // 2 * dilation
        self.values = series.new_zeros(channels, self.steps + 2 * self.pad, self.count)
        self.values[:, self.pad : self.pad + self.steps] = series
        self.thrice = 3 * self.values
        self._room = native(series.new_empty(LENGTH, self.steps, self.count))
        # Sums of nine, by channel, of one dilation.
        self._sums: dict[int, Array] = {}
        self._sums_of = 0
        self._added = torch.empty_like(self.values[0])

    def outputs(self, dilation: int, subsets: Sequence[Sequence[int]] | None) -> Iterator[tuple[int, Array]]:
        """Yield outputs (kernels, steps, series) of the kernels of each pair of places, with the number of the first.

        The next ones overwrite them.

        Parameters
        ----------
        dilation : int
            Steps between the values that a kernel reads.
        subsets : sequence of sequences of int, or None
            The channels that the kernels of each pair add up; None: the only one.
        """
        do = _functions(self._room)
        chosen = subsets or [[0]]
        if dilation != self._sums_of:
            self._sums, self._sums_of = {}, dilation
        sums = self._sums
        for channel in sorted({one for own in chosen for one in own} - sums.keys()):
            sums[channel] = self._sum(channel, dilation, do)
        if subsets is None:
            shifts, total = self._shifts(self.thrice[0], dilation), sums[0]
        room, one, two = self._room, self._room[-2], self._room[-1]
        number, begun = 0, -1
        for place, (first, second) in enumerate(PAIRS):
            if subsets is not None:
                shifts, total = self._added_up(subsets[place], dilation, sums, do)
            if subsets is not None or first != begun:
                do.subtract(shifts[first], total, out=one)
                begun = first
            do.add(one, shifts[second], out=two)
            thirds = shifts[second + 1 :]
            found = do.add(two, thirds, out=room[: len(thirds)])
            yield number, found
            number += len(thirds)

    def _shifts(self, padded: Tensor, dilation: int) -> Array:
        """Return what each of the nine weights reads at each step, shape (9, steps, series); a view."""
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

    def _added_up(self, channels: Sequence[int], dilation: int, sums: dict[int, Array], do: Any) -> tuple[Array, Array]:
        """Return the shifts and the sum of nine of several channels together."""
        thrice, total = self.thrice[channels[0]], sums[channels[0]]
        for channel in channels[1:]:
            do.add(native(thrice), native(self.thrice[channel]), out=native(self._added))
            total = do.add(total, sums[channel], out=self._room[-3])
            thrice = self._added
        return self._shifts(thrice, dilation), total


class Counter:
    """Counts the steps at which outputs are above a bias.

    Parameters
    ----------
    steps, series : int
        The most outputs of a kernel that are compared at once.
    device : torch.device
    """

    def __init__(self, steps: int, series: int, device: torch.device) -> None:
        self._room = torch.empty((LENGTH - 2) * steps * series, dtype=torch.bool, device=device)
        self._native = native(self._room)
        self._words = self._room.view(torch.int64)

    def count(self, outputs: Array, biases: Array, inside: Tensor | None, out: Tensor) -> None:
        """Count the comparisons.

        Parameters
        ----------
        outputs : array, shape (kernels, steps, series), float32
        biases : array, shape (kernels, 1, 1), float32
        inside : torch.Tensor, shape (steps, series / 8), int64, or None
            The bytes of the steps that count; None: all.
        out : torch.Tensor, shape (kernels, series), int32
            Where the counts are written.
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
    """Return the channels that the kernels of each pair of places add up; None with a single channel.

    A random number of them, at most nine, as MiniRocket draws them. They depend on nothing but the arguments.
    """
    if channels == 1:
        return None
    random = np.random.default_rng([*seed, channels])
    most = np.log2(min(channels, LENGTH) + 1)
    counts: NDArray[np.int64] = np.floor(2 ** random.uniform(0, most, len(PAIRS))).astype(np.int64).clip(1, channels)
    return [sorted(random.choice(channels, count, replace=False).tolist()) for count in counts]

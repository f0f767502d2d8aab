"""Reservoir states of a rank's rows, computed once and stored: the reservoir is fixed, so they never change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import Rows, ShardReader
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.reservoir.sequence_checks import CollectedChecks
from rcdp_hpc.reservoir.stream import ahead
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.training.states.host_states import HostStates, SideStream
from rcdp_hpc.training.states.recompute import RecomputedStates
from rcdp_hpc.training.states.shifts import UNSHIFTED, Shift, shifted
from rcdp_hpc.training.states.stored_values import values_on

# Values whose moments are summed at once. Their float64 copies fit in a core's cache, which is several times as fast.
MOMENT_VALUES = 1 << 18


@dataclass(frozen=True)
class CachedStates:
    """States and labels of rows of a split.

    Attributes
    ----------
    states : torch.Tensor, HostStates or RecomputedStates, shape (rows, width)
        In the dtype of the kernel or of ``states.precision``; on `device` when they are read.
    labels : torch.Tensor, shape (rows,), int64
        Class indices.
    first : int
        Index of the first row in its split.
    numbers : torch.Tensor, shape (rows,), int64, optional
        Index of each row in its split; None if the rows are consecutive.
    slow : bool
        Whether access to states takes long: they are in a file, on another device, or computed on access.
    """

    states: torch.Tensor | HostStates | RecomputedStates
    labels: torch.Tensor
    first: int
    numbers: torch.Tensor | None = None
    slow: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """The device of the labels and of the states that `batch` and `blocks` return."""
        return self.labels.device

    @property
    def stored(self) -> torch.Tensor:
        """The tensor of stored states, on whatever device; `TypeError` if they are computed on access."""
        if isinstance(self.states, RecomputedStates):
            raise TypeError("states that are computed on access are not stored")
        return self.states.stored if isinstance(self.states, HostStates) else self.states

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the states, float32, and labels of these local row indices."""
        return self.states[rows.to(self.states.device)].to(self.device).float(), self.labels[rows]

    def blocks(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield stored states and labels of the local rows from `start` to `stop`, in blocks of `size` rows."""
        stop = len(self) if stop is None else stop
        for low in range(start, stop, size):
            rows = slice(low, min(low + size, stop))
            yield self.states[rows].to(self.device), self.labels[rows]

    def numbers_of(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the indices in the split of these local row indices."""
        return rows + self.first if self.numbers is None else self.numbers[rows]

    def all_numbers(self) -> torch.Tensor:
        """Return the indices of all rows in the split, shape (rows,), int64."""
        if self.numbers is not None:
            return self.numbers
        return torch.arange(self.first, self.first + len(self), device=self.device)

    def moments(self) -> NDArray[np.float64]:
        """Return the sum and the sum of squares of each feature over the rows, shape (2, width).

        Raises
        ------
        StoppedError
            If a stop signal was received.
        """
        width = self.states.shape[1]
        sums = np.zeros((2, width))
        for block, _ in self.blocks(max(1, MOMENT_VALUES // width)):
            signals.raise_if_stopped("summing reservoir states")
            wide = block.double()
            sums += torch.stack([wide.sum(0), torch.linalg.vecdot(wide, wide, dim=0)]).cpu().numpy()
        return sums


def cache_dtype(config: Config, reservoir: StateSource) -> torch.dtype:
    """Return the dtype in which states are stored."""
    chosen = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    return chosen.get(config.states.precision, reservoir.dtype)


class SplitRows(Protocol):
    """Prepared rows of splits, from shards or elsewhere."""

    def read(self, split: str, start: int, stop: int) -> Rows:
        """Return rows `start` to `stop` - 1 of a split."""

    def read_stored(self, split: str, start: int, stop: int) -> Rows:
        """Return these rows with samples in their stored number format, `Rows.storage`."""


def state_blocks(
    reservoir: StateSource,
    shards: SplitRows,
    split: str,
    start: int,
    stop: int,
    progress: Progress,
    doing: str,
    out: torch.Tensor | None = None,
    shifts: Sequence[Shift] = (UNSHIFTED,),
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Yield the states of consecutive rows of a split in blocks, while a thread reads the next block.

    The thread also copies samples to another device than the CPU, as they are stored. Whether the states there are
    finite is read once, after the last block: an error then comes later than the blocks.

    Parameters
    ----------
    reservoir : StateSource
        The fixed reservoir. A block has ``batch_rows`` rows. Training rows get the reservoir's noise.
    shards : ShardReader
        The samples.
    split : {"train", "validation", "test"}
    start, stop : int
        First row, and one after the last.
    progress : Progress
        Advanced after each block.
    doing : str
        Current work, for the message of a stop.
    out : torch.Tensor, shape (stop - start, width), optional
        Filled with the states; of the reservoir's dtype.
    shifts : sequence of (down, across), optional
        A block of images is yielded once for each shift.

    Yields
    ------
    rows : slice
        Rows of the block, counted from `start`.
    states : torch.Tensor, shape (rows, width)
    labels : torch.Tensor, shape (rows,), int64

    Raises
    ------
    StoppedError
        If a stop signal was received.
    CandidateError
        As `rcdp_hpc.reservoir.states.Reservoir.states`.
    """
    checks: CollectedChecks[tuple[int, int, Shift]] = CollectedChecks(reservoir.device)
    for (low, high, shift), block, x in ahead(_samples(reservoir, shards, split, start, stop, shifts)):
        signals.raise_if_stopped(doing)
        rows = slice(low - start, high - start)
        labels = torch.from_numpy(np.asarray(block.y, dtype=np.int64))
        with checks.collecting((low, high, shift)):
            states = reservoir.drive(x, block.length, out=None if out is None else out[rows], noisy=split == "train")
        yield rows, states, labels
        if shift == shifts[-1]:
            progress.advance(high - low)
    reservoir.release()
    for low, high, shift in checks.suspects():
        block = shards.read(split, low, high)
        reservoir.drive(shifted(block.x, shift), block.length, noisy=split == "train")


def _samples(
    reservoir: StateSource, shards: SplitRows, split: str, start: int, stop: int, shifts: Sequence[Shift]
) -> Iterator[tuple[tuple[int, int, Shift], Rows, torch.Tensor]]:
    """Yield (first row, row after the last, shift), rows, and samples on the device, block by block and shift by shift.

    In another thread than the one that computes the states, copies to a GPU run while it computes.
    """
    device = reservoir.device
    read = shards.read if device.type == "cpu" else shards.read_stored
    side = SideStream(device)
    for low in range(start, stop, reservoir.batch_rows):
        high = min(low + reservoir.batch_rows, stop)
        block = read(split, low, high)
        for shift in shifts:
            moved = shifted(block.x, shift)
            yield (low, high, shift), block, side.run(partial(values_on, device, block.storage, moved), lambda x: [x])


def cache_states(
    reservoir: StateSource,
    shards: ShardReader,
    split: str,
    ranges: Sequence[tuple[int, int]],
    progress: Progress,
    states: torch.Tensor,
) -> CachedStates:
    """Compute the states of consecutive ranges of rows of a split.

    Parameters
    ----------
    reservoir : StateSource
        The fixed reservoir.
    shards : ShardReader
        The samples.
    split : {"train", "validation", "test"}
    ranges : sequence of (start, stop)
        Rows; each range starts at the end of the one before. A block is within one range, so that the states of a range
        have the same bits on every rank.
    progress : Progress
        Advanced after each block.
    states : torch.Tensor, shape (rows, width)
        Filled with the states, rounded to its dtype.

    Returns
    -------
    CachedStates
    """
    labels = torch.empty(len(states), dtype=torch.int64, device=reservoir.device)
    first, doing = ranges[0][0], "computing reservoir states"
    is_direct = (states.dtype, states.device) == (reservoir.dtype, labels.device)
    for start, stop in ranges:
        range_states, range_labels = states[start - first : stop - first], labels[start - first : stop - first]
        out = range_states if is_direct else None
        for rows, block, classes in state_blocks(reservoir, shards, split, start, stop, progress, doing, out):
            if out is None:
                range_states[rows] = block.to(states.device, states.dtype)
            range_labels[rows] = classes
    return CachedStates(states, labels, first)

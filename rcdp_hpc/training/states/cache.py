"""Reservoir states of a rank's slab, computed once and kept: the reservoir is fixed, so they never change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import ShardSet
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.reservoir.stream import ahead
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.training.states.recompute import RecomputedStates
from rcdp_hpc.training.states.shifts import UNSHIFTED, Shift, shifted

# Values whose moments are summed at once: with their float64 copies they stay in a core's cache, several times as fast.
MOMENT_VALUES = 1 << 18


@dataclass(frozen=True)
class CachedStates:
    """States and labels of rows of a split, consecutive ones unless they are numbered.

    Attributes
    ----------
    states : torch.Tensor or RecomputedStates, shape (rows, kept * nodes)
        In the kernel's dtype, or that of ``states.precision``. Those in a file lie on the CPU, whatever the
        device.
    labels : torch.Tensor, shape (rows,), int64
        Class numbers.
    first : int
        Number of the first row in its split.
    numbers : torch.Tensor, shape (rows,), int64, optional
        Number of each row in its split, where they are not consecutive.
    far : bool
        Whether the states of a batch take their time: they lie in a file, or are computed when they are asked for.
    """

    states: torch.Tensor | RecomputedStates
    labels: torch.Tensor
    first: int
    numbers: torch.Tensor | None = None
    far: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where states are handed out, and labels lie."""
        return self.labels.device

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return float32 states and labels of the given rows, counted from the first."""
        return self.states[rows.to(self.states.device)].to(self.device).float(), self.labels[rows]

    def blocks(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield states as they are kept and labels of consecutive rows, counted from the first, so many at a time."""
        stop = len(self) if stop is None else stop
        for low in range(start, stop, size):
            rows = slice(low, min(low + size, stop))
            yield self.states[rows].to(self.device), self.labels[rows]

    def numbers_of(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the numbers in the split of the given rows, counted from the first."""
        return rows + self.first if self.numbers is None else self.numbers[rows]

    def moments(self) -> NDArray[np.float64]:
        """Return the sum and the sum of squares of each feature over the rows, shape (2, kept * nodes).

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
    """Return what states are kept in."""
    chosen = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    return chosen.get(config.states.precision, reservoir.dtype)


def state_blocks(
    reservoir: StateSource,
    shards: ShardSet,
    split: str,
    start: int,
    stop: int,
    progress: Progress,
    doing: str,
    out: torch.Tensor | None = None,
    shifts: Sequence[Shift] = (UNSHIFTED,),
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Yield the states of consecutive rows of a split, block by block; the next block is read meanwhile.

    Parameters
    ----------
    reservoir : Reservoir
        The fixed network; its ``batch_rows`` are a block. Training rows are given its noise.
    shards : ShardSet
        Where the samples are read from.
    split : str
        "train", "validation" or "test".
    start, stop : int
        Rows.
    progress : Progress
        Told of every block that the caller is done with.
    doing : str
        For the message of a stop.
    out : torch.Tensor, shape (stop - start, width), optional
        Where the states are written, of the reservoir's dtype.
    shifts : sequence of (down, across), optional
        A block of images is yielded once for each, shifted so.

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
    """
    size = reservoir.batch_rows
    bounds = [(low, min(low + size, stop)) for low in range(start, stop, size)]
    blocks = ahead(shards.read(split, low, high) for low, high in bounds)
    for (low, high), block in zip(bounds, blocks, strict=True):
        signals.raise_if_stopped(doing)
        rows = slice(low - start, high - start)
        into = None if out is None else out[rows]
        labels = torch.from_numpy(np.asarray(block.y, dtype=np.int64))
        for shift in shifts:
            x = shifted(block.x, shift)
            yield rows, reservoir.drive(x, block.length, out=into, noisy=split == "train"), labels
        progress.advance(high - low)


def cache_states(
    reservoir: StateSource,
    shards: ShardSet,
    split: str,
    pieces: Sequence[tuple[int, int]],
    progress: Progress,
    states: torch.Tensor,
) -> CachedStates:
    """Compute the states of consecutive pieces of a split, once and for all.

    Parameters
    ----------
    reservoir : Reservoir
        The fixed network.
    shards : ShardSet
        Where the samples are read from, a block of rows at a time.
    split : str
        "train", "validation" or "test".
    pieces : sequence of (start, stop)
        Rows, each piece beginning where the one before ended. Blocks never cross a piece, so that the states of a
        piece are the same bits whichever rank computes them.
    progress : Progress
        Told of every block.
    states : torch.Tensor, shape (rows, width)
        Where they are kept, rounded to its dtype.

    Returns
    -------
    CachedStates
    """
    labels = torch.empty(len(states), dtype=torch.int64, device=reservoir.device)
    first, doing = pieces[0][0], "computing reservoir states"
    as_computed = (states.dtype, states.device) == (reservoir.dtype, labels.device)
    for start, stop in pieces:
        kept, known = states[start - first : stop - first], labels[start - first : stop - first]
        out = kept if as_computed else None
        for place, found, classes in state_blocks(reservoir, shards, split, start, stop, progress, doing, out):
            if out is None:
                kept[place] = found.to(kept.device, kept.dtype)
            known[place] = classes
    return CachedStates(states, labels, first)

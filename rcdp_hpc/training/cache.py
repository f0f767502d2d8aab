"""Reservoir states of a rank's slab, computed once and kept: the reservoir is fixed, so they never change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import TrainingSection
from rcdp_hpc.data.reading import ShardSet
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.passed import StateSource
from rcdp_hpc.reservoir.stream import ahead
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.memory import MIB
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.training.shifts import UNSHIFTED, Shift, shifted

MOMENT_ROWS = 1024


@dataclass(frozen=True)
class CachedStates:
    """States and labels of rows of a split, consecutive ones unless they are numbered.

    Attributes
    ----------
    states : torch.Tensor, shape (rows, kept * nodes)
        In the kernel's dtype, or that of ``training.cache_precision``.
    labels : torch.Tensor, shape (rows,), int64
        Class numbers.
    first : int
        Number of the first row in its split.
    numbers : torch.Tensor, shape (rows,), int64, optional
        Number of each row in its split, where they are not consecutive.
    """

    states: torch.Tensor
    labels: torch.Tensor
    first: int
    numbers: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return float32 states and labels of the given rows, counted from the first."""
        return self.states[rows].float(), self.labels[rows]

    def numbers_of(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the numbers in the split of the given rows, counted from the first."""
        return rows + self.first if self.numbers is None else self.numbers[rows]

    def moments(self) -> NDArray[np.float64]:
        """Return the sum and the sum of squares of each feature over the rows, shape (2, kept * nodes)."""
        sums = np.zeros((2, self.states.shape[1]))
        for block in self.states.split(MOMENT_ROWS):
            wide = block.double()
            sums += torch.stack([wide.sum(0), (wide * wide).sum(0)]).cpu().numpy()
        return sums


def cache_dtype(settings: TrainingSection, reservoir: StateSource) -> torch.dtype:
    """Return what states are kept in."""
    chosen = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    return chosen.get(settings.cache_precision, reservoir.dtype)


def refuse_too_many(rows: int, width: int, dtype: torch.dtype, limit: int) -> None:
    """Raise an `InputError` where the states of a rank's rows take more than `limit` bytes."""
    needed = rows * width * dtype.itemsize
    if needed > limit:
        half = " set training.cache_precision = 'bfloat16'," if dtype.itemsize > 2 else ""
        raise InputError(
            f"the states of {rows} rows, {width} values each, take {needed // MIB + 1} MiB, more than the "
            f"{limit // MIB} MiB that a rank may keep (training.cache_memory, or its share of the memory):{half} keep "
            "fewer states (reservoir.states, reservoir.reduction), take fewer nodes, or more machines"
        )


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
    dtype: torch.dtype | None = None,
) -> CachedStates:
    """Compute the states of consecutive pieces of a split.

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
    dtype : torch.dtype, optional
        What states are kept in; default: the reservoir's own.

    Returns
    -------
    CachedStates
    """
    rows = pieces[-1][1] - pieces[0][0]
    states = torch.empty((rows, reservoir.width), dtype=dtype or reservoir.dtype, device=reservoir.device)
    labels = torch.empty(rows, dtype=torch.int64, device=reservoir.device)
    first, doing = pieces[0][0], "computing reservoir states"
    for start, stop in pieces:
        kept, known = states[start - first : stop - first], labels[start - first : stop - first]
        out = kept if kept.dtype == reservoir.dtype else None
        for place, found, classes in state_blocks(reservoir, shards, split, start, stop, progress, doing, out):
            if out is None:
                kept[place] = found.to(kept.dtype)
            known[place] = classes
    return CachedStates(states, labels, first)

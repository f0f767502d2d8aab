"""Reservoir states of a rank's slab, computed once and kept: the reservoir is fixed, so they never change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import TrainingSection
from rcdp_hpc.data.reading import ShardSet
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.passed import StateSource
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.memory import MIB
from rcdp_hpc.runtime.progress import Progress

MOMENT_ROWS = 1024


@dataclass(frozen=True)
class CachedStates:
    """States and labels of consecutive rows of a split.

    Attributes
    ----------
    states : torch.Tensor, shape (rows, kept * nodes)
        In the kernel's dtype, or that of ``training.cache_precision``.
    labels : torch.Tensor, shape (rows,), int64
        Class numbers.
    first : int
        Number of the first row in its split.
    """

    states: torch.Tensor
    labels: torch.Tensor
    first: int

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return float32 states and labels of the given rows, counted from the first."""
        return self.states[rows].float(), self.labels[rows]

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
    first, size = pieces[0][0], reservoir.batch_rows
    for start, stop in ((low, min(low + size, end)) for begin, end in pieces for low in range(begin, end, size)):
        signals.raise_if_stopped("computing reservoir states")
        block = shards.read(split, start, stop)
        place = slice(start - first, stop - first)
        if states.dtype == reservoir.dtype:
            reservoir.drive(block.x, block.length, out=states[place], noisy=split == "train")
        else:
            states[place] = reservoir.drive(block.x, block.length, noisy=split == "train").to(states.dtype)
        labels[place] = torch.from_numpy(block.y).to(torch.int64)
        progress.advance(stop - start)
    return CachedStates(states, labels, first)

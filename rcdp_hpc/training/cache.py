"""Reservoir states of a rank's slab, computed once and kept: the reservoir is fixed, so they never change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.data.reading import ShardSet
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.progress import Progress

MOMENT_ROWS = 1024


@dataclass(frozen=True)
class CachedStates:
    """States and labels of consecutive rows of a split.

    Attributes
    ----------
    states : torch.Tensor, shape (rows, kept * nodes)
        In the kernel's dtype.
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


def cache_states(
    reservoir: Reservoir,
    shards: ShardSet,
    split: str,
    pieces: Sequence[tuple[int, int]],
    progress: Progress,
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

    Returns
    -------
    CachedStates
    """
    rows = pieces[-1][1] - pieces[0][0]
    states = torch.empty((rows, reservoir.width), dtype=reservoir.dtype, device=reservoir.device)
    labels = torch.empty(rows, dtype=torch.int64, device=reservoir.device)
    first, size = pieces[0][0], reservoir.batch_rows
    for start, stop in ((low, min(low + size, end)) for begin, end in pieces for low in range(begin, end, size)):
        signals.raise_if_stopped("computing reservoir states")
        block = shards.read(split, start, stop)
        place = slice(start - first, stop - first)
        reservoir.drive(block.x, block.length, out=states[place], noisy=split == "train")
        labels[place] = torch.from_numpy(block.y).to(torch.int64)
        progress.advance(stop - start)
    return CachedStates(states, labels, first)

"""States that are not kept: computed anew, from the rank's raw samples, whenever they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.data.shards.reader import ShardSet
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.progress import Progress


@dataclass(frozen=True, eq=False)
class RecomputedStates:
    """Stands in for the tensor of kept states, shape (rows, width): rows of it are computed when they are read.

    They equal kept states to rounding and not to the bit, since a product rounds by the rows that are in it: kept
    states are computed for `StateSource.batch_rows` consecutive rows at a time, these for the rows of a batch. Where
    the same rows are asked for in the same blocks, as for the ridge baseline, they are the same bits. The reservoir's
    noise follows the sample, and is therefore the same every time.

    Attributes
    ----------
    source : StateSource
        What computes them.
    samples : ndarray, shape (rows, *sample_shape)
        As they are stored in the shards.
    lengths : ndarray of int32, shape (rows,), or None
        Steps of each sample that hold data.
    storage : Storage
        How stored samples become values.
    dtype : torch.dtype
        What states are rounded to, as those that are kept.
    noisy : bool
        Whether they are given the reservoir's noise.
    """

    source: StateSource
    samples: NDArray[Any]
    lengths: NDArray[np.int32] | None
    storage: Storage
    dtype: torch.dtype
    noisy: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and values of each."""
        return len(self.samples), self.source.width

    @property
    def device(self) -> torch.device:
        """Where the states are computed."""
        return self.source.device

    def __getitem__(self, rows: torch.Tensor | slice) -> torch.Tensor:
        chosen = np.arange(*rows.indices(len(self.samples))) if isinstance(rows, slice) else rows.cpu().numpy()
        states = torch.empty((len(chosen), self.source.width), dtype=self.source.dtype, device=self.device)
        for start in range(0, len(chosen), self.source.batch_rows):
            part = chosen[start : start + self.source.batch_rows]
            lengths = None if self.lengths is None else self.lengths[part]
            samples = self.storage.decode(self.samples[part])
            self.source.drive(samples, lengths, out=states[start : start + len(part)], noisy=self.noisy)
        return states.to(self.dtype)


def sample_bytes(shards: ShardSet) -> int:
    """Return what a raw sample takes in memory, as it is stored."""
    return int(np.prod(shards.sample_shape)) * shards.layout.storage.dtype.itemsize


def read_samples(
    source: StateSource,
    shards: ShardSet,
    split: str,
    pieces: Sequence[tuple[int, int]],
    progress: Progress,
    dtype: torch.dtype,
) -> tuple[RecomputedStates, torch.Tensor]:
    """Read what states of consecutive pieces of a split are computed from; parameters as `cache_states`.

    Returns
    -------
    RecomputedStates
        Those of training rows with the reservoir's noise.
    torch.Tensor, shape (rows,), int64
        Class numbers.

    Raises
    ------
    StoppedError
        If a stop signal was received.
    """
    first, stop = pieces[0][0], pieces[-1][1]
    samples = np.empty((stop - first, *shards.sample_shape), shards.layout.storage.dtype.newbyteorder("="))
    for low in range(first, stop, source.batch_rows):
        signals.raise_if_stopped("reading samples")
        high = min(low + source.batch_rows, stop)
        samples[low - first : high - first] = shards.stored(split, low, high)
        progress.advance(high - low)
    columns = shards.columns(split, first, stop, ["y", *(["length"] if shards.layout.has_lengths else [])])
    labels = torch.from_numpy(columns["y"].astype(np.int64)).to(source.device)
    states = RecomputedStates(
        source, samples, columns.get("length"), shards.layout.storage, dtype, noisy=split == "train"
    )
    return states, labels

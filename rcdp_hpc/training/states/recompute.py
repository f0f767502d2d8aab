"""States that are not stored: computed from the rank's raw samples on each access."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.training.states.stored_values import values_on


@dataclass(frozen=True, eq=False)
class RecomputedStates:
    """Replacement for a tensor of stored states, shape (rows, width): rows are computed on access.

    The states are equal to stored states except for rounding, since the rounding of a matrix product depends on its
    rows. Stored states are computed for `StateSource.batch_rows` consecutive rows at a time, these for the rows of a
    batch. For the same blocks of rows, as of the ridge baseline, the bits are the same. The reservoir's noise depends
    on the sample only, so that it is the same on each access.

    Attributes
    ----------
    source : StateSource
        Computes the states.
    samples : ndarray, shape (rows, *sample_shape)
        The samples as stored in the shards.
    lengths : ndarray of int32, shape (rows,), or None
        Length of each sample; None if all have the same.
    storage : Storage
        Converts stored samples to values.
    dtype : torch.dtype
        The dtype of the result.
    noisy : bool
        Whether the samples get the reservoir's noise.
    """

    source: StateSource
    samples: NDArray[Any]
    lengths: NDArray[np.int32] | None
    storage: Storage
    dtype: torch.dtype
    noisy: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows, and of values in each."""
        return len(self.samples), self.source.width

    @property
    def device(self) -> torch.device:
        """The device that computes the states."""
        return self.source.device

    def __getitem__(self, rows: torch.Tensor | slice) -> torch.Tensor:
        chosen = np.arange(*rows.indices(len(self.samples))) if isinstance(rows, slice) else rows.cpu().numpy()
        states = torch.empty((len(chosen), self.source.width), dtype=self.source.dtype, device=self.device)
        for start in range(0, len(chosen), self.source.batch_rows):
            part = chosen[start : start + self.source.batch_rows]
            lengths = None if self.lengths is None else self.lengths[part]
            samples = values_on(self.device, self.storage, self.samples[part])
            self.source.drive(samples, lengths, out=states[start : start + len(part)], noisy=self.noisy)
        return states.to(self.dtype)


def sample_bytes(shards: ShardReader) -> int:
    """Return the bytes of a raw sample as stored."""
    return int(np.prod(shards.sample_shape)) * shards.layout.storage.dtype.itemsize


def read_samples(
    source: StateSource,
    shards: ShardReader,
    split: str,
    ranges: Sequence[tuple[int, int]],
    progress: Progress,
    dtype: torch.dtype,
) -> tuple[RecomputedStates, torch.Tensor]:
    """Read the samples of consecutive ranges of rows of a split; parameters as in `cache_states`.

    Returns
    -------
    RecomputedStates
        With the reservoir's noise for training rows.
    torch.Tensor, shape (rows,), int64
        Class indices.

    Raises
    ------
    StoppedError
        If a stop signal was received.
    """
    first, stop = ranges[0][0], ranges[-1][1]
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

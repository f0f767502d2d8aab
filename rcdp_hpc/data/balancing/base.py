"""What every balancing method implements, and the task that it gets."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.balancing.lengths import resample_steps
from rcdp_hpc.data.rows import RowTable, original_rows, stacked
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.data.sources import Source

READ_BYTES = 2**22


class UnsuitedError(Exception):
    """The method cannot balance these samples; the message is a sentence without a full stop."""


@dataclass(frozen=True, eq=False)
class BalancingTask:
    """Training samples and the number of rows that each class should have.

    Attributes
    ----------
    source : Source
        The samples.
    train : ndarray of int64, shape (N,)
        Ascending indices of the training samples in the source.
    targets : sequence of int
        Rows that each class should have.
    data : DataSection
        ``smote_neighbours``, ``memory_budget`` and ``folds`` are used.
    seed : int
        Seed of all random numbers.
    storage : Storage
        How samples are stored: distances are computed between stored values.
    progress : bool
        Show progress.
    check_stop : callable
        Called between blocks of work; raises an exception to stop.
    quiet : bool
        Do not warn of classes that are too small for SMOTE with k neighbours.
    title : str
        Title of the progress bar.
    """

    source: Source
    train: NDArray[np.int64]
    targets: Sequence[int]
    data: DataSection
    seed: int
    storage: Storage
    progress: bool = False
    check_stop: Callable[[], None] = lambda: None
    quiet: bool = False
    title: str = "neighbours"

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each training sample, shape (N,)."""
        return self.source.train.y[self.train]

    @cached_property
    def members(self) -> list[NDArray[np.int64]]:
        """Ascending indices, in the source, of the training samples of each class."""
        return [self.train[self.labels == label] for label in range(len(self.source.classes))]

    def originals(self) -> RowTable:
        """Return the training samples as rows."""
        return original_rows(self.labels, self.train)

    def samples(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return samples as distances are computed: stored values, series resampled to the length of the longest.

        Parameters
        ----------
        indices : ndarray of int64, shape (n,)
            Indices in the source.

        Returns
        -------
        ndarray of float32, shape (n, *sample_shape)
        """
        size = max(1, READ_BYTES // (4 * math.prod(self.source.sample_shape)))
        if len(indices) <= size:
            return self._block(indices)
        # Read in blocks: while a block is decoded and resampled, it is in memory several times.
        x = np.empty((len(indices), *self.source.sample_shape), np.float32)
        for start in range(0, len(indices), size):
            x[start : start + size] = self._block(indices[start : start + size])
        return x

    def flat_samples(self) -> NDArray[np.float32]:
        """Return all training samples as `samples` does, flattened, shape (N, width)."""
        return self.samples(self.train).reshape(len(self.train), -1)

    def _block(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        x = self.storage.rounded(self.source.samples(indices))
        lengths = self.source.lengths(indices)
        return x if lengths is None else resample_steps(x, lengths, x.shape[1])


class BalancingMethod(ABC):
    """Balances the classes of the training part. A method is created without arguments."""

    @abstractmethod
    def rows(self, task: BalancingTask) -> RowTable:
        """Return the training rows after balancing, in any order.

        Raises
        ------
        UnsuitedError
            If the samples do not suit the method.
        """


class OverSampling(BalancingMethod):
    """Keeps all samples and adds synthetic rows to the classes that are below their targets."""

    def rows(self, task: BalancingTask) -> RowTable:
        """Return the samples and, after them, the synthetic rows."""
        return stacked([task.originals(), *self.synthetic(task)])

    @abstractmethod
    def synthetic(self, task: BalancingTask) -> list[RowTable]:
        """Return the synthetic rows of each class that is below its target."""

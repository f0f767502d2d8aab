"""The training rows of each step, the same for any number of ranks.

The N training rows are divided into V partitions of consecutive rows. Each partition is shuffled by itself in every
epoch, and a global batch takes the same share of every partition. A rank has a range of whole partitions. R ranks with
batch B therefore see, together, the batches that one rank with batch R*B sees, and each epoch has every row once.

If ranks are not equally fast, they have unequal numbers of partitions; the batches stay the same. If rows are
redistributed over the partitions (`Repartitioner`), row indices are positions in the new order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.training.partition.load_balance import Speeds, shares
from rcdp_hpc.training.training_checkpoint import TrainingCheckpoint


@dataclass(frozen=True)
class BatchPlan:
    """The batches of one rank.

    Attributes
    ----------
    rows : int
        Training rows N over all ranks.
    global_batch : int
        Rows of one step over all ranks.
    partitions : int
        Configured number of partitions; `partition_count` is the number V in use.
    rank, ranks : int
        This rank, and the number of ranks.
    seed : int
        Seed of the shuffles.
    rank_speeds : tuple of float
        Relative speed of each rank, which decides its number of partitions; empty if all ranks have equally many.
    reshuffle_every : int
        Epochs between redistributions of the rows over the partitions; 0 is never.
    """

    rows: int
    global_batch: int
    partitions: int
    rank: int
    ranks: int
    seed: int
    rank_speeds: Speeds = ()
    reshuffle_every: int = 0

    @property
    def partition_count(self) -> int:
        """Number of partitions V: the least multiple of `partitions` that gives every rank at least one."""
        return partitions_for(self.partitions, self.ranks)

    @property
    def steps(self) -> int:
        """Steps of an epoch; the last may have fewer rows."""
        return math.ceil(self.rows / self.global_batch)

    @cached_property
    def local_partitions(self) -> range:
        """The partitions of this rank."""
        count = self.partition_count
        if self.rank_speeds:
            ends = [0, *accumulate(shares(count, self.rank_speeds))]
            return range(ends[self.rank], ends[self.rank + 1])
        return range(self.rank * count // self.ranks, (self.rank + 1) * count // self.ranks)

    def partition_start(self, partition: int) -> int:
        """Return the first row of a partition. Sizes are floor((N + v) / V), so they differ by at most one."""
        count = self.partition_count
        # The sum over v' < v of floor((N + v') / V): the last N mod V partitions have one row more.
        extra = max(0, partition - (count - self.rows % count))
        return partition * (self.rows // count) + extra

    def partition_bounds(self, partition: int) -> tuple[int, int]:
        """Return the first row of a partition, and one after its last row."""
        return self.partition_start(partition), self.partition_start(partition + 1)

    @property
    def local_rows(self) -> tuple[int, int]:
        """The rows of this rank: the first, and one after the last."""
        local = self.local_partitions
        return self.partition_start(local.start), self.partition_start(local.stop)

    @property
    def most_batch_rows(self) -> int:
        """Most rows of a batch on this rank."""
        start, stop = self.local_rows
        return min(stop - start, len(self.local_partitions) * math.ceil(self.global_batch / self.partition_count))

    def global_rows(self, step: int) -> int:
        """Return the number of rows of a step over all ranks."""
        return min(self.global_batch, self.rows - step * self.global_batch)

    @cached_property
    def _local_bounds(self) -> NDArray[np.int64]:
        """First row of each partition of this rank, and one after the last row, as local row indices."""
        local = self.local_partitions
        starts = [self.partition_start(partition) for partition in range(local.start, local.stop + 1)]
        return np.array(starts, np.int64) - starts[0]

    def orders(self, epoch: int) -> NDArray[np.int64]:
        """Return the local row indices of all partitions of this rank in turn, each partition shuffled."""
        bounds = self._local_bounds
        shuffled = np.arange(bounds[-1])
        ranges = zip(self.local_partitions, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        for partition, start, stop in ranges:
            if stop - start > 1:
                generator = np.random.default_rng([self.seed, epoch, partition])
                shuffled[start:stop] = start + generator.permutation(stop - start)
        return shuffled

    def batch(self, orders: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Return the local row indices of a step; there may be none.

        Partition v contributes its rows floor((s*G + v)/V) to floor(((s+1)*G + v)/V), up to its end. Over all
        partitions these are exactly G rows (Hermite's identity), and exactly N over an epoch.

        Parameters
        ----------
        orders : ndarray of int64
            The result of `orders`.
        step : int
            Step of the epoch, from 0.
        """
        count, local, bounds = self.partition_count, self.local_partitions, self._local_bounds
        partitions = np.arange(local.start, local.stop)
        low = np.minimum(bounds[:-1] + (step * self.global_batch + partitions) // count, bounds[1:])
        high = np.minimum(bounds[:-1] + ((step + 1) * self.global_batch + partitions) // count, bounds[1:])
        sizes = high - low
        # Consecutive positions from the low end of each partition, for all partitions at once.
        offsets = np.cumsum(sizes) - sizes
        return orders[np.repeat(low - offsets, sizes) + np.arange(sizes.sum())]


def partitions_for(partitions: int, ranks: int) -> int:
    """Return the least multiple of `partitions` that gives every rank at least one."""
    return partitions * math.ceil(ranks / partitions)


def resumed_partitions(partitions: int, saved: TrainingCheckpoint | None) -> int:
    """Return the number of partitions to draw batches from: that of the resumed checkpoint, or `partitions`.

    More ranks than `partitions` raise the number. It stays raised if fewer ranks resume the training, because the rest
    of the epoch would otherwise repeat some rows and miss others.
    """
    return partitions if saved is None else saved.partition_count


def partitions_per_rank(plan: BatchPlan) -> list[int]:
    """Return the number of partitions of each rank."""
    return [len(replace(plan, rank=rank).local_partitions) for rank in range(plan.ranks)]

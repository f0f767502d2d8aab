"""Redistribution of the rows over the partitions during a training, with an exchange of states between ranks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.parallel.base import Engine
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.states.cache import CachedStates

# Bytes of states in one exchange, in addition to the stored states.
BLOCK_BYTES = 32 * 2**20
# Separates these random numbers from those of the shuffles, which are drawn by (seed, epoch, partition).
_STREAM = 2**31


def draw_partitions(labels: NDArray[np.int64], partitions: int, seed: int, period: int) -> NDArray[np.int64]:
    """Return the rows of all partitions in turn, in ascending order within each partition.

    A stratified random split (eq. 2): the rows of each class are shuffled and assigned to the partitions in rotation,
    so that all partitions have the class proportions of the whole, and the sizes of `BatchPlan.partition_bounds`.

    Parameters
    ----------
    labels : ndarray, shape (N,)
        Class indices of all training rows.
    partitions : int
        Number of partitions V.
    seed, period : int
        Seeds of the split. In period 0 the partitions are consecutive rows, whose proportions the shards ensure.

    Returns
    -------
    ndarray, shape (N,), int64

    Examples
    --------
    >>> rows = draw_partitions(np.array([0, 1, 0, 1, 0, 1, 0, 1]), 2, seed=1, period=3)
    >>> sorted(rows.tolist()), (rows[:4] % 2).sum()
    ([0, 1, 2, 3, 4, 5, 6, 7], np.int64(2))
    """
    if not period:
        return np.arange(len(labels))
    shuffled = np.random.default_rng([seed, period, _STREAM]).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    partition = np.empty(len(labels), np.int64)
    # From the last partition downwards, since the last ones may have one row more.
    partition[by_class] = partitions - 1 - np.arange(len(labels)) % partitions
    return np.argsort(partition, kind="stable")


def numbered(train: CachedStates) -> CachedStates:
    """Return the rows with a copy of their labels and with their indices, tensors that `Repartitioner` overwrites."""
    return replace(train, labels=train.labels.clone(), numbers=train.all_numbers())


class Repartitioner:
    """Gives every rank the rows of its partitions in each epoch.

    States are computed once, by the first rank of a row, and then sent between ranks: about N (R - 1) / R of N rows
    change their rank each time, with all their stored values.

    Parameters
    ----------
    plan : BatchPlan
        The batches; ``plan.reshuffle_every`` is not 0.
    labels : ndarray, shape (N,)
        Class indices of all training rows.
    engine : Engine
        Exchanges rows with other ranks.
    """

    def __init__(self, plan: BatchPlan, labels: NDArray[np.int64], engine: Engine) -> None:
        self.plan = plan
        self.labels = labels
        self.engine = engine
        self.period = 0
        self.rows: NDArray[np.int64] = np.arange(len(labels))
        ranks = [replace(plan, rank=rank).local_rows for rank in range(plan.ranks)]
        self.ends = np.array([stop for _, stop in ranks])
        # The same on all ranks, so that all take part in the same number of exchanges.
        self.most_rows = max(stop - start for start, stop in ranks)

    def partition(self, epoch: int, train: CachedStates) -> CachedStates:
        """Return this rank's rows for an epoch, in the same tensors as before. Collective.

        Parameters
        ----------
        epoch : int
            From 0.
        train : CachedStates
            This rank's current rows; those of another epoch overwrite them, and `numbers` if there are any.
        """
        period = epoch // self.plan.reshuffle_every
        if period == self.period:
            return train
        rows = draw_partitions(self.labels, self.plan.partition_count, self.plan.seed, period)
        self._exchange(train.stored, rows)  # `place_states` stores states that are exchanged
        self.period = period
        self.rows = rows
        start, stop = self.plan.local_rows
        local_rows = torch.from_numpy(rows[start:stop])
        train.labels.copy_(torch.from_numpy(self.labels[rows[start:stop]]))
        if train.numbers is None:
            return replace(train, numbers=local_rows.to(train.device))
        train.numbers.copy_(local_rows)
        return train

    def _exchange(self, states: torch.Tensor, rows: NDArray[np.int64]) -> None:
        """Overwrite this rank's states by those of its positions in `rows`."""
        position = np.empty_like(self.rows)
        position[self.rows] = np.arange(len(rows))
        # For each new position over all ranks, the current position of its row.
        sources = position[rows]
        start, stop = self.plan.local_rows
        leaving = np.flatnonzero((sources >= start) & (sources < stop))
        send = torch.from_numpy(sources[leaving] - start).to(states.device)
        counts = np.bincount(self._rank_of(leaving), minlength=self.plan.ranks)
        # Rows arrive in order of rank, and those of a rank in the order of their new positions.
        arrive = torch.from_numpy(np.argsort(self._rank_of(sources[start:stop]), kind="stable")).to(states.device)
        width = max(1, BLOCK_BYTES // (self.most_rows * states.element_size()))
        for first in range(0, states.shape[1], width):
            block = states[:, first : first + width]
            block[arrive] = self.engine.exchange(block[send], counts)

    def _rank_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rank of each position."""
        return np.searchsorted(self.ends, positions, side="right")

"""Slabs cut anew in the course of a training: other rows to each rank, by an exchange of what the ranks keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.states.cache import CachedStates

# What is on its way at once, next to the states themselves.
BLOCK_BYTES = 32 * 2**20
# Apart from the shuffles, which are drawn by (seed, epoch, slab).
_STREAM = 2**31


def draw_slabs(labels: NDArray[np.int64], slabs: int, seed: int, period: int) -> NDArray[np.int64]:
    """Return the rows of all slabs one after the other, each slab's in ascending order.

    A stratified random split (eq. 2): the rows of each class are shuffled and dealt to the slabs in turn, so that all
    slabs have the class proportions of the whole, and as many rows as `BatchPlan.slab_bounds` says.

    Parameters
    ----------
    labels : ndarray, shape (N,)
        Classes of all training rows.
    slabs : int
        Number of slabs V.
    seed, period : int
        What is drawn by. Period 0 is the cut that the shards are made for: consecutive rows.

    Returns
    -------
    ndarray, shape (N,), int64

    Examples
    --------
    >>> rows = draw_slabs(np.array([0, 1, 0, 1, 0, 1, 0, 1]), 2, seed=1, period=3)
    >>> sorted(rows.tolist()), (rows[:4] % 2).sum()
    ([0, 1, 2, 3, 4, 5, 6, 7], np.int64(2))
    """
    if not period:
        return np.arange(len(labels))
    shuffled = np.random.default_rng([seed, period, _STREAM]).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    slab = np.empty(len(labels), np.int64)
    # From the last slab downwards, since the last ones hold a row more.
    slab[by_class] = slabs - 1 - np.arange(len(labels)) % slabs
    return np.argsort(slab, kind="stable")


class Recut:
    """Gives every rank the rows of its slabs as they are in each epoch.

    States are computed once, by the rank that the row lies on at first, and then passed on: of N rows about
    N (R - 1) / R change their rank each time, with all values that are kept of them.

    Parameters
    ----------
    plan : BatchPlan
        The batches; with the epochs between two cuts.
    labels : ndarray, shape (N,)
        Classes of all training rows.
    parallel : Alone
        Exchanges rows with other ranks.
    """

    def __init__(self, plan: BatchPlan, labels: NDArray[np.int64], parallel: SingleProcessEngine) -> None:
        self.plan, self.labels, self.parallel = plan, labels, parallel
        self.period = 0
        self.rows: NDArray[np.int64] = np.arange(len(labels))
        ranks = [replace(plan, rank=rank).own_rows for rank in range(plan.ranks)]
        self.ends = np.array([stop for _, stop in ranks])
        # The same on all ranks, which take part in equally many exchanges.
        self.most_rows = max(stop - start for start, stop in ranks)

    def cut(self, epoch: int, train: CachedStates) -> CachedStates:
        """Return this rank's rows for an epoch, their states in the place of those before. Collective.

        Parameters
        ----------
        epoch : int
            From 0.
        train : CachedStates
            This rank's rows as they are now.
        """
        period = epoch // self.plan.recut_epochs
        if period == self.period:
            return train
        rows = draw_slabs(self.labels, self.plan.slab_count, self.plan.seed, period)
        assert isinstance(train.states, torch.Tensor), "place_states refuses to recompute what is exchanged"
        self._exchange(train.states, rows)
        self.period, self.rows = period, rows
        start, stop = self.plan.own_rows
        own = torch.from_numpy(rows[start:stop])
        labels, device = torch.from_numpy(self.labels[rows[start:stop]]), train.device
        return replace(train, labels=labels.to(device), numbers=own.to(device))

    def _exchange(self, states: torch.Tensor, rows: NDArray[np.int64]) -> None:
        """Overwrite this rank's states by those of its places in `rows`."""
        place = np.empty_like(self.rows)
        place[self.rows] = np.arange(len(rows))
        # For each new place over all ranks, the place where its row lies now.
        sources = place[rows]
        start, stop = self.plan.own_rows
        leaving = np.flatnonzero((sources >= start) & (sources < stop))
        send = torch.from_numpy(sources[leaving] - start).to(states.device)
        counts = np.bincount(self._rank_of(leaving), minlength=self.plan.ranks)
        # Rows come rank by rank, those of a rank in the order of their new places.
        arrive = torch.from_numpy(np.argsort(self._rank_of(sources[start:stop]), kind="stable")).to(states.device)
        width = max(1, BLOCK_BYTES // (self.most_rows * states.element_size()))
        for first in range(0, states.shape[1], width):
            block = states[:, first : first + width]
            block[arrive] = self.parallel.exchange(block[send], counts)

    def _rank_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return whose places these are."""
        return np.searchsorted(self.ends, places, side="right")

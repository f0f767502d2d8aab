"""Which training rows make up each step, the same for any number of ranks.

The N training rows are cut into V canonical slabs of consecutive rows. Each slab is shuffled on its own every
epoch, and a global batch takes the same share of every slab; a rank owns a run of whole slabs. So R ranks
with batch B see, together, the batches that one rank with batch R*B sees, and every row is seen once an epoch.

Where ranks are not equally fast, they own unequal numbers of slabs, which changes nothing of the batches. Where slabs
are cut anew (`recut`), rows here are places in the new order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.training.partition.load_balance import Speeds, shares


@dataclass(frozen=True)
class BatchPlan:
    """The batches of one rank.

    Attributes
    ----------
    rows : int
        Training rows N over all ranks.
    global_batch : int
        Rows of one step over all ranks.
    slabs : int
        Canonical slabs V; raised to the next multiple that gives every rank at least one.
    rank, ranks : int
        Whose batches these are.
    seed : int
        Seed of the shuffles.
    speeds : tuple of float
        Relative speed of each rank, by which slabs are dealt; empty where all get equally many.
    recut_epochs : int
        Epochs after which other rows make up the slabs; 0 is never.
    """

    rows: int
    global_batch: int
    slabs: int
    rank: int
    ranks: int
    seed: int
    speeds: Speeds = ()
    recut_epochs: int = 0

    @property
    def slab_count(self) -> int:
        """Slabs in use: a multiple of `slabs`, at least the number of ranks."""
        return slabs_for(self.slabs, self.ranks)

    @property
    def steps(self) -> int:
        """Steps of an epoch; the last may be smaller."""
        return math.ceil(self.rows / self.global_batch)

    @cached_property
    def own_slabs(self) -> range:
        """The slabs of this rank."""
        count = self.slab_count
        if self.speeds:
            ends = [0, *accumulate(shares(count, self.speeds))]
            return range(ends[self.rank], ends[self.rank + 1])
        return range(self.rank * count // self.ranks, (self.rank + 1) * count // self.ranks)

    def slab_start(self, slab: int) -> int:
        """Return the first row of a slab: sizes are floor((N + v) / V), so they differ by at most one."""
        count = self.slab_count
        # The sum over v' < v of floor((N + v') / V): the last N mod V slabs hold one row more.
        extra = max(0, slab - (count - self.rows % count))
        return slab * (self.rows // count) + extra

    def slab_bounds(self, slab: int) -> tuple[int, int]:
        """Return the first row of a slab and the one behind its last."""
        return self.slab_start(slab), self.slab_start(slab + 1)

    @property
    def own_rows(self) -> tuple[int, int]:
        """The rows of this rank: first, and one behind the last."""
        own = self.own_slabs
        return self.slab_start(own.start), self.slab_start(own.stop)

    def global_rows(self, step: int) -> int:
        """Return the rows of a step over all ranks."""
        return min(self.global_batch, self.rows - step * self.global_batch)

    @cached_property
    def _own_bounds(self) -> NDArray[np.int64]:
        """Where each own slab begins, and where the last ends, counted from this rank's first row."""
        own = self.own_slabs
        starts = [self.slab_start(slab) for slab in range(own.start, own.stop + 1)]
        return np.array(starts, np.int64) - starts[0]

    def orders(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows of the own slabs, one slab after the other, each shuffled; counted from the first own row."""
        bounds = self._own_bounds
        shuffled = np.arange(bounds[-1])
        for slab, start, stop in zip(self.own_slabs, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            if stop - start > 1:
                generator = np.random.default_rng([self.seed, epoch, slab])
                shuffled[start:stop] = start + generator.permutation(stop - start)
        return shuffled

    def batch(self, orders: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Return this rank's rows of a step, possibly none, counted from this rank's first row.

        Slab v gives its rows floor((s*G + v)/V) to floor(((s+1)*G + v)/V), cut at its end: over all slabs these
        add up to exactly G rows (Hermite's identity), and at the end of an epoch to exactly N.
        """
        count, own, bounds = self.slab_count, self.own_slabs, self._own_bounds
        slabs = np.arange(own.start, own.stop)
        low = np.minimum(bounds[:-1] + (step * self.global_batch + slabs) // count, bounds[1:])
        high = np.minimum(bounds[:-1] + ((step + 1) * self.global_batch + slabs) // count, bounds[1:])
        taken = high - low
        # Consecutive places from each slab's low, all slabs at once.
        before = np.cumsum(taken) - taken
        return orders[np.repeat(low - before, taken) + np.arange(taken.sum())]


def slabs_for(slabs: int, ranks: int) -> int:
    """Return the next multiple of `slabs` that gives every rank at least one."""
    return slabs * math.ceil(ranks / slabs)


def kept_slabs(slabs: int, saved: dict[str, Any] | None) -> int:
    """Return the slabs that batches are drawn from: those of the checkpoint that is gone on from, or `slabs`.

    Ranks more than `slabs` have raised their number; where fewer go on, it stays, or the rest of the epoch would see
    rows once more and miss others.
    """
    if saved is None:
        return slabs
    return int(saved["slab_count"])


def slabs_of_ranks(plan: BatchPlan) -> list[int]:
    """Return how many slabs each rank owns."""
    return [len(replace(plan, rank=rank).own_slabs) for rank in range(plan.ranks)]

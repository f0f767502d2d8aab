"""Which worker evaluates which candidate, and how many ranks make a worker. Nothing here changes a result."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.search.space import Space

REMEMBERED = 2000
LEAST_SHARE = 0.05  # of the mean cost, below which no prediction falls
PASSING_ON = 0.01  # of a candidate's cost, for every further rank of its group


def assign_longest_first(costs: NDArray[np.float64], workers: int) -> list[list[int]]:
    """Deal candidates to workers, longest first, each to the worker that is free first.

    Parameters
    ----------
    costs : ndarray, shape (n,)
        Predicted cost of each candidate, at least 0.
    workers : int

    Returns
    -------
    list of list of int
        The candidates of each worker in the order they are evaluated; of equals the first comes first.

    References
    ----------
    R. L. Graham, "Bounds on multiprocessing timing anomalies", SIAM Journal on Applied Mathematics 17 (1969)
    416-429: the last worker is done within 4/3 - 1/(3·workers) of the best possible time.
    """
    hands: list[list[int]] = [[] for _ in range(workers)]
    loads = np.zeros(workers)
    for candidate in np.argsort(-costs, kind="stable"):
        # of equal loads the one with fewer candidates, so that costs of 0 are spread as well
        free = min(range(workers), key=lambda worker: (loads[worker], len(hands[worker])))
        hands[free].append(int(candidate))
        loads[free] += costs[candidate]
    return hands


def choose_group_ranks(candidates: int, ranks: int, parallel_share: float) -> int:
    """Return how many ranks should evaluate a candidate together.

    A generation takes rounds · T(g), T(g) = 1 - s + s/g + 0.01·(g - 1) for groups of g ranks, s the share of a
    candidate's cost that its group divides, and rounds = ceil(candidates / groups).

    Parameters
    ----------
    candidates : int
        Candidates to be evaluated.
    ranks : int
    parallel_share : float
        s, between 0 and 1, as measured.

    Returns
    -------
    int
        The g of least time, the smallest of equals.
    """

    def time(size: int) -> float:
        rounds = math.ceil(max(candidates, 1) / (ranks // size))
        return rounds * (1 - parallel_share + parallel_share / size + PASSING_ON * (size - 1))

    return min(range(1, ranks + 1), key=lambda size: (time(size), size))


class CostModel:
    """Predicts the seconds of a candidate from those of earlier ones: linear in its values.

    Until there are enough of them the cost is taken to grow with the values that mean work: the connection
    density (eigenvalues, sparse matrices) and the hidden width (training).

    Parameters
    ----------
    space : Space
    """

    def __init__(self, space: Space) -> None:
        self.low = np.array([dimension.low for dimension in space.dimensions])
        self.width = np.array([dimension.high for dimension in space.dimensions]) - self.low
        self.work = [column for column, name in enumerate(space.names) if name in ("density", "hidden")]
        self._values: list[NDArray[np.float64]] = []
        self._seconds: list[float] = []

    @property
    def slowest(self) -> float:
        """The seconds of the slowest candidate, 0 before there is one."""
        return max(self._seconds, default=0.0)

    def observe(self, values: NDArray[np.float64], seconds: float) -> None:
        """Take the time that a candidate took, shape (d,)."""
        self._values.append(self._scaled(values))
        self._seconds.append(seconds)
        del self._values[:-REMEMBERED], self._seconds[:-REMEMBERED]

    def predict(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the cost of candidates, shape (n, d), in seconds once there are measurements, shape (n,)."""
        scaled = self._scaled(values)
        if len(self._seconds) < 2 * scaled.shape[1] + 2:
            return 1.0 + scaled[:, self.work].sum(axis=1)
        known, seconds = np.array(self._values), np.array(self._seconds)
        design = np.column_stack([np.ones(len(known)), known])
        weights, *_ = np.linalg.lstsq(design, seconds, rcond=1e-6)
        found = np.column_stack([np.ones(len(scaled)), scaled]) @ weights
        return np.maximum(found, LEAST_SHARE * seconds.mean())

    def _scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return (values - self.low) / self.width


def padded(hands: Sequence[Sequence[int]], leaders: Sequence[int], ranks: int) -> NDArray[np.int64]:
    """Return who gets what as a table, shape (ranks, longest hand), with -1 where there is nothing.

    Parameters
    ----------
    hands : sequence of sequence of int
        Candidates of each worker.
    leaders : sequence of int
        Rank that leads each worker.
    ranks : int
    """
    table = np.full((ranks, max((len(hand) for hand in hands), default=0)), -1, dtype=np.int64)
    for leader, hand in zip(leaders, hands, strict=True):
        table[leader, : len(hand)] = hand
    return table

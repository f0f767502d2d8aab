"""Which worker evaluates which candidate, and how many ranks form a worker. No result depends on it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GROUP_OVERHEAD = 0.01  # of a candidate's cost, for every further rank of its group


def assign_longest_first(costs: NDArray[np.float64], workers: int) -> list[list[int]]:
    """Assign candidates to workers, longest first, each to the worker that is free first.

    Parameters
    ----------
    costs : ndarray, shape (n,)
        Predicted cost of each candidate, at least 0.
    workers : int

    Returns
    -------
    list of list of int
        The candidates of each worker in the order of their evaluation; the first of equals comes first.

    References
    ----------
    R. L. Graham, "Bounds on multiprocessing timing anomalies", SIAM Journal on Applied Mathematics 17 (1969)
    416-429: the last worker finishes within 4/3 - 1/(3·workers) of the best possible time.
    """
    assignment: list[list[int]] = [[] for _ in range(workers)]
    loads = np.zeros(workers)
    for candidate in np.argsort(-costs, kind="stable"):
        # Of workers with equal loads the one with fewer candidates, so that candidates of cost 0 are spread as well.
        free = min(range(workers), key=lambda worker: (loads[worker], len(assignment[worker])))
        assignment[free].append(int(candidate))
        loads[free] += costs[candidate]
    return assignment


def choose_group_ranks(candidates: int, ranks: int, parallel_share: float) -> int:
    """Return the number of ranks that should evaluate a candidate together.

    For groups of g ranks a generation takes rounds · T(g), with T(g) = 1 - s + s/g + 0.01·(g - 1) and rounds =
    ceil(candidates / groups); s is the share of a candidate's cost that its group divides.

    Parameters
    ----------
    candidates : int
        Candidates of the generation.
    ranks : int
    parallel_share : float
        s, from 0 to 1, as measured.

    Returns
    -------
    int
        The g of least time, the smallest one of equals.
    """

    def time(size: int) -> float:
        rounds = math.ceil(max(candidates, 1) / (ranks // size))
        return rounds * (1 - parallel_share + parallel_share / size + GROUP_OVERHEAD * (size - 1))

    return min(range(1, ranks + 1), key=lambda size: (time(size), size))


def padded_table(assignment: Sequence[Sequence[int]], leaders: Sequence[int], ranks: int) -> NDArray[np.int64]:
    """Return the assignment as a table with a row for each rank, padded with -1.

    Parameters
    ----------
    assignment : sequence of sequence of int
        Candidates of each worker.
    leaders : sequence of int
        First rank of each worker.
    ranks : int

    Returns
    -------
    ndarray, shape (ranks, most candidates of a worker), int64
    """
    longest = max((len(candidates) for candidates in assignment), default=0)
    table = np.full((ranks, longest), -1, dtype=np.int64)
    for leader, candidates in zip(leaders, assignment, strict=True):
        table[leader, : len(candidates)] = candidates
    return table

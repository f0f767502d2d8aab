"""Which share of the work each rank gets: equal ones, or shares by speed where a cluster's nodes differ."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from rcdp_hpc.config import Config
from rcdp_hpc.data.split import slab_bounds
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agreed
from rcdp_hpc.training.checks import check_speeds

log = logging.getLogger(__name__)

REPEATS = 3
# Ranks whose measured speeds differ by less count as equal: so much differs from one measurement to the next.
EQUAL_WITHIN = 1.2

Speeds = tuple[float, ...]


def shares(units: int, speeds: Sequence[float]) -> list[int]:
    """Deal units in proportion to speeds, one at least to each.

    Everyone gets one unit; the rest goes by largest remainder, ties to the first.

    Parameters
    ----------
    units : int
        At least as many as there are speeds.
    speeds : sequence of float
        Above 0.

    Returns
    -------
    list of int
        Units of each; their sum is `units`.

    Examples
    --------
    >>> shares(12, [1, 1, 2, 2])
    [2, 2, 4, 4]
    >>> shares(4, [1, 100, 1])
    [1, 2, 1]
    """
    total = math.fsum(speeds)
    wanted = [max(1.0, units * speed / total) for speed in speeds]
    # Those lifted to one unit take it from the others.
    spare, weight = units - len(wanted), math.fsum(value - 1 for value in wanted) or 1.0
    exact = [spare * (value - 1) / weight for value in wanted]
    dealt = [math.floor(value) for value in exact]
    left = sorted(range(len(exact)), key=lambda rank: (dealt[rank] - exact[rank], rank))[: spare - sum(dealt)]
    return [1 + dealt[rank] + (rank in left) for rank in range(len(exact))]


def rows_by_speed(rows: int, rank: int, ranks: int, speeds: Speeds) -> tuple[int, int]:
    """Return the first row of a rank's part of `rows` and the one behind its last; without speeds, an equal slab."""
    if not speeds:
        return slab_bounds(rows, rank, ranks)
    ends = [0, *(round(rows * part / math.fsum(speeds)) for part in accumulate(speeds))]
    return ends[rank], ends[rank + 1]


def speeds_of_ranks(
    config: Config, comm: Communicator, measure: Callable[[], float], saved: dict[str, Any] | None
) -> Speeds:
    """Return the speeds that work is dealt by, the same on every rank; empty where all get the same. Collective.

    A training that is resumed on as many ranks keeps what it began with, so that it ends as if never stopped.

    Parameters
    ----------
    config : Config
        ``allotment`` and ``speeds``.
    comm : Communicator
        All ranks.
    measure : callable
        Returns this rank's speed, where it is to be measured.
    saved : dict, optional
        The checkpoint that is gone on from.

    Raises
    ------
    InputError
        If there is not one configured speed for each rank.
    """
    if config.partition.load_balance == "equal" or comm.size == 1:
        return ()
    if config.partition.load_balance == "rank_speeds":
        try:
            check_speeds(config, comm.size)
        except InputError as error:
            raise agreed(error) from None
        return tuple(config.partition.rank_speeds)
    earlier = None if saved is None else json.loads(saved["allotment"])
    if saved is not None and saved["ranks"] == comm.size and earlier and earlier["kind"] == "measured":
        return tuple(earlier["speeds"])
    comm.barrier()
    rates = comm.allgather(measure())
    slowest, fastest = min(rates), max(rates)
    if fastest < EQUAL_WITHIN * slowest:
        log.info("all ranks are about as fast (%.3g to %.3g samples a second): equal shares", slowest, fastest)
        return ()
    # Three digits are more than the measurement is worth, and easier to read.
    return tuple(float(f"{rate / slowest:.3g}") for rate in rates)


def measured_rate(reservoir: StateSource, steps: int, features: int) -> float:
    """Return the samples a second whose states this rank computes: the best of a few blocks."""
    block = np.random.default_rng(0).random((reservoir.batch_rows, steps, features), np.float32)
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        # The sum waits for a GPU to be done.
        float(reservoir.states(block).float().sum())
        seconds.append(time.perf_counter() - started)
    return len(block) / min(seconds)

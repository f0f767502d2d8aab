"""The share of the rows that each rank gets: equal, or in proportion to the ranks' speeds."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np

from rcdp_hpc.config import Config
from rcdp_hpc.data.split import slab_bounds
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agreed
from rcdp_hpc.training.checks import check_speeds
from rcdp_hpc.training.training_checkpoint import TrainingCheckpoint

log = logging.getLogger(__name__)

# Blocks of a speed measurement.
REPEATS = 3
# Ranks count as equally fast if the fastest is less than this factor faster: repeated measurements differ by as much.
EQUAL_WITHIN = 1.2

Speeds = tuple[float, ...]


def shares(units: int, speeds: Sequence[float]) -> list[int]:
    """Divide units in proportion to speeds, at least one for each speed.

    Each share starts with one unit; the others are divided by largest remainder, ties in order.

    Parameters
    ----------
    units : int
        At least as many as there are speeds.
    speeds : sequence of float
        Above 0.

    Returns
    -------
    list of int
        Units of each share; their sum is `units`.

    Examples
    --------
    >>> shares(12, [1, 1, 2, 2])
    [2, 2, 4, 4]
    >>> shares(4, [1, 100, 1])
    [1, 2, 1]
    """
    total = math.fsum(speeds)
    wanted = [max(1.0, units * speed / total) for speed in speeds]
    # Shares that are raised to one unit take it from the others.
    spare, weight = units - len(wanted), math.fsum(value - 1 for value in wanted) or 1.0
    exact = [spare * (value - 1) / weight for value in wanted]
    floors = [math.floor(value) for value in exact]
    rounded_up = sorted(range(len(exact)), key=lambda rank: (floors[rank] - exact[rank], rank))[: spare - sum(floors)]
    return [1 + floors[rank] + (rank in rounded_up) for rank in range(len(exact))]


def rows_by_speed(rows: int, rank: int, ranks: int, speeds: Speeds) -> tuple[int, int]:
    """Return the rows of a rank, the first and one after the last; equally many for all ranks if `speeds` is empty."""
    if not speeds:
        return slab_bounds(rows, rank, ranks)
    ends = [0, *(round(rows * part / math.fsum(speeds)) for part in accumulate(speeds))]
    return ends[rank], ends[rank + 1]


def speeds_of_ranks(
    config: Config, comm: Communicator, measure: Callable[[], float], saved: TrainingCheckpoint | None
) -> Speeds:
    """Return the speeds by which the rows are divided, the same on every rank; empty for equal shares. Collective.

    A training resumed on as many ranks uses the speeds of its start, so that it ends with the same bits.

    Parameters
    ----------
    config : Config
        ``partition.load_balance`` and ``partition.rank_speeds`` are read.
    comm : Communicator
        All ranks.
    measure : callable
        Returns this rank's speed; called for ``load_balance = "measured"``.
    saved : TrainingCheckpoint, optional
        The resumed checkpoint.

    Raises
    ------
    InputError
        If the number of configured speeds is not the number of ranks.
    """
    if config.partition.load_balance == "equal" or comm.size == 1:
        return ()
    if config.partition.load_balance == "rank_speeds":
        try:
            check_speeds(config, comm.size)
        except InputError as error:
            raise agreed(error) from None
        return tuple(config.partition.rank_speeds)
    if saved is not None and saved.ranks == comm.size and saved.load_balance["kind"] == "measured":
        return tuple(saved.load_balance["rank_speeds"])
    comm.barrier()
    rates = comm.allgather(measure())
    slowest, fastest = min(rates), max(rates)
    if fastest < EQUAL_WITHIN * slowest:
        log.info("all ranks are about equally fast (%.3g to %.3g samples per second): equal shares", slowest, fastest)
        return ()
    # Measurements are not more precise than three digits.
    return tuple(float(f"{rate / slowest:.3g}") for rate in rates)


def measured_rate(reservoir: StateSource, steps: int, features: int) -> float:
    """Return the samples per second of this rank's reservoir: the fastest of a few blocks.

    Parameters
    ----------
    reservoir : StateSource
    steps, features : int
        Steps of a sample, and features of a step.
    """
    block = np.random.default_rng(0).random((reservoir.batch_rows, steps, features), np.float32)
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        # The sum waits until a GPU is done.
        float(reservoir.states(block).float().sum())
        seconds.append(time.perf_counter() - started)
    return len(block) / min(seconds)

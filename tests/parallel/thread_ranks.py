"""Ranks that are threads of one process, for engines that can start several times in a process."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import for_thread

LIMIT = 30


class ThreadRank(SingleProcess):
    """One of several threads that exchange objects through a shared list."""

    library = "threads"

    def __init__(self, rank: int, table: list, barrier: threading.Barrier) -> None:
        self.rank, self.size = rank, len(table)
        self.table, self.meeting = table, barrier

    def barrier(self) -> None:
        self.meeting.wait(LIMIT)

    def allgather(self, value: Any) -> list[Any]:
        self.table[self.rank] = copy.deepcopy(value)
        self.meeting.wait(LIMIT)
        values = list(self.table)
        self.meeting.wait(LIMIT)
        return values

    def broadcast(self, value: Any) -> Any:
        return self.allgather(value)[0]

    def allreduce(self, array, op="sum"):
        stacked = np.stack(self.allgather(array))
        return {"sum": np.sum, "max": np.max, "min": np.min}[op](stacked, axis=0)


def on_ranks(count: int, work: Callable[[ThreadRank], Any]) -> list[Any]:
    """Return the values of `work` on all ranks; raise the first error of a rank."""
    table: list[Any] = [None] * count
    barrier, found = threading.Barrier(count), [None] * count

    def run(rank: int) -> None:
        try:
            found[rank] = work(ThreadRank(rank, table, barrier))
        except BaseException as error:  # raised by the caller
            found[rank] = error
            barrier.abort()

    threads = [threading.Thread(target=for_thread(run), args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LIMIT)
    errors = [one for one in found if isinstance(one, BaseException)]
    real = [one for one in errors if not isinstance(one, threading.BrokenBarrierError)]
    if errors:
        raise (real or errors)[0]
    return found

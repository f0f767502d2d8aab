"""Ranks as threads of one process, for tests without a launcher."""

from __future__ import annotations

import queue
import threading

import numpy as np

from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import for_thread


class Ranks:
    """Communicators whose ranks are threads of this process and meet at barriers."""

    def __init__(self, size: int) -> None:
        self.barrier, self.board = threading.Barrier(size, timeout=20), [None] * size
        self.posts = {(a, b): queue.Queue() for a in range(size) for b in range(size)}
        self.members = [self.Member(self, rank, size) for rank in range(size)]

    class Member(SingleProcess):
        def __init__(self, ranks: Ranks, rank: int, size: int) -> None:
            self.ranks, self.rank, self.size = ranks, rank, size

        def allgather(self, value):
            self.ranks.board[self.rank] = value
            self.ranks.barrier.wait()
            found = list(self.ranks.board)
            self.ranks.barrier.wait()
            return found

        def broadcast(self, value):
            return self.allgather(value)[0]

        def allreduce(self, array, op="sum"):
            return {"sum": np.sum, "max": np.max, "min": np.min}[op](self.allgather(array), axis=0)

        def split(self, color):
            return self.ranks.split(color, self)

        def send_array(self, array, to):
            assert array.flags.c_contiguous
            self.ranks.posts[self.rank, to].put(array.copy())

        def receive_array(self, array, source):
            assert array.flags.c_contiguous
            array[...] = self.ranks.posts[source, self.rank].get(timeout=20)

        def scatter_rows(self, rows, columns):
            rows = self.allgather(rows)[0]
            bounds = np.arange(self.size + 1) * len(rows) // self.size
            return rows[bounds[self.rank] : bounds[self.rank + 1]].reshape(-1, columns)

        def gather_rows(self, rows):
            found = np.concatenate(self.allgather(rows))
            return found if self.rank == 0 else None

    def split(self, color: int, member: Member) -> Member:
        colors = member.allgather(color)
        if member.rank == 0:
            self.groups = {found: Ranks(colors.count(found)) for found in colors}
        self.barrier.wait()
        return self.groups[color].members[colors[: member.rank].count(color)]

    def run(self, work):
        results: list = [None] * len(self.members)

        def one(rank: int) -> None:
            try:
                results[rank] = work(self.members[rank])
            except Exception as error:
                results[rank] = error

        threads = [threading.Thread(target=for_thread(one), args=(rank,)) for rank in range(len(self.members))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

"""Ranks that evaluate one candidate together, each on a part of the rows, with the bits of a single rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import CandidateError, RcdpError
from rcdp_hpc.reservoir.gram import SUMS, GramSums
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.ram import is_out_of_memory
from rcdp_hpc.search.evaluation.candidate import FAILURES, explain

T = TypeVar("T")


def row_blocks(rows: int, batch_rows: int) -> list[slice]:
    """Return the fixed blocks of rows for states and sums; the last one may be shorter."""
    return [slice(start, min(start + batch_rows, rows)) for start in range(0, rows, batch_rows)]


def partition(blocks: list[slice], index: int, size: int, growth: float = 1.0) -> list[slice]:
    """Return one of `size` consecutive partitions of the blocks, each `growth` times as long as the one before it.

    The assignment of blocks to ranks has no effect on the result; their order has.
    """
    shares = np.cumsum([0.0] + [growth**step for step in range(size)])
    bounds = np.rint(shares / shares[-1] * len(blocks)).astype(int)
    return blocks[bounds[index] : bounds[index + 1]]


def run_on_group(group: Communicator, work: Callable[[], T]) -> T:
    """Run the work of each rank; if the candidate fails on a rank, raise the failure of the first such rank on all.

    `work` must not communicate.
    """
    value, failure = attempt(work)
    first = next((failed for failed in group.allgather(failure) if failed is not None), None)
    if first is not None:
        raise first
    return value  # type: ignore[return-value]


def run_on_leader(group: Communicator, work: Callable[[], T]) -> T:
    """Run the work on rank 0 of the group; return its value, or raise its failure, on all."""
    value, failure = group.broadcast(attempt(work) if group.is_root else None)
    if failure is not None:
        raise failure
    return value  # type: ignore[no-any-return]


def run_undivided(group: Communicator, work: Callable[[], T]) -> T:
    """Run work that a group does not divide: on its leading rank, or directly if there are no others."""
    return run_on_leader(group, work) if group.size > 1 else work()


def on_leading_rank(value: T | None) -> T:
    """Return what only rank 0 of the group has."""
    if value is None:
        raise AssertionError("only the leading rank has it")
    return value


def add_in_turn(group: Communicator, sums: GramSums, add: Callable[[GramSums], None]) -> None:
    """Pass the Gram sums from the last rank to rank 0; each rank adds its blocks.

    The last rank of the group has the first blocks and rank 0 the last ones, so that all additions happen in the order
    of a single rank, with the same bits.

    Parameters
    ----------
    group : Communicator
    sums : GramSums
        Empty; afterwards the complete sums on rank 0 and partial sums on other ranks.
    add : callable
        Adds the blocks of this rank.
    """
    if group.rank < group.size - 1:
        count = np.zeros(1, dtype=np.int64)
        group.receive_array(count, group.rank + 1)
        sums.rows = int(count[0])
        group.receive_array(sums.xx.T, group.rank + 1)  # the transpose of a matrix in Fortran order is contiguous
        for name in SUMS:
            group.receive_array(getattr(sums, name), group.rank + 1)
    _, failure = attempt(lambda: add(sums))
    if not group.is_root:
        group.send_array(np.array([sums.rows], dtype=np.int64), group.rank - 1)
        group.send_array(sums.xx.T, group.rank - 1)
        for name in SUMS:
            group.send_array(getattr(sums, name), group.rank - 1)
    first = next((failed for failed in reversed(group.allgather(failure)) if failed is not None), None)
    if first is not None:
        raise first


def stack_rows(group: Communicator, rows: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Stack every rank's rows, shape (n_r, columns), on rank 0 in the order of ranks; None elsewhere."""
    stacked = group.gather_rows(rows.astype(np.float64))  # exact, there and back
    return None if stacked is None else stacked.astype(np.float32)


def attempt(work: Callable[[], T]) -> tuple[T | None, RcdpError | None]:
    """Return the value of `work`, or the failure of the candidate, with the same text for any number of ranks."""
    try:
        return work(), None
    except FAILURES as failure:
        return None, CandidateError(explain(failure))
    except RcdpError as error:
        return None, error
    except RuntimeError as failure:
        if not is_out_of_memory(failure):
            raise
        return None, CandidateError("out of memory")

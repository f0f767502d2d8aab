"""Ways for ranks to act and to fail together: one message, the same exit code, no hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from rcdp_hpc.errors import RcdpError, StageFailedError
from rcdp_hpc.runtime.comm.base import STAGE_POLL_SECONDS, Communicator
from rcdp_hpc.runtime.os_errors import os_errors_explained

T = TypeVar("T")


def run_on_root(comm: Communicator, work: Callable[[], T]) -> T:
    """Run `work` on rank 0 while the others sleep; give its value to all, or raise its error on all.

    The work runs in a thread of rank 0, and its main thread meets the other ranks every tick: waiting ranks
    sleep between ticks instead of polling a barrier, which would burn a core each, and no collective is ever
    older than a tick, which Horovod's stall check would otherwise end.

    Parameters
    ----------
    comm : Communicator
        All its ranks must call this together.
    work : callable
        What rank 0 does; its value must be small and picklable.

    Returns
    -------
    object
        The value, on every rank.

    Raises
    ------
    RcdpError
        What `work` raised, on every rank, marked as agreed.
    """
    if comm.size == 1:
        with os_errors_explained():
            return work()
    outcome = _Outcome(work if comm.is_root else None)
    with outcome.joined():
        while not comm.allreduce(np.array([float(outcome.done())]), "max")[0]:
            time.sleep(STAGE_POLL_SECONDS)
    value, error = comm.broadcast(outcome.result())
    if error is not None:
        raise outcome.original or agreed(error)
    return value  # type: ignore[no-any-return]


def run_on_some(comm: Communicator, work: Callable[[], T] | None) -> T | None:
    """Run `work` on the ranks that have any while the others sleep; an error is raised on all.

    As `run_on_root`, with each rank's own value.

    Parameters
    ----------
    comm : Communicator
        All its ranks must call this together.
    work : callable or None
        What this rank does.

    Returns
    -------
    object
        The value of this rank's work, None where it had none.

    Raises
    ------
    RcdpError
        The lowest failing rank's, on every rank, marked as agreed.
    """
    if comm.size == 1:
        with os_errors_explained():
            return work() if work is not None else None
    outcome = _Outcome(work)
    with outcome.joined():
        while comm.allreduce(np.array([float(work is not None and not outcome.done())]), "max")[0]:
            time.sleep(STAGE_POLL_SECONDS)

    def finish() -> Any:
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    return agree(comm, finish)  # type: ignore[no-any-return]


def agree(comm: Communicator, work: Callable[[], T]) -> T:
    """Run `work` on every rank; where it fails on some, raise the lowest such rank's error on all.

    `work` itself must not communicate, or only among ranks that fail together.
    """
    value: Any = None
    mine: RcdpError | None = None
    try:
        with os_errors_explained():
            value = work()
    except RcdpError as error:
        mine = error
    failures = [(rank, error) for rank, error in enumerate(comm.allgather(mine)) if error is not None]
    if not failures:
        return value  # type: ignore[no-any-return]
    rank, first = failures[0]
    # Rank 0's own failures, and those all ranks share, need no number.
    if rank and len(failures) < comm.size:
        first = type(first)(f"rank {rank}: {first}")
    raise agreed(first)


def agree_on_root(comm: Communicator, work: Callable[[], T]) -> T | None:
    """Run short work on rank 0 alone; an error of it is raised on all ranks. Collective.

    `run_on_root` is for work that takes longer than a moment.

    Returns
    -------
    object
        Its value on rank 0, None on the others.
    """
    return agree(comm, lambda: work() if comm.is_root else None)


def agreed(error: RcdpError) -> RcdpError:
    """Mark an error as known to all ranks, so that rank 0 alone tells the user."""
    error.agreed = True
    return error


class _Outcome:
    """A rank's work in a thread of its own; where there is none, never done."""

    def __init__(self, work: Callable[[], Any] | None) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.original: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True) if work is not None else None
        if self._thread is not None:
            self._thread.start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            with os_errors_explained():
                self.value = work()
        except BaseException as error:  # carried to the main thread and raised there
            self.error = error

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Leave the block only when the work is done, by an error as well.

        Where ranks are lost and the others start over (elastic runs), it would otherwise write beside its repetition.
        """
        try:
            yield
        finally:
            if self._thread is not None:
                self._thread.join()

    def done(self) -> bool:
        return self._thread is not None and not self._thread.is_alive()

    def result(self) -> tuple[Any, RcdpError | None]:
        """Return (value, error) in a form that can be sent; remember the error itself for rank 0."""
        if self.error is None:
            return self.value, None
        if isinstance(self.error, RcdpError):
            return None, agreed(self.error)
        self.original = self.error
        return None, StageFailedError(f"rank 0 failed: {type(self.error).__name__}: {self.error}")

"""Work that all ranks start and fail together: one error message, the same exit code, no deadlock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from rcdp_hpc.errors import RcdpError, StageFailedError
from rcdp_hpc.runtime.comm.base import STAGE_POLL_SECONDS, Communicator
from rcdp_hpc.runtime.os_errors import os_errors_explained
from rcdp_hpc.runtime.threads import for_thread

T = TypeVar("T")


def run_on_root(comm: Communicator, work: Callable[[], T]) -> T:
    """Run `work` on rank 0 while the others sleep; return its value, or raise its error, on all ranks. Collective.

    The work runs in a thread of rank 0, and the main threads of all ranks meet in a short collective every
    `STAGE_POLL_SECONDS`. Waiting ranks therefore sleep instead of polling a barrier, which would keep a core busy each,
    and no collective waits long enough for Horovod's stall check to end the job.

    Parameters
    ----------
    comm : Communicator
    work : callable
        Called on rank 0. Its value must be small and picklable.

    Returns
    -------
    object
        The value of `work`, on every rank.

    Raises
    ------
    RcdpError
        The error of `work`, on every rank, marked as agreed.
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
    """Run `work` on the ranks that pass some while the others sleep; raise an error on all ranks. Collective.

    Unlike `run_on_root`, each rank returns the value of its own work.

    Parameters
    ----------
    comm : Communicator
    work : callable or None
        The work of this rank, if any.

    Returns
    -------
    object
        The value of this rank's work; None if it has none.

    Raises
    ------
    RcdpError
        The error of the lowest failing rank, on every rank, marked as agreed.
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
    """Run `work` on every rank; if it fails on any, raise the error of the lowest failing rank on all. Collective.

    `work` must not communicate, except among ranks that fail together.
    """
    value: Any = None
    failure: RcdpError | None = None
    try:
        with os_errors_explained():
            value = work()
    except RcdpError as error:
        failure = error
    failures = [(rank, error) for rank, error in enumerate(comm.allgather(failure)) if error is not None]
    if not failures:
        return value  # type: ignore[no-any-return]
    rank, first = failures[0]
    # Errors of rank 0, and errors that all ranks have in common, are reported without a rank.
    if rank and len(failures) < comm.size:
        first = type(first)(f"rank {rank}: {first}")
    raise agreed(first)


def agree_on_root(comm: Communicator, work: Callable[[], T]) -> T | None:
    """Run short work on rank 0 only; raise its error on all ranks. Collective.

    Other ranks poll meanwhile: use `run_on_root` for work that takes more than about a second.

    Returns
    -------
    object
        The value of `work` on rank 0, None on the other ranks.
    """
    return agree(comm, lambda: work() if comm.is_root else None)


def agreed(error: RcdpError) -> RcdpError:
    """Mark an error as raised on all ranks, so that only rank 0 reports it."""
    error.agreed = True
    return error


def ranks_by_value(texts: Sequence[str], most: int = 5) -> str:
    """Return which ranks have which of several texts, such as "'a' on rank 0, 'b' on ranks 1, 2".

    Parameters
    ----------
    texts : sequence of str
        Of each rank.
    most : int
        Ranks to name for each text.
    """
    parts = []
    for text in dict.fromkeys(texts):
        ranks = [str(rank) for rank, other in enumerate(texts) if other == text]
        shown = ", ".join(ranks[:most]) + (f" and {len(ranks) - most} more" if len(ranks) > most else "")
        parts.append(f"{text} on rank{'s' if len(ranks) > 1 else ''} {shown}")
    return ", ".join(parts)


class _Outcome:
    """The work of a rank, run in a thread; without work, never done."""

    def __init__(self, work: Callable[[], Any] | None) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.original: BaseException | None = None
        self._thread = (
            threading.Thread(target=self._run, args=(for_thread(work),), daemon=True) if work is not None else None
        )
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
        """Wait for the thread when the block ends, also by an error.

        When a rank is lost in an elastic run, the other ranks repeat the work: the thread must not write at that time.
        """
        try:
            yield
        finally:
            if self._thread is not None:
                self._thread.join()

    def done(self) -> bool:
        return self._thread is not None and not self._thread.is_alive()

    def result(self) -> tuple[Any, RcdpError | None]:
        """Return (value, error), both picklable; keep an unexpected error in `original` for rank 0."""
        if self.error is None:
            return self.value, None
        if isinstance(self.error, RcdpError):
            return None, agreed(self.error)
        self.original = self.error
        return None, StageFailedError(f"rank 0 failed: {type(self.error).__name__}: {self.error}")

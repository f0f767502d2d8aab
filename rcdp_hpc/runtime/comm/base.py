"""The communicator interface that every stage uses.

Stages never ask MPI for their rank: under horovodrun with Gloo, each process is rank 0 of its own MPI world.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

Operation = Literal["sum", "max", "min"]
# Intervals at which waiting ranks poll: while rank 0 does the work of a stage, and within a training step. They sleep
# in between, so that a late rank can use the core.
STAGE_POLL_SECONDS = 0.1
STEP_POLL_SECONDS = 2e-5


def read_only(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays, marked read-only."""
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


class Communicator(ABC):
    """A group of ranks that exchange small Python objects and NumPy arrays.

    Attributes
    ----------
    rank : int
        Number of this process, 0 to size - 1.
    size : int
        Number of processes.
    library : str
        Name of the library that carries the messages, for log lines.
    can_split : bool
        Whether `split` can form groups of ranks, and the ranks of a group can exchange arrays.
    has_fast_allreduce : bool
        Whether `allreduce` of a small array in host memory is faster than that of the training's engine.
    supports_horovod : bool
        Whether Horovod can connect these ranks.
    job_placement : list of (str, frozenset of int), or None
        Host and cores of every rank of the job, if this communicator is one of several groups that share the job.
    wait_limit : float
        Seconds after which a wait for other ranks is an error that names the missing ones; 0 means no limit.
    """

    rank: int
    size: int
    library: str = ""
    can_split: bool = False
    has_fast_allreduce: bool = False
    supports_horovod: bool = True
    job_placement: list[tuple[str, frozenset[int]]] | None = None
    wait_limit: float = 0.0

    @contextmanager
    def limit_waits(self, seconds: float) -> Iterator[None]:
        """Set `wait_limit` within a block, for work in which all ranks meet every few seconds.

        Communicators that cannot name the missing ranks ignore the limit.
        """
        previous = self.wait_limit
        self.wait_limit = seconds
        try:
            yield
        finally:
            self.wait_limit = previous

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @abstractmethod
    def barrier(self) -> None:
        """Return when every rank has called it."""

    def wait_for_all(self) -> None:
        """Return when every rank has called it, possibly after hours. Ranks sleep meanwhile if they can."""
        self.barrier()

    @abstractmethod
    def broadcast(self, value: Any) -> Any:
        """Return rank 0's small, picklable value on every rank."""

    @abstractmethod
    def allgather(self, value: Any) -> list[Any]:
        """Return the small, picklable values of all ranks, in rank order, on every rank."""

    @abstractmethod
    def allreduce(self, array: NDArray[Any], op: Operation = "sum") -> NDArray[Any]:
        """Return the elementwise sum, maximum or minimum over ranks, on every rank.

        Parameters
        ----------
        array : ndarray
            Of the same shape and dtype on all ranks.
        op : {"sum", "max", "min"}
        """

    def report_missing_ranks(self, seconds: float) -> None:  # noqa: B027 - optional: not every library can find them
        """Raise an error that names the ranks that did not arrive during a wait of `seconds`, if they can be found."""

    @abstractmethod
    def scatter_rows(self, rows: NDArray[np.float64] | None, columns: int) -> NDArray[np.float64]:
        """Distribute rank 0's rows; rank r receives the rows ``r * n // size`` to ``(r + 1) * n // size``.

        Parameters
        ----------
        rows : ndarray of float64, shape (n, columns), or None
            None on ranks other than 0.
        columns : int
        """

    @abstractmethod
    def gather_rows(self, rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Stack the float64 rows of all ranks, in rank order, on rank 0; return None elsewhere."""

    @abstractmethod
    def share_arrays(self, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Call `make` once per node and return its arrays, read-only, in memory that the ranks of the node share."""

    def split(self, color: int) -> Communicator:
        """Return the communicator of the ranks that passed the same color, in rank order. Collective.

        Raises
        ------
        NotImplementedError
            Unless `can_split`.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot form groups of ranks")

    def send_array(self, array: NDArray[Any], to: int) -> None:
        """Send a contiguous array to another rank, which must call `receive_array`.

        Raises
        ------
        NotImplementedError
            Unless `can_split`.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot send arrays from rank to rank")

    def receive_array(self, array: NDArray[Any], source: int) -> None:
        """Overwrite a contiguous array with one of the same size and dtype that another rank sends.

        Raises
        ------
        NotImplementedError
            Unless `can_split`.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot send arrays from rank to rank")

    def is_first_to_report(self) -> bool:
        """Return whether no other rank has reported why the job ends, if the ranks can know. Not collective.

        Ranks that lose another one because the job ends use it to report nothing in addition.
        """
        return True

    @abstractmethod
    def abort(self, code: int) -> NoReturn:
        """End every rank of the job at once with this exit code."""

    def end_job(self, code: int) -> None:
        """End the job at once, from any thread, if the main thread does not return."""
        if self.size > 1:
            self.abort(code)
        os._exit(code)

    def close(self) -> None:  # noqa: B027 - most communicators hold no resources
        """Free the resources of the communicator. Every rank calls it once."""

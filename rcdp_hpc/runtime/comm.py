"""The one communicator interface that stages are handed, and its single-process implementation.

Under horovodrun with Gloo every process is rank 0 of MPI's COMM_WORLD, so no stage may ask MPI by itself
who it is: it asks the communicator it was given.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

Operation = Literal["sum", "max", "min"]
# Waits for whole stages look so often, and waits within a step so often: whoever is late shall have the core.
TICK_SECONDS = 0.1
PAUSE_SECONDS = 2e-5


class Communicator(ABC):
    """A group of ranks that pass small Python objects and NumPy arrays.

    Attributes
    ----------
    rank : int
        This process's number, 0 to size - 1.
    size : int
        Number of processes.
    kind : str
        "single", "mpi" or "horovod".
    job_places : list of (str, frozenset of int), or None
        Host and cores of every rank of the job, where this is a group of them that works beside others.
    patience : float
        Seconds that a wait for other ranks may take where that can be told (`patient`); 0 is any time.
    """

    rank: int
    size: int
    kind: str
    job_places: list[tuple[str, frozenset[int]]] | None = None
    patience: float = 0.0

    @contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """Have the waits of a block say who is missing where a rank does not come within so many seconds.

        For work in which ranks meet every few seconds: elsewhere one may be busy for hours.
        """
        before, self.patience = self.patience, seconds
        try:
            yield
        finally:
            self.patience = before

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @abstractmethod
    def barrier(self) -> None:
        """Return once every rank has called it."""

    def wait_for_all(self) -> None:
        """Return once every rank has called it, which may take hours: where that is possible, ranks sleep meanwhile."""
        self.barrier()

    @abstractmethod
    def broadcast(self, value: Any) -> Any:
        """Return rank 0's (small, picklable) value on every rank."""

    @abstractmethod
    def allgather(self, value: Any) -> list[Any]:
        """Return every rank's (small, picklable) value, in the order of ranks, on every rank."""

    @abstractmethod
    def allreduce(self, array: NDArray[Any], op: Operation = "sum") -> NDArray[Any]:
        """Return the elementwise sum, maximum or minimum over ranks, on every rank."""

    def report_missing_ranks(self, seconds: float) -> None:  # noqa: B027 - ranks that are all there need no list of them
        """Raise the error of a wait of so many seconds that names who does not wait, where that can be told."""

    @abstractmethod
    def scatter_rows(self, rows: NDArray[np.float64] | None, columns: int) -> NDArray[np.float64]:
        """Deal rank 0's (n, columns) float64 array: rank r gets rows r*n//size to (r+1)*n//size."""

    @abstractmethod
    def gather_rows(self, rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Stack every rank's (n_r, columns) float64 rows on rank 0, in the order of ranks; None elsewhere."""

    @abstractmethod
    def share(self, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Return read-only arrays that `make` built once per node, in memory its ranks have in common."""

    def split(self, color: int) -> Communicator:
        """Return the communicator of the ranks that gave the same number, in the order of their ranks. Collective."""
        raise NotImplementedError(f"a communicator of kind {self.kind} has no groups")

    def send_array(self, array: NDArray[Any], to: int) -> None:
        """Send a contiguous array to another rank, which must be in `receive_array`."""
        raise NotImplementedError(f"a communicator of kind {self.kind} passes no arrays from rank to rank")

    def receive_array(self, array: NDArray[Any], source: int) -> None:
        """Overwrite a contiguous array by one of the same size and type that another rank sends."""
        raise NotImplementedError(f"a communicator of kind {self.kind} passes no arrays from rank to rank")

    @abstractmethod
    def abort(self, code: int) -> NoReturn:
        """End every rank of the job at once with the given exit code."""

    def end_job(self, code: int) -> None:
        """End the job at once from any thread, where the main thread does not come back."""
        if self.size > 1:
            self.abort(code)
        os._exit(code)

    def close(self) -> None:  # noqa: B027 - most communicators hold nothing to free
        """Free what the communicator holds; called once by every rank."""


class SingleProcess(Communicator):
    """A group of one, for a plain ``python`` or ``rcdp`` without a launcher."""

    rank = 0
    size = 1
    kind = "single"

    def barrier(self) -> None:
        """Return at once."""

    def broadcast(self, value: Any) -> Any:
        """Return the value."""
        return value

    def allgather(self, value: Any) -> list[Any]:
        """Return the value in a list."""
        return [value]

    def allreduce(self, array: NDArray[Any], op: Operation = "sum") -> NDArray[Any]:
        """Return a copy of the array."""
        return array.copy()

    def scatter_rows(self, rows: NDArray[np.float64] | None, columns: int) -> NDArray[np.float64]:
        """Return the rows."""
        if rows is None:
            raise ValueError("rank 0 must have rows to scatter")
        return rows

    def gather_rows(self, rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return the rows."""
        return rows

    def share(self, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Return the arrays, marked read-only."""
        arrays = make()
        for array in arrays.values():
            array.flags.writeable = False
        return arrays

    def split(self, color: int) -> Communicator:
        """Return this group of one."""
        return self

    def abort(self, code: int) -> NoReturn:
        """Exit."""
        sys.exit(code)

"""The communicator of a single process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.runtime.comm.base import Communicator, Operation, read_only


class SingleProcess(Communicator):
    """A group of one rank, for ``python`` or ``rcdp`` without a launcher."""

    rank = 0
    size = 1
    can_split = True

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

    def share_arrays(self, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Return the arrays, marked read-only."""
        return read_only(make())

    def split(self, color: int) -> Communicator:
        """Return this communicator."""
        return self

    def abort(self, code: int) -> NoReturn:
        """Exit."""
        sys.exit(code)

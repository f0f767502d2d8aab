"""The communicator over MPI: the one door to mpi4py."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import RcdpError, StageFailedError
from rcdp_hpc.runtime.comm import PAUSE_SECONDS, TICK_SECONDS, Communicator, Operation

# A wait looks so often without a pause, and then every `PAUSE_SECONDS`.
EAGER_LOOKS = 100
# Ranks that give up waiting tell the others, and listen for so long, or a tenth of the wait, to learn who is there.
ROLL_CALL_SECONDS = 5.0
ROLL_CALL_TAG = 75


class MPICommunicator(Communicator):
    """A group of MPI ranks.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, optional
        Default: a duplicate of COMM_WORLD, so that no other library's messages meet ours.
    """

    kind = "mpi"

    def __init__(self, comm: Any = None) -> None:
        # The shared window is the only one-sided use here; Open MPI's UCX component for it prints an error
        # on hosts without a fast network, though nothing is wrong.
        os.environ.setdefault("OMPI_MCA_osc", "^ucx")
        # Horovod's thread waits for messages in MPI beside the one that computes, on the same core where every core
        # has a rank: it shall look and give way, not look without a pause. Open MPI's name; others wait as they do.
        os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
        from mpi4py import MPI

        self._mpi = MPI
        self.comm = MPI.COMM_WORLD.Dup() if comm is None else comm
        self.rank = self.comm.Get_rank()
        self.size = self.comm.Get_size()
        self._windows: list[Any] = []

    def barrier(self) -> None:
        """Return once every rank has called it."""
        self._finish(self.comm.Ibarrier())

    def wait_for_all(self) -> None:
        """Return once every rank has called it, sleeping meanwhile: a barrier would burn a core."""
        request = self.comm.Ibarrier()
        while not request.Test():
            time.sleep(TICK_SECONDS)

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's (small, picklable) value on every rank."""
        message = np.frombuffer(pickle.dumps(value) if self.is_root else b"", np.uint8)
        size = np.array([message.size])
        self._finish(self.comm.Ibcast(size, root=0))
        came = message.copy() if self.is_root else np.empty(size[0], np.uint8)
        self._finish(self.comm.Ibcast(came, root=0))
        return value if self.is_root else pickle.loads(came.tobytes())

    def allgather(self, value: Any) -> list[Any]:
        """Return every rank's (small, picklable) value on every rank."""
        message = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = np.empty(self.size, np.int64)
        self._finish(self.comm.Iallgather(np.array([message.size]), sizes))
        came, starts = np.empty(sizes.sum(), np.uint8), np.cumsum(sizes) - sizes
        self._finish(self.comm.Iallgatherv(message, [came, sizes, starts, self._mpi.BYTE]))
        return [pickle.loads(part.tobytes()) for part in np.split(came, starts[1:])]

    def allreduce(self, array: NDArray[Any], op: Operation = "sum") -> NDArray[Any]:
        """Return the elementwise sum, maximum or minimum over ranks."""
        given, result = np.ascontiguousarray(array), np.empty_like(array, order="C")
        operation = {"sum": self._mpi.SUM, "max": self._mpi.MAX, "min": self._mpi.MIN}[op]
        self._finish(self.comm.Iallreduce(given, result, op=operation))
        return result

    def _finish(self, request: Any) -> None:
        """Return once a collective that has begun is done: within the patience there is, where there is any."""
        if self.patience:
            self._await(request, self.patience)
        else:
            request.Wait()

    def _await(self, request: Any, seconds: float) -> None:
        """Return once a collective that has begun is done, or end a wait of more than so many seconds."""
        looks, deadline = 0, 0.0
        while not request.Test():
            looks += 1
            if looks < EAGER_LOOKS:
                os.sched_yield()
                continue
            now = time.monotonic()
            deadline = deadline or now + seconds
            if now > deadline:
                self.call_roll(seconds)
                deadline = 0.0
            time.sleep(PAUSE_SECONDS)

    def call_roll(self, seconds: float) -> None:
        """Raise the error of a wait that was too long, naming those that do not wait as well; there may be none.

        Raises
        ------
        StageFailedError
            With the numbers of the ranks that sent nothing meanwhile.
        """
        missing = {rank for rank in range(self.size) if rank != self.rank}
        for rank in missing:
            # So small that MPI keeps a copy: nothing here has to outlast the call.
            self.comm.isend(None, rank, ROLL_CALL_TAG)
        first, patience = self.rank, max(ROLL_CALL_SECONDS, seconds / 10)
        until = time.monotonic() + patience
        while missing and time.monotonic() < until:
            heard = {rank for rank in missing if self.comm.iprobe(rank, ROLL_CALL_TAG)}
            for rank in heard:
                self.comm.recv(source=rank, tag=ROLL_CALL_TAG)
            missing, first = missing - heard, min(heard | {first})
            time.sleep(0.05)
        if not missing:
            return
        if self.rank != first:
            # The first of those that wait ends the job, and one message is enough.
            time.sleep(2 * patience)
        names = ", ".join(map(str, sorted(missing)))
        raise StageFailedError(
            f"waited {seconds:.0f} s for all ranks, and rank {names} did not come: "
            "see what it does there (py-spy, the node's log), or raise run.stall_seconds"
        )

    def scatter_rows(self, rows: NDArray[np.float64] | None, columns: int) -> NDArray[np.float64]:
        """Deal rank 0's rows through MPI Scatterv."""
        total = self.comm.bcast(0 if rows is None else len(rows), root=0)
        bounds = np.arange(self.size + 1) * total // self.size
        mine = np.empty((bounds[self.rank + 1] - bounds[self.rank], columns))
        counts, starts = np.diff(bounds) * columns, bounds[:-1] * columns
        send = None if rows is None else [np.ascontiguousarray(rows, np.float64), counts, starts, self._mpi.DOUBLE]
        self.comm.Scatterv(send, mine, root=0)
        return mine

    def gather_rows(self, rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Stack every rank's rows on rank 0 through MPI Gatherv."""
        mine = np.ascontiguousarray(rows, np.float64)
        counts = self.comm.gather(len(mine), root=0)
        if counts is None:
            self.comm.Gatherv(mine, None, root=0)
            return None
        columns = mine.shape[1]
        stacked = np.empty((sum(counts), columns))
        sizes = np.array(counts) * columns
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.comm.Gatherv(mine, [stacked, sizes, starts, self._mpi.DOUBLE], root=0)
        return stacked

    def share(self, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Build the arrays on the first rank of each node and map them into the others' memory."""
        node = self.comm.Split_type(self._mpi.COMM_TYPE_SHARED)
        made, failure = _attempt(make) if node.Get_rank() == 0 else ({}, None)
        failure = node.bcast(failure, root=0)
        if failure is not None:
            raise failure
        layout = node.bcast([(name, array.shape, array.dtype) for name, array in made.items()], root=0)
        shared = {name: self._shared_array(node, shape, dtype) for name, shape, dtype in layout}
        for name, array in made.items():
            shared[name][...] = array
        node.Barrier()
        for array in shared.values():
            array.flags.writeable = False
        return shared

    def _shared_array(self, node: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        size = int(np.prod(shape)) * dtype.itemsize if node.Get_rank() == 0 else 0
        window = self._mpi.Win.Allocate_shared(size, dtype.itemsize, comm=node)
        self._windows.append(window)
        memory, _ = window.Shared_query(0)
        flat: NDArray[Any] = np.frombuffer(memory, dtype=dtype, count=int(np.prod(shape)))  # type: ignore[call-overload]
        return flat.reshape(shape)

    def split(self, color: int) -> MPICommunicator:
        """Return the communicator of the ranks that gave the same number."""
        return MPICommunicator(self.comm.Split(color, self.rank))

    def send_array(self, array: NDArray[Any], to: int) -> None:
        """Send a contiguous array to another rank."""
        self.comm.Send(array.reshape(-1), dest=to)

    def receive_array(self, array: NDArray[Any], source: int) -> None:
        """Overwrite a contiguous array by one that another rank sends."""
        self.comm.Recv(array.reshape(-1), source=source)

    def abort(self, code: int) -> NoReturn:
        """End every rank of the job at once."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._mpi.COMM_WORLD.Abort(code)  # a group's own communicator might end the group alone
        raise SystemExit(code)

    def close(self) -> None:
        """Free the shared-memory windows."""
        while self._windows:
            self._windows.pop().Free()


def _attempt(make: Callable[[], dict[str, NDArray[Any]]]) -> tuple[dict[str, NDArray[Any]], RcdpError | None]:
    """Call `make`; an explained error is returned, so that the ranks waiting for the arrays learn of it."""
    try:
        return make(), None
    except RcdpError as error:
        return {}, error

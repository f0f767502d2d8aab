"""The MPI communicator. Only this module imports mpi4py."""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.runtime.comm.base import STAGE_POLL_SECONDS, STEP_POLL_SECONDS, Communicator, Operation, read_only
from rcdp_hpc.runtime.comm.heartbeat import Channel, Place, Watch, this_place
from rcdp_hpc.runtime.comm.launcher import Launch
from rcdp_hpc.runtime.comm.node_memory import make_on_root
from rcdp_hpc.runtime.comm.roll_call import listening_seconds, raise_missing

# A wait polls `EAGER_POLLS` times without sleeping. After that it sleeps for this share of the time waited so far, at
# least `STEP_POLL_SECONDS` and at most `LONGEST_SLEEP_SECONDS`.
EAGER_POLLS = 100
SLEEP_SHARE = 0.01
LONGEST_SLEEP_SECONDS = 0.01
HEARTBEAT_TAG = 76
ANSWER_SECONDS = 1.0
ROLL_CALL_TAG = 75


class MPICommunicator(Communicator):
    """A group of MPI ranks.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, optional
        Default: a duplicate of COMM_WORLD, which keeps messages apart from those of other libraries.
    """

    library = "MPI"
    can_split = True
    has_fast_allreduce = True

    def __init__(self, comm: Any = None) -> None:
        _choose_components()
        from mpi4py import MPI

        self._mpi = MPI
        self.comm = MPI.COMM_WORLD.Dup() if comm is None else comm
        self.rank = self.comm.Get_rank()
        self.size = self.comm.Get_size()
        self._windows: list[Any] = []
        self._names = self.allgather((MPI.COMM_WORLD.Get_rank(), this_place().host)) if self.size > 1 else []

    @property
    def is_part(self) -> bool:
        """Whether MPI has other ranks than these."""
        return bool(self.size < self._mpi.COMM_WORLD.Get_size())

    def barrier(self) -> None:
        """Return when every rank has called it."""
        self._finish(self.comm.Ibarrier())

    def wait_for_all(self) -> None:
        """Return when every rank has called it; sleep meanwhile, because MPI's barrier keeps a core busy."""
        request = self.comm.Ibarrier()
        while not request.Test():
            time.sleep(STAGE_POLL_SECONDS)

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's small, picklable value on every rank."""
        message = np.frombuffer(pickle.dumps(value) if self.is_root else b"", np.uint8)
        size = np.array([message.size])
        self._finish(self.comm.Ibcast(size, root=0))
        received = message.copy() if self.is_root else np.empty(size[0], np.uint8)
        self._finish(self.comm.Ibcast(received, root=0))
        return value if self.is_root else pickle.loads(received.tobytes())

    def allgather(self, value: Any) -> list[Any]:
        """Return the small, picklable values of all ranks on every rank."""
        message = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = np.empty(self.size, np.int64)
        self._finish(self.comm.Iallgather(np.array([message.size]), sizes))
        received, starts = np.empty(sizes.sum(), np.uint8), np.cumsum(sizes) - sizes
        self._finish(self.comm.Iallgatherv(message, [received, sizes, starts, self._mpi.BYTE]))
        return [pickle.loads(part.tobytes()) for part in np.split(received, starts[1:])]

    def allreduce(self, array: NDArray[Any], op: Operation = "sum") -> NDArray[Any]:
        """Return the elementwise sum, maximum or minimum over ranks."""
        summand, result = np.ascontiguousarray(array), np.empty_like(array, order="C")
        operation = {"sum": self._mpi.SUM, "max": self._mpi.MAX, "min": self._mpi.MIN}[op]
        self._finish(self.comm.Iallreduce(summand, result, op=operation))
        return result

    def _finish(self, request: Any) -> None:
        """Return when a request has completed; call `report_missing_ranks` after `wait_limit` seconds, if it is set.

        MPI's own wait keeps a core busy, which the rank that the others wait for may need.
        """
        polls, began, limit, answered = 0, 0.0, self.wait_limit, 0.0
        while not request.Test():
            polls += 1
            if polls < EAGER_POLLS:
                os.sched_yield()
                continue
            now = time.monotonic()
            began = began or now
            if limit and now - began > limit:
                self.report_missing_ranks(limit)
                began = 0.0
            elif now - max(began, answered) > ANSWER_SECONDS:
                answered = now
                self._answer_roll_calls()
            time.sleep(min(LONGEST_SLEEP_SECONDS, max(STEP_POLL_SECONDS, (now - began) * SLEEP_SHARE)))

    def _answer_roll_calls(self) -> None:
        """Answer the roll calls of other ranks: this rank waits as well."""
        status = self._mpi.Status()
        while self.comm.iprobe(tag=ROLL_CALL_TAG, status=status):
            self.comm.recv(source=status.Get_source(), tag=ROLL_CALL_TAG)
            self.comm.isend(None, status.Get_source(), ROLL_CALL_TAG)

    def report_missing_ranks(self, seconds: float) -> None:
        """Ask all ranks whether they wait as well, and raise an error that names those that do not answer.

        Returns if all ranks answer.

        Parameters
        ----------
        seconds : float
            How long this rank has waited.

        Raises
        ------
        StageFailedError
            If a rank does not answer.
        """
        missing = {rank for rank in range(self.size) if rank != self.rank}
        for rank in missing:
            # MPI copies a message of this size at once, so the request need not be kept.
            self.comm.isend(None, rank, ROLL_CALL_TAG)
        first, until = self.rank, time.monotonic() + listening_seconds(seconds)
        while missing and time.monotonic() < until:
            heard = {rank for rank in missing if self.comm.iprobe(rank, ROLL_CALL_TAG)}
            for rank in heard:
                self.comm.recv(source=rank, tag=ROLL_CALL_TAG)
            missing, first = missing - heard, min(heard | {first})
            time.sleep(0.05)
        raise_missing([self._names[rank] for rank in sorted(missing)], seconds, self.rank == first)

    def scatter_rows(self, rows: NDArray[np.float64] | None, columns: int) -> NDArray[np.float64]:
        """Distribute rank 0's rows with MPI Iscatterv."""
        total = self.broadcast(0 if rows is None else len(rows))
        bounds = np.arange(self.size + 1) * total // self.size
        local_rows = np.empty((bounds[self.rank + 1] - bounds[self.rank], columns))
        counts, starts = np.diff(bounds) * columns, bounds[:-1] * columns
        send = None if rows is None else [np.ascontiguousarray(rows, np.float64), counts, starts, self._mpi.DOUBLE]
        self._finish(self.comm.Iscatterv(send, local_rows, root=0))
        return local_rows

    def gather_rows(self, rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Stack the rows of all ranks on rank 0 with MPI Igatherv."""
        local_rows = np.ascontiguousarray(rows, np.float64)
        counts = np.empty(self.size, np.int64)
        self._finish(self.comm.Iallgather(np.array([len(local_rows)]), counts))
        if not self.is_root:
            self._finish(self.comm.Igatherv(local_rows, None, root=0))
            return None
        stacked = np.empty((counts.sum(), local_rows.shape[1]))
        sizes = counts * local_rows.shape[1]
        self._finish(
            self.comm.Igatherv(local_rows, [stacked, sizes, np.cumsum(sizes) - sizes, self._mpi.DOUBLE], root=0)
        )
        return stacked

    def share_arrays(self, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Build the arrays on the first rank of each node, and map them into the memory of its other ranks."""
        node = MPICommunicator(self.comm.Split_type(self._mpi.COMM_TYPE_SHARED))
        arrays = make_on_root(node, make)
        layout = node.broadcast([(name, array.shape, array.dtype) for name, array in arrays.items()])
        shared = {name: self._shared_array(node.comm, shape, dtype) for name, shape, dtype in layout}
        for name, array in arrays.items():
            shared[name][...] = array
        node.barrier()
        return read_only(shared)

    def _shared_array(self, node: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        size = int(np.prod(shape)) * dtype.itemsize if node.Get_rank() == 0 else 0
        window = self._mpi.Win.Allocate_shared(size, dtype.itemsize, comm=node)
        self._windows.append(window)
        memory, _ = window.Shared_query(0)
        flat: NDArray[Any] = np.frombuffer(memory, dtype=dtype, count=int(np.prod(shape)))  # type: ignore[call-overload]
        return flat.reshape(shape)

    def split(self, color: int) -> MPICommunicator:
        """Return the communicator of the ranks that passed the same color."""
        return MPICommunicator(self.comm.Split(color, self.rank))

    def send_array(self, array: NDArray[Any], to: int) -> None:
        """Send a contiguous array to another rank."""
        self._finish(self.comm.Isend(array.reshape(-1), dest=to))

    def receive_array(self, array: NDArray[Any], source: int) -> None:
        """Overwrite a contiguous array with one that another rank sends."""
        self._finish(self.comm.Irecv(array.reshape(-1), source=source))

    def abort(self, code: int) -> NoReturn:
        """End every rank of the job at once."""
        _abort(self._mpi, code)

    def close(self) -> None:
        """Free the shared-memory windows."""
        while self._windows:
            self._windows.pop().Free()


def problem_of(comm: Any, launch: Launch) -> str:
    """Return why the ranks of mpi4py's communicator cannot do the work; empty if they can. Sends no message.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    launch : Launch
        What started this process.
    """
    if not comm:  # mpi4py's null communicator, which a freed one becomes
        return "is freed or null: pass a communicator that exists, or rcdp_hpc.connect()"
    from mpi4py import MPI

    if MPI.Is_finalized() or not MPI.Is_initialized():
        when = "has ended" if MPI.Is_finalized() else "has not started"
        return f"cannot be used, because MPI {when} in this process"
    if comm.Is_inter():
        return "connects two groups of ranks (an intercommunicator): pass one of a single group, such as comm.Merge()"
    world = MPI.COMM_WORLD.Get_size()
    if launch.size not in (1, world):
        return (
            f"has {comm.Get_size()} of the {world} ranks that the MPI library sees, but {launch.launcher.name} started "
            f"{launch.size}: every process would do the whole job. Pass rcdp_hpc.connect(), or use the mpirun of the "
            "MPI that mpi4py loads, or srun --mpi=pmix"
        )
    return ""


class _MPIChannel(Channel):
    """Heartbeats as messages of one byte, on a separate communicator."""

    def __init__(self, comm: MPICommunicator) -> None:
        self._mpi = comm._mpi
        self._comm = comm.comm
        self.rank = comm.rank
        self.size = comm.size
        self.places = {rank: Place(*place) for rank, place in enumerate(comm.allgather(tuple(this_place())))}
        self._pending: dict[int, Any] = {}

    def send(self, word: bytes, to: Sequence[int]) -> None:
        for rank in to:
            # A rank that has not received the last message is not sent another one.
            previous = self._pending.get(rank)
            if previous is None or previous.Test():
                self._pending[rank] = self._comm.Isend(bytearray(word), dest=rank, tag=HEARTBEAT_TAG)

    def receive(self, sources: Sequence[int]) -> dict[int, bytes]:
        words, status = {}, self._mpi.Status()
        while self._comm.Iprobe(self._mpi.ANY_SOURCE, HEARTBEAT_TAG, status):
            word = bytearray(1)
            self._comm.Recv(word, source=status.Get_source(), tag=HEARTBEAT_TAG)
            words[status.Get_source()] = bytes(word)
        return words

    def abort(self, code: int) -> NoReturn:
        _abort(self._mpi, code)


def connect_ranks(watch: Watch) -> MPICommunicator:
    """Start MPI and return the communicator of all ranks; exchange heartbeats until the process ends.

    Parameters
    ----------
    watch : Watch
        Already started.
    """
    library = _start_mpi()
    comm = MPICommunicator()
    # Heartbeats need an MPI that several threads may call. Without it, waits for other ranks have no limit.
    if comm.size > 1 and comm._mpi.Query_thread() == comm._mpi.THREAD_MULTIPLE:
        watch.join(_MPIChannel(MPICommunicator()), all_started=True)
    else:
        watch.stop()
    # Exit handlers run in reverse order: Horovod, which starts later, shuts down before MPI.
    atexit.register(_end_mpi, comm, watch, library, os.getpid())
    return comm


def _start_mpi() -> ctypes.CDLL | None:
    """Start MPI without blocking other threads; return its library, or None if mpi4py is to start it.

    mpi4py starts MPI on import and holds Python's global lock until all ranks have started, which would stop the
    heartbeat thread.
    """
    _choose_components()
    if "mpi4py.MPI" in sys.modules:
        return None
    import mpi4py

    spec = importlib.util.find_spec("mpi4py.MPI")
    try:
        library = ctypes.CDLL(spec.origin if spec is not None else None)
        start, is_started, multiple = library.MPI_Init_thread, library.MPI_Initialized, 3
    except (OSError, AttributeError, TypeError):
        return None  # mpi4py finds the library in another way, or reports the error
    provided = ctypes.c_int(0)
    is_started(ctypes.byref(provided))
    if not provided.value and not start(None, None, multiple, ctypes.byref(provided)):
        mpi4py.rc.initialize = False
        return library
    return None


def _choose_components() -> None:
    """Set parameters that Open MPI reads when it starts, unless the user has set them; other libraries ignore them."""
    # Shared-memory windows are the only one-sided communication here. Open MPI's UCX component for them prints an
    # error on hosts without a fast network, although nothing is wrong.
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")
    # Horovod's thread polls for messages in MPI, possibly on the core that computes: it should yield between polls.
    os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")


def _end_mpi(comm: MPICommunicator, watch: Watch, library: ctypes.CDLL | None, pid: int) -> None:
    """Wait for all ranks, with the watch limiting the wait, before MPI_Finalize waits for them without a limit."""
    if os.getpid() != pid or comm._mpi.Is_finalized():
        return
    comm.barrier()
    channel = watch.leave("MPI to end on all ranks")
    comm.barrier()
    if channel is not None:
        channel.receive(())
    if library is not None:
        library.MPI_Finalize()
    watch.stop()


def _abort(mpi: Any, code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    mpi.COMM_WORLD.Abort(code)  # aborting the communicator of a group might end only that group
    raise SystemExit(code)

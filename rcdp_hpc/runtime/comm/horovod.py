"""Starting Horovod, checking its ranks, and the communicator for horovodrun's Gloo mode."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator, Operation, read_only
from rcdp_hpc.runtime.comm.entry_channel import exit_at_once
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.comm.mpi import MPICommunicator

# Horovod sends tensors once per cycle. Its default cycle of 1 ms is as long as a training step of a small readout.
CYCLE_MS = 0.2


def import_horovod() -> ModuleType:
    """Return ``horovod.torch``, not yet initialised.

    Raises
    ------
    InputError
        If Horovod or torch is not installed, or was built for other versions of torch or MPI.
    """
    try:
        import horovod.torch as hvd
    except (ImportError, OSError) as error:
        raise InputError(f"Horovod for torch cannot be imported ({error})") from None
    return hvd  # type: ignore[no-any-return]


def start_horovod(
    stall_seconds: int, fusion_mib: int = 0, cycle_ms: float = 0.0, comm: Communicator | None = None
) -> ModuleType:
    """Initialise Horovod. Collective; later calls in the same process do nothing.

    Parameters
    ----------
    stall_seconds : int
        Seconds after which a rank missing from a collective ends the job, with a message that names it.
    fusion_mib : int
        Size in MiB of the tensors that Horovod sends together; 0 means Horovod's default.
    cycle_ms : float
        Milliseconds of a Horovod cycle; 0 means HOROVOD_CYCLE_TIME of the environment, or `CYCLE_MS`.
    comm : Communicator, optional
        The ranks that Horovod connects, if they are only a group of the job. Default: all ranks.

    Returns
    -------
    module
        ``horovod.torch``.

    Raises
    ------
    InputError
        If Horovod cannot be imported, cannot start under this launcher, or has started with other settings.
    """
    # Horovod reads these variables once, in init. It warns long before it shuts down, so that its log names the rank.
    os.environ.setdefault("HOROVOD_STALL_CHECK_TIME_SECONDS", str(max(5, stall_seconds // 4)))
    os.environ.setdefault("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", str(stall_seconds))
    os.environ.setdefault("HOROVOD_CYCLE_TIME", str(CYCLE_MS))
    os.environ["HOROVOD_AUTOTUNE"] = "0"
    hvd = import_horovod()
    settings = {"HOROVOD_FUSION_THRESHOLD": fusion_mib * 2**20, "HOROVOD_CYCLE_TIME": cycle_ms}
    settings = {name: value for name, value in settings.items() if value}
    if settings and hvd.is_initialized():
        words = " ".join(f"{name}={value}" for name, value in settings.items())
        raise InputError(
            f"under {detect().launcher.name} Horovod starts before parallel.horovod.fusion_mib and "
            f"parallel.horovod.cycle_ms can be set: leave them at 0 and set {words} in the environment."
        )
    os.environ.update({name: str(value) for name, value in settings.items()})
    if detect().uses_mpi and hvd.mpi_built():
        # A controller that the environment names for another launcher would wait for ranks that do not exist.
        os.environ.update(HOROVOD_CONTROLLER="mpi", HOROVOD_CPU_OPERATIONS="mpi")
    try:
        hvd.init(comm=_mpi_group(comm))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"Horovod cannot start under {detect().launcher.name}: {error}. See `rcdp doctor`.") from None
    return hvd


def _mpi_group(comm: Communicator | None) -> Any:
    """Return mpi4py's communicator if `comm` is a group of the job's ranks; None if it has all of them."""
    return comm.comm if isinstance(comm, MPICommunicator) and comm.is_part else None


def is_horovods_error(error: BaseException) -> bool:
    """Return whether Horovod raised an error because a rank ended or was missing from a collective for too long."""
    exceptions = sys.modules.get("horovod.common.exceptions")
    return exceptions is not None and isinstance(error, exceptions.HorovodInternalError)


def check_world(hvd: ModuleType, comm: Communicator) -> None:
    """Raise an `InputError` if Horovod and the communicator do not have the same ranks."""
    if (hvd.size(), hvd.rank()) == (comm.size, comm.rank):
        return
    raise InputError(
        f"rank {comm.rank} of {comm.size} ({detect().launcher.name}) is rank {hvd.rank()} of {hvd.size()} to Horovod. "
        "Both must count the same ranks: start with mpirun, or with srun --mpi=pmix, and unset the HOROVOD_* variables "
        "that an outer horovodrun has set."
    )


class HorovodCommunicator(Communicator):
    """All ranks of a job under horovodrun's Gloo mode, in which each process is an MPI world of its own."""

    library = "Horovod"

    def __init__(self, stall_seconds: int) -> None:
        self.hvd = start_horovod(stall_seconds)
        self.rank = self.hvd.rank()
        self.size = self.hvd.size()

    def barrier(self) -> None:
        """Return when every rank has called it."""
        self.allreduce(np.zeros(1))

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's small, picklable value on every rank."""
        return self.hvd.broadcast_object(value, root_rank=0, name="rcdp.broadcast")

    def allgather(self, value: Any) -> list[Any]:
        """Return the small, picklable values of all ranks on every rank."""
        return list(self.hvd.allgather_object(value, name="rcdp.allgather"))

    def allreduce(self, array: NDArray[Any], op: Operation = "sum") -> NDArray[Any]:
        """Return the elementwise sum, maximum or minimum over ranks."""
        import torch

        operation = {"sum": self.hvd.Sum, "max": self.hvd.Max, "min": self.hvd.Min}[op]
        tensor = torch.from_numpy(np.array(array, copy=True, order="C"))
        return np.asarray(self.hvd.allreduce(tensor, op=operation, name="rcdp.allreduce").numpy())

    def scatter_rows(self, rows: NDArray[np.float64] | None, columns: int) -> NDArray[np.float64]:
        """Send all rows to every rank and keep this rank's."""
        all_rows = np.asarray(self.broadcast(rows)).reshape(-1, columns)
        bounds = np.arange(self.size + 1) * len(all_rows) // self.size
        return all_rows[bounds[self.rank] : bounds[self.rank + 1]]

    def gather_rows(self, rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Gather on every rank and keep the result on rank 0."""
        stacked = np.concatenate(self.allgather(rows))
        return stacked if self.is_root else None

    def share_arrays(self, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Build the arrays in every process, because Gloo has no shared memory."""
        return read_only(make())

    def abort(self, code: int) -> NoReturn:
        """Exit at once; horovodrun then ends the other ranks."""
        exit_at_once(code)

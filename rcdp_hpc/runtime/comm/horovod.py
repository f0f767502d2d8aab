"""Horovod: starting it, checking its world, and the communicator over it for horovodrun's Gloo mode."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator, Operation
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.comm.mpi import MPICommunicator

# Horovod looks for tensors to send once a cycle, and its own cycle of 1 ms is as long as a step of a small readout.
CYCLE_MS = 0.2


def import_horovod() -> ModuleType:
    """Return ``horovod.torch``, not yet initialised.

    Raises
    ------
    InputError
        If Horovod or torch is not installed, or was built for others than those here.
    """
    try:
        import horovod.torch as hvd
    except ImportError as error:
        raise InputError(
            f"training on several ranks needs Horovod built for torch, which cannot be imported ({error}). "
            "Run `make setup`, or `rcdp doctor` to see what is missing; a single process needs no Horovod."
        ) from None
    return hvd  # type: ignore[no-any-return]


def start_horovod(
    stall_seconds: int, fusion_mib: int = 0, cycle_ms: float = 0.0, comm: Communicator | None = None
) -> ModuleType:
    """Initialise Horovod, once a process; all ranks must do so together.

    Parameters
    ----------
    stall_seconds : int
        A rank that misses a collective for so long ends the job, with a message that names it.
    fusion_mib : int
        MiB of tensors that Horovod sends together; 0 leaves its own choice.
    cycle_ms : float
        Milliseconds between its looks for tensors to send; 0 takes what the environment says, or `CYCLE_MS`.
    comm : Communicator, optional
        Where it is a group of the job's ranks, Horovod's world is that group. Default: all ranks.

    Returns
    -------
    module
        ``horovod.torch``.

    Raises
    ------
    InputError
        As `import_horovod`, if Horovod cannot start under this launcher, or has started without these choices.
    """
    # Horovod reads these once, in init. Warn well before the shutdown, so that the log names the rank.
    os.environ.setdefault("HOROVOD_STALL_CHECK_TIME_SECONDS", str(max(5, stall_seconds // 4)))
    os.environ.setdefault("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", str(stall_seconds))
    os.environ.setdefault("HOROVOD_CYCLE_TIME", str(CYCLE_MS))
    os.environ["HOROVOD_AUTOTUNE"] = "0"
    hvd = import_horovod()
    chosen = {"HOROVOD_FUSION_THRESHOLD": fusion_mib * 2**20, "HOROVOD_CYCLE_TIME": cycle_ms}
    chosen = {name: value for name, value in chosen.items() if value}
    if chosen and hvd.is_initialized():
        words = " ".join(f"{name}={value}" for name, value in chosen.items())
        raise InputError(
            f"under {detect().launcher} Horovod has started before it can be told parallel.horovod.fusion_mib and "
            f"parallel.horovod.cycle_ms: leave them at 0 and set {words} in the environment."
        )
    os.environ.update({name: str(value) for name, value in chosen.items()})
    if detect().kind == "mpi" and hvd.mpi_built():
        # A controller chosen in the environment for another launcher would wait for ranks that do not exist.
        os.environ.update(HOROVOD_CONTROLLER="mpi", HOROVOD_CPU_OPERATIONS="mpi")
    try:
        hvd.init(comm=_mpi_group(comm))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"Horovod cannot start under {detect().launcher}: {error}. See `rcdp doctor`.") from None
    return hvd


def _mpi_group(comm: Communicator | None) -> Any:
    """Return mpi4py's communicator of a group of ranks, None where `comm` is all of them."""
    return comm.comm if isinstance(comm, MPICommunicator) and comm.job_placement is not None else None


def is_lost_rank(error: Exception) -> bool:
    """Tell whether an error is Horovod's on a collective that a rank was missing from for too long, or died before."""
    exceptions = sys.modules.get("horovod.common.exceptions")
    return exceptions is not None and isinstance(error, exceptions.HorovodInternalError)


def check_world(hvd: ModuleType, comm: Communicator) -> None:
    """Raise an `InputError` where Horovod's world is not the communicator's, before anything is written."""
    if (hvd.size(), hvd.rank()) == (comm.size, comm.rank):
        return
    raise InputError(
        f"rank {comm.rank} of {comm.size} ({detect().launcher}) is rank {hvd.rank()} of {hvd.size()} to Horovod. "
        "Both must count the same ranks: start with mpirun, or with srun --mpi=pmix, and unset HOROVOD_* variables "
        "that an outer horovodrun left behind."
    )


class HorovodCommunicator(Communicator):
    """A group of ranks under horovodrun's Gloo mode, where MPI sees one rank per process."""

    library = "Horovod"

    def __init__(self, stall_seconds: int) -> None:
        self.hvd = start_horovod(stall_seconds)
        self.rank = self.hvd.rank()
        self.size = self.hvd.size()

    def barrier(self) -> None:
        """Return once every rank has called it."""
        self.allreduce(np.zeros(1))

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's (small, picklable) value on every rank."""
        return self.hvd.broadcast_object(value, root_rank=0, name="rcdp.broadcast")

    def allgather(self, value: Any) -> list[Any]:
        """Return every rank's (small, picklable) value on every rank."""
        return list(self.hvd.allgather_object(value, name="rcdp.allgather"))

    def allreduce(self, array: NDArray[Any], op: Operation = "sum") -> NDArray[Any]:
        """Return the elementwise sum, maximum or minimum over ranks."""
        import torch

        operation = {"sum": self.hvd.Sum, "max": self.hvd.Max, "min": self.hvd.Min}[op]
        tensor = torch.from_numpy(np.array(array, copy=True, order="C"))
        return np.asarray(self.hvd.allreduce(tensor, op=operation, name="rcdp.allreduce").numpy())

    def scatter_rows(self, rows: NDArray[np.float64] | None, columns: int) -> NDArray[np.float64]:
        """Send all rows to every rank and keep this rank's."""
        everything = np.asarray(self.broadcast(rows)).reshape(-1, columns)
        bounds = np.arange(self.size + 1) * len(everything) // self.size
        return everything[bounds[self.rank] : bounds[self.rank + 1]]

    def gather_rows(self, rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Gather on every rank and keep the result on rank 0."""
        stacked = np.concatenate(self.allgather(rows))
        return stacked if self.is_root else None

    def share_arrays(self, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Build the arrays in every process: Gloo offers no shared window."""
        arrays = make()
        for array in arrays.values():
            array.flags.writeable = False
        return arrays

    def abort(self, code: int) -> NoReturn:
        """Leave at once; horovodrun then ends the other ranks."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

"""The communicator of this process, by how it was launched."""

from __future__ import annotations

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm import Communicator, SingleProcess
from rcdp_hpc.runtime.launch import Launch, detect
from rcdp_hpc.runtime.network import listen_less


def connect(stall_seconds: int = 600, launch: Launch | None = None) -> Communicator:
    """Return the communicator that fits the launcher.

    Parameters
    ----------
    stall_seconds : int
        Patience with a missing rank, for Horovod.
    launch : Launch, optional
        Default: what the environment says.

    Raises
    ------
    InputError
        If the launcher started several ranks that cannot reach one another.
    """
    launch = launch or detect()
    if launch.conflict:
        raise InputError(launch.conflict)
    listen_less(launch)
    if launch.kind == "single":
        return SingleProcess()
    if launch.kind == "horovod-gloo":
        from rcdp_hpc.runtime.horovod import HorovodCommunicator

        return HorovodCommunicator(stall_seconds)
    return _connect_mpi(launch)


def _connect_mpi(launch: Launch) -> Communicator:
    try:
        from rcdp_hpc.runtime.mpi import MPICommunicator

        comm = MPICommunicator()
    except (ImportError, RuntimeError) as error:
        if launch.size == 1:
            return SingleProcess()
        raise InputError(
            f"{launch.launcher} started {launch.size} ranks, but mpi4py or the MPI library cannot be loaded ({error}). "
            "Run `make setup`, or `rcdp doctor` to see what is missing; one process alone needs no MPI."
        ) from None
    if comm.size != launch.size:
        raise InputError(
            f"{launch.launcher} started {launch.size} ranks, but the MPI library sees {comm.size}: every process would "
            "do the whole job. Use the mpirun of the MPI that mpi4py loads, or srun --mpi=pmix (srun --mpi=list shows "
            "what this Slurm offers; MPICH wants --mpi=pmi2)."
        )
    return comm

"""The communicator of this process, by how it was launched."""

from __future__ import annotations

import atexit
import os

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.heartbeat import Watch, start_watch
from rcdp_hpc.runtime.comm.launch import Launch, detect, number_from_environment
from rcdp_hpc.runtime.comm.open_ports import avoid_open_ports
from rcdp_hpc.runtime.comm.single import SingleProcess

GLOO_TIMEOUT = "HOROVOD_GLOO_TIMEOUT_SECONDS"
GLOO_PATIENCE = 1.5  # times run.stall_seconds, for the ranks to name the missing one first


def connect(stall_seconds: int = 600, launch: Launch | None = None) -> Communicator:
    """Return the communicator that fits the launcher.

    Parameters
    ----------
    stall_seconds : int
        Patience with a rank that stands still: the job is ended and names it (`rcdp_hpc.runtime.comm.heartbeat`).
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
    avoid_open_ports(launch)
    if launch.kind == "single":
        return SingleProcess()
    if launch.kind == "horovod-gloo":
        return _connect_gloo(launch, stall_seconds)
    return _connect_mpi(launch, stall_seconds)


def _connect_gloo(launch: Launch, stall_seconds: int) -> Communicator:
    from rcdp_hpc.runtime.comm.horovod import HorovodCommunicator
    from rcdp_hpc.runtime.comm.rendezvous import RendezvousChannel

    # Elastic runs do without ranks that are lost, and number the others again.
    if not launch.elastic:
        watch = start_watch(stall_seconds, launch)
        watch.join(RendezvousChannel(launch), all_started=False)
        # Gloo's own limit names nobody. Its 30 s are those of horovodrun, whoever chose them.
        limit = max(GLOO_PATIENCE * stall_seconds, number_from_environment(GLOO_TIMEOUT, 0))
        os.environ[GLOO_TIMEOUT] = str(int(limit))
        # Horovod, which starts later, registers its own end later, so that it ends earlier.
        atexit.register(_leave, watch, os.getpid())
    return HorovodCommunicator(stall_seconds)


def _leave(watch: Watch, pid: int) -> None:
    if os.getpid() == pid:
        watch.leave_together()


def _connect_mpi(launch: Launch, stall_seconds: int) -> Communicator:
    watch = start_watch(stall_seconds, launch)
    try:
        from rcdp_hpc.runtime.comm.mpi import connect_ranks

        comm = connect_ranks(watch)
    except (ImportError, RuntimeError) as error:
        watch.stop()
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

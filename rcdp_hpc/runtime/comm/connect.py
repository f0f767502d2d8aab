"""Choosing and connecting the communicator that fits the launcher."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rcdp_hpc.errors import InputError, RcdpError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.heartbeat import START_SECONDS, Watch, start_watch
from rcdp_hpc.runtime.comm.launch import detect, number_from_environment
from rcdp_hpc.runtime.comm.launcher import Launch
from rcdp_hpc.runtime.comm.open_ports import avoid_open_ports
from rcdp_hpc.runtime.comm.single import SingleProcess

GLOO_TIMEOUT = "HOROVOD_GLOO_TIMEOUT_SECONDS"
# Multiple of run.stall_seconds after which Gloo gives up. Gloo names no rank, so the heartbeats should report first.
GLOO_TIMEOUT_FACTOR = 1.5


def connect(stall_seconds: int = 600, launch: Launch | None = None) -> Communicator:
    """Return the communicator that fits the launcher.

    Parameters
    ----------
    stall_seconds : int
        Seconds without a sign of life from a rank after which the job ends (`rcdp_hpc.runtime.comm.heartbeat`).
    launch : Launch, optional
        Default: detected from the environment.

    Returns
    -------
    Communicator
        Of all ranks that the launcher started; of this process alone without a launcher.

    Raises
    ------
    InputError
        If the launcher started several ranks that cannot communicate.
    """
    launch = launch or detect()
    if launch.conflict:
        raise InputError(launch.conflict)
    avoid_open_ports(launch)
    return CONNECTIONS[launch.transport](launch, stall_seconds)


def _connect_alone(launch: Launch, stall_seconds: int) -> Communicator:
    return SingleProcess()


def _connect_horovod(launch: Launch, stall_seconds: int) -> Communicator:
    from rcdp_hpc.runtime.comm.horovod import HorovodCommunicator
    from rcdp_hpc.runtime.comm.rendezvous import RendezvousChannel

    # Elastic runs continue without lost ranks and renumber the others, so they have no heartbeats.
    if not launch.elastic:
        watch = start_watch(stall_seconds, launch)
        watch.join(RendezvousChannel(launch), all_started=False)
        # horovodrun sets the limit to 30 s even if the user does not, so a shorter value is never the user's choice.
        limit = max(GLOO_TIMEOUT_FACTOR * stall_seconds, number_from_environment(GLOO_TIMEOUT, 0))
        os.environ[GLOO_TIMEOUT] = str(int(limit))
        # Exit handlers run in reverse order: Horovod, which starts later, shuts down first.
        atexit.register(_leave, watch, os.getpid())
    return HorovodCommunicator(stall_seconds)


def _leave(watch: Watch, pid: int) -> None:
    if os.getpid() == pid:
        watch.leave_together()


def _connect_torchrun(launch: Launch, stall_seconds: int) -> Communicator:
    watch = start_watch(stall_seconds, launch)
    try:
        from rcdp_hpc.runtime.comm.torch_store import TorchStore
        from rcdp_hpc.runtime.comm.torchrun import connect_torchrun

        store = TorchStore(launch, max(START_SECONDS, stall_seconds))
    except ImportError as error:
        watch.stop()
        raise InputError(
            f"torchrun started {launch.size} ranks, but torch cannot be imported ({error}). Run `make setup`, or "
            "`rcdp doctor` to see what is missing."
        ) from None
    except InputError:
        watch.stop()
        raise
    watch.join(store.heartbeats(launch), all_started=False)
    comm = connect_torchrun(store, launch.rank, launch.size)
    # torchrun counts a rank that exits as done, and the connections of the others to it must not end before.
    atexit.register(_leave, watch, os.getpid())
    return comm


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
            f"{launch.launcher.name} started {launch.size} ranks, but mpi4py or the MPI library cannot be loaded "
            f"({error}). Run `make setup`, or `rcdp doctor` to see what is missing. A single process needs no MPI."
        ) from None
    if comm.size != launch.size:
        raise InputError(
            f"{launch.launcher.name} started {launch.size} ranks, but the MPI library sees {comm.size}: every process "
            "would do the whole job. Use the mpirun of the MPI that mpi4py loads, or srun --mpi=pmix (srun --mpi=list "
            "shows the types that this Slurm supports; MPICH needs --mpi=pmi2)."
        )
    return comm


# By what connects the ranks (`Launcher.transport`).
CONNECTIONS: Mapping[str, Callable[[Launch, int], Communicator]] = {
    "none": _connect_alone,
    "mpi": _connect_mpi,
    "horovod": _connect_horovod,
    "torch": _connect_torchrun,
}


def alone() -> Communicator:
    """Return the communicator of a single process; several processes need one that the caller creates.

    Raises
    ------
    InputError
        If a launcher started several processes, or its variables contradict each other.
    """
    launch = detect()
    if launch.conflict:
        raise InputError(launch.conflict)
    if launch.size > 1:
        raise InputError(
            f"{launch.launcher.name} started {launch.size} ranks, and each would do all the work alone: pass "
            "comm=rcdp_hpc.connect()."
        )
    return SingleProcess()


@contextmanager
def communicator_of(comm: Any = None) -> Iterator[Communicator]:
    """Yield the communicator for an argument ``comm`` of the Python interface.

    Parameters
    ----------
    comm : Communicator, mpi4py.MPI.Intracomm or None
        None is this process alone. An mpi4py communicator is duplicated, so that its messages stay apart; its ranks
        have to call this together. They may be a part of the job's ranks.

    Raises
    ------
    InputError
        If it is none of these, is freed or null, has other ranks than the launcher started, or a launcher started
        several ranks and `comm` is None.
    """
    if comm is None:
        yield alone()
    elif isinstance(comm, Communicator):
        _refuse_unusable(getattr(comm, "comm", None))
        yield comm
    else:
        with _duplicate(comm) as duplicate:
            yield duplicate


@contextmanager
def _duplicate(comm: Any) -> Iterator[Communicator]:
    """Yield a communicator of the ranks of one of mpi4py, which is freed afterwards."""
    if isinstance(comm, type) or not all(hasattr(comm, name) for name in ("Dup", "Get_rank", "Ibcast")):
        raise InputError(
            f"comm is {_with_article(comm)}: expected rcdp_hpc.connect(), a communicator of mpi4py, or None"
        )
    _refuse_unusable(comm)
    from rcdp_hpc.runtime.comm.mpi import MPICommunicator

    duplicate = MPICommunicator(comm.Dup())
    try:
        yield duplicate
    except RcdpError as error:
        if error.agreed:  # otherwise the other ranks do not get here
            duplicate.comm.Free()
        raise
    duplicate.comm.Free()


def _with_article(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _refuse_unusable(comm: Any) -> None:
    """Raise an `InputError` if the ranks of mpi4py's communicator cannot exchange messages. Sends none."""
    if comm is None:
        return
    from rcdp_hpc.runtime.comm.mpi import problem_of

    problem = problem_of(comm, detect())
    if problem:
        raise InputError(f"comm {problem}")

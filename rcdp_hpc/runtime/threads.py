"""How many cores this process may use, and how many threads torch and BLAS take.

The thread count decides the order in which sums are formed, hence the last digits of a result. Stages
that promise the same answer for any number of ranks therefore run under `limit_threads`.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

from rcdp_hpc.runtime.comm import Communicator


def available_cores() -> int:
    """Return the number of cores that this process may run on (its affinity mask, at least 1)."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Hold torch (where it is imported) and the loaded BLAS and OpenMP libraries to `count` threads.

    The counts found on entry are restored on exit. Libraries loaded inside the block are not covered:
    import torch first.

    Parameters
    ----------
    count : int
        Threads, at least 1.
    """
    if count < 1:
        raise ValueError(f"count = {count} must be at least 1")
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 0
    with threadpool_limits(limits=count):
        if torch is not None:
            torch.set_num_threads(count)
        try:
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(before)


def places_of_job(comm: Communicator) -> list[tuple[str, frozenset[int]]]:
    """Return the host and the cores of every rank of the job, also where `comm` is a group of it. Collective."""
    if comm.job_places is not None:
        return comm.job_places
    mine = (
        frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset(range(available_cores()))
    )
    return comm.allgather((socket.gethostname(), mine))


def ranks_here(comm: Communicator) -> int:
    """Return how many of the job's ranks run on this host, also where `comm` is a group of them. Collective."""
    return [host for host, _ in places_of_job(comm)].count(socket.gethostname())


def fair_share(comm: Communicator) -> int:
    """Return the threads each rank may use so that ranks of one host do not fight for cores. Collective.

    Launchers may bind each rank to cores of its own, or leave all ranks on all cores: the cores a rank may run on
    are divided by the ranks of its host that may run on any of them. A task of Slurm takes no more than its
    ``--cpus-per-task``. All ranks get the same count, the smallest.

    Parameters
    ----------
    comm : Communicator
        The ranks that work at the same time, or a group of them that knows the others' places.

    Returns
    -------
    int
        Threads per rank, at least 1.
    """
    places = places_of_job(comm)
    shares = [
        len(cores) // sum(host == other and bool(cores & others) for other, others in places) for host, cores in places
    ]
    granted = comm.allgather(_granted_by_slurm())
    return max(1, min([*shares, *filter(None, granted)]))


def _granted_by_slurm() -> int:
    """Return the cores that Slurm gave this task, 0 where it names none: not every site holds tasks to theirs."""
    return int(os.environ.get("SLURM_CPUS_PER_TASK") or 0)

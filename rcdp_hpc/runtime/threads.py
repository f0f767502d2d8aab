"""The cores that this process may use, and the number of threads of torch and BLAS.

Cores are limited by the affinity, by a quota of processor time (containers, systemd) and by OMP_NUM_THREADS. The number
of threads decides the order of summation and therefore the last digits of a result. Stages whose results must not
depend on the number of ranks run under `limit_threads`.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

from rcdp_hpc.runtime.cgroups import groups_of_process
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.launch import number_from_environment
from rcdp_hpc.runtime.openmp_waits import report_long_waits

P = ParamSpec("P")
T = TypeVar("T")


def available_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may use, at least 1.

    The smallest of its affinity mask, the processor-time quota of its control groups, and OMP_NUM_THREADS.

    Parameters
    ----------
    root : Path
        Folder that contains ``proc`` and ``sys``.
    """
    limits = (len(_affinity()), cpu_quota(root), _omp_num_threads())
    return max(1, int(min(limit for limit in limits if limit is not None)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the processor-time quota of the control groups of this process, in cores; None if there is none.

    Parameters
    ----------
    root : Path
        Folder that contains ``proc`` and ``sys``.
    """
    quotas = [_quota(version, group) for version, group in groups_of_process("cpu", root)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(version: int, group: Path) -> float | None:
    """Return the quota of one control group in cores (processor time per time); None for no limit."""
    try:
        if version == 2:
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # missing, or "max"
        return None


def _omp_num_threads() -> int | None:
    """Return the first number of OMP_NUM_THREADS; None if it is not set, or not a value that OpenMP accepts."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if re.fullmatch(r"0*[1-9][0-9]{0,8}", first) else None


def _affinity() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Limit torch (if it is imported) and the loaded BLAS and OpenMP libraries to `count` threads within a block.

    Libraries that are loaded within the block are not limited: import torch first.

    Parameters
    ----------
    count : int
        Number of threads, at least 1.
    """
    if count < 1:
        raise ValueError(f"count = {count} must be at least 1")
    report_long_waits(count)
    torch = sys.modules.get("torch")
    previous = torch.get_num_threads() if torch is not None else 0
    with threadpool_limits(limits=count):
        if torch is not None:
            torch.set_num_threads(count)
        try:
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(previous)


def for_thread(work: Callable[P, T]) -> Callable[P, T]:
    """Return work for another thread of this process, in which torch computes with as many threads as in this one.

    OpenMP and MKL have a limit for each thread of a process. A new one has none, whatever `limit_threads` says, and
    products would have other last digits there.
    """
    torch = sys.modules.get("torch")
    count = torch.get_num_threads() if torch is not None else 0

    def limited(*arguments: P.args, **options: P.kwargs) -> T:
        if torch is not None:
            torch.set_num_threads(count)
        return work(*arguments, **options)

    return limited


def gather_placement(comm: Communicator) -> list[tuple[str, frozenset[int]]]:
    """Return the host and the cores of every rank of the job, also if `comm` is only a group of them. Collective."""
    if comm.job_placement is not None:
        return comm.job_placement
    return comm.allgather((socket.gethostname(), _affinity()))


def ranks_on_host(comm: Communicator) -> int:
    """Return the number of ranks of the job on this host, also if `comm` is only a group of them. Collective."""
    return [host for host, _ in gather_placement(comm)].count(socket.gethostname())


def threads_per_rank(comm: Communicator) -> int:
    """Return the number of threads per rank so that each core of a host has at most one thread. Collective.

    Launchers may bind ranks to separate cores, or let all ranks run on all cores. The cores of a rank are therefore
    divided by the number of ranks on its host that may use any of them, and a quota of processor time by the number of
    ranks on the host. OMP_NUM_THREADS and Slurm's ``--cpus-per-task`` are upper limits. All ranks get the smallest
    number.

    Parameters
    ----------
    comm : Communicator
        All ranks of the job, or a group with `Communicator.job_placement`.

    Returns
    -------
    int
        Threads per rank, at least 1.
    """
    places = gather_placement(comm)
    shares = [
        len(cores) // sum(host == other and bool(cores & others) for other, others in places) for host, cores in places
    ]
    local_limits = (_share_of_quota(comm), _omp_num_threads(), number_from_environment("SLURM_CPUS_PER_TASK", 0))
    limits = [limit for limit in chain.from_iterable(comm.allgather(local_limits)) if limit]
    return max(1, min([*shares, *limits]))


def _share_of_quota(comm: Communicator) -> int | None:
    """Return the share of the quota of each rank on this host in whole cores; None without a quota. Collective."""
    ranks, quota = ranks_on_host(comm), cpu_quota()
    return None if quota is None else max(1, int(quota / ranks))

"""How many cores this process may use, and how many threads torch and BLAS take.

Cores are limited by the affinity, by a quota of processor time (containers, systemd) and by OMP_NUM_THREADS.
The thread count decides the order in which sums are formed, hence the last digits of a result. Stages
that promise the same answer for any number of ranks therefore run under `limit_threads`.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from threadpoolctl import threadpool_limits

from rcdp_hpc.runtime.cgroups import groups_of_process
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.launch import number_from_environment
from rcdp_hpc.runtime.openmp_waits import report_long_waits


def available_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may use, at least 1.

    The least of its affinity mask, the quota of processor time of the control groups around it, and OMP_NUM_THREADS.

    Parameters
    ----------
    root : Path
        Where proc and sys are.
    """
    limits = (len(_affinity()), cpu_quota(root), _asked_for())
    return max(1, int(min(limit for limit in limits if limit is not None)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the cores' worth of processor time that the control groups around this process allow, None for all.

    Parameters
    ----------
    root : Path
        Where proc and sys are.
    """
    quotas = [_quota(version, group) for version, group in groups_of_process("cpu", root)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(version: int, group: Path) -> float | None:
    """Return microseconds of processor time by microseconds, as one group allows them; None for no limit."""
    try:
        if version == 2:
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # not there, or "max"
        return None


def _asked_for() -> int | None:
    """Return the user's OMP_NUM_THREADS, of a list the first; None if OpenMP would not take it either."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if re.fullmatch(r"0*[1-9][0-9]{0,8}", first) else None


def _affinity() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


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
    report_long_waits(count)
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


def gather_placement(comm: Communicator) -> list[tuple[str, frozenset[int]]]:
    """Return the host and the cores of every rank of the job, also where `comm` is a group of it. Collective."""
    if comm.job_placement is not None:
        return comm.job_placement
    return comm.allgather((socket.gethostname(), _affinity()))


def ranks_on_host(comm: Communicator) -> int:
    """Return how many of the job's ranks run on this host, also where `comm` is a group of them. Collective."""
    return [host for host, _ in gather_placement(comm)].count(socket.gethostname())


def threads_per_rank(comm: Communicator) -> int:
    """Return the threads each rank may use so that ranks of one host do not fight for cores. Collective.

    Launchers may bind each rank to cores of its own, or leave all ranks on all cores: the cores a rank may run on
    are divided by the ranks of its host that may run on any of them, and so is a quota of processor time. A rank takes
    no more than its OMP_NUM_THREADS, and a task of Slurm no more than its ``--cpus-per-task``. All ranks get the same
    count, the smallest.

    Parameters
    ----------
    comm : Communicator
        The ranks that work at the same time, or a group of them that knows the others' places.

    Returns
    -------
    int
        Threads per rank, at least 1.
    """
    places = gather_placement(comm)
    shares = [
        len(cores) // sum(host == other and bool(cores & others) for other, others in places) for host, cores in places
    ]
    own_limits = (_share_of_quota(comm), _asked_for(), number_from_environment("SLURM_CPUS_PER_TASK", 0))
    limits = [limit for limit in chain.from_iterable(comm.allgather(own_limits)) if limit]
    return max(1, min([*shares, *limits]))


def _share_of_quota(comm: Communicator) -> int | None:
    """Return the whole cores of the quota for each of this host's ranks. Collective."""
    ranks, quota = ranks_on_host(comm), cpu_quota()
    return None if quota is None else max(1, int(quota / ranks))

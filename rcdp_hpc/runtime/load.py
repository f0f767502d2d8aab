"""Other processes on the cores of this job, such as a second job that takes all cores as well: reported, once.

Threads of a step wait for the slowest one, so that a core which another process uses slows down all of them: two jobs
that each use all cores of a node take many times as long, not twice. The number of threads does not follow the load,
because the last digits of results depend on it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.launch import detect, local_rank
from rcdp_hpc.runtime.threads import gather_placement

log = logging.getLogger(__name__)

# Seconds after which a look begins, and of a look. Shorter stages need no report.
LOOKS_AFTER = (8.0, 60.0, 300.0, 1800.0)
LOOK_SECONDS = 4.0
# Cores that other processes may use without a report: a system is never quite idle.
UNREPORTED_CORES = 0.75
NAMED_PROCESSES = 3


@dataclass(frozen=True)
class Use:
    """Seconds of processor time since some moment.

    Attributes
    ----------
    busy : float
        On the observed cores, by all processes.
    own : float
        By this job.
    processes : dict of int to float
        By each visible process that is not of this job.
    """

    busy: float
    own: float
    processes: dict[int, float]


@dataclass(frozen=True)
class Observed:
    """What a job uses on a host, and what it is told about the load.

    Attributes
    ----------
    cores : frozenset of int
        Cores on which its ranks may run.
    demand : int
        Threads of all its ranks on the host.
    ranks : int
        Its ranks on the host.
    key : str
        The key of the configuration with the threads of a rank.
    """

    cores: frozenset[int]
    demand: int
    ranks: int
    key: str

    def complaint(self, before: Use, after: Use, seconds: float) -> str:
        """Return the warning for what was used within these seconds; empty if the cores suffice for all."""
        own = max(0.0, after.own - before.own)
        others = (max(0.0, after.busy - before.busy) - own) / seconds
        count = len(self.cores)
        # The others take what the system gives them next to this job, so they may want more than they get.
        if others < UNREPORTED_CORES or others + self.demand <= count + UNREPORTED_CORES:
            return ""
        fewer = max(1, int((count - others) / self.ranks))
        ways = "give each job cores of its own (taskset -c, a cpuset, srun --exact)"
        if fewer * self.ranks < self.demand:
            ways += f", or fewer threads ({self.key} or OMP_NUM_THREADS = {fewer})"
        return (
            f"host {socket.gethostname()}: other processes use {others:.1f} of the {count} cores on which "
            f"{self.demand} threads of this job run (load average {os.getloadavg()[0]:.1f}"
            f"{_named(before, after, seconds)}). Threads wait for the slowest one, so the job may take many times as "
            f"long: {ways}"
        )


def _named(before: Use, after: Use, seconds: float) -> str:
    """Return the processes that used most, for a message; empty if none is visible, as from within a container."""
    used = {pid: spent - before.processes.get(pid, 0.0) for pid, spent in after.processes.items()}
    largest = sorted(used, key=lambda pid: -used[pid])[:NAMED_PROCESSES]
    parts = []
    for pid in largest:
        if used[pid] / seconds < UNREPORTED_CORES / 2:
            continue
        try:
            parts.append(f"{psutil.Process(pid).name()} (process {pid}) {used[pid] / seconds:.1f}")
        except psutil.Error:  # it has ended
            continue
    return f"; {', '.join(parts)}" if parts else ""


def measure(cores: frozenset[int]) -> Use:
    """Return the processor time that was used on these cores so far, and that of this job and of other processes."""
    every = psutil.cpu_times(percpu=True)
    busy = sum(_busy(times) for number, times in enumerate(every) if number in cores)
    own_pids = _job_processes()
    own, processes = 0.0, {}
    for process in psutil.process_iter():
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has ended, or is not visible
            continue
        if process.pid in own_pids:
            # Children that have ended are in the times of their parent.
            own += times.user + times.system + times.children_user + times.children_system
        else:
            processes[process.pid] = times.user + times.system
    return Use(busy, own, processes)


def _busy(times: object) -> float:
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return float(sum(getattr(times, name, 0.0) for name in names))


def _job_processes() -> set[int]:
    """Return the processes of this job on this host: this one, and those of the launcher that started it."""
    this = psutil.Process()
    root = this
    try:
        if detect().size > 1 and this.parent() is not None:
            root = this.parent() or this
        return {root.pid, this.pid, *(child.pid for child in root.children(recursive=True))}
    except psutil.Error:
        return {this.pid}


@contextmanager
def watched_load(comm: Communicator, threads: int, key: str) -> Iterator[None]:
    """Log one warning within the block if other processes use the cores of this job. Collective.

    One rank of each host looks, in a thread, a few times in the first half hour.

    Parameters
    ----------
    comm : Communicator
        All ranks of the job, or a group.
    threads : int
        Threads of a rank.
    key : str
        The key of the configuration with their number.
    """
    here = socket.gethostname()
    places = [cores for host, cores in gather_placement(comm) if host == here]
    observed = Observed(frozenset().union(*places), threads * len(places), len(places), key)
    ended = threading.Event()
    if local_rank() == 0:
        threading.Thread(target=_look, args=(observed, ended), daemon=True, name="rcdp-load").start()
    try:
        yield
    finally:
        ended.set()


def _look(observed: Observed, ended: threading.Event) -> None:
    passed = 0.0
    for after in LOOKS_AFTER:
        if ended.wait(after - passed):
            return
        before = measure(observed.cores)
        if ended.wait(LOOK_SECONDS):
            return
        passed = after + LOOK_SECONDS
        found = observed.complaint(before, measure(observed.cores), LOOK_SECONDS)
        if found:
            log.warning("%s", found)
            return

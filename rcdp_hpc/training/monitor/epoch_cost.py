"""What an epoch took: seconds, messages, processor and memory of every rank."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.training.monitor.gpu import GpuGauge


@dataclass
class EpochCost:
    """What an epoch took; lists have a value for each rank.

    Attributes
    ----------
    seconds : float
        From its first step to its last, on this rank.
    compute_seconds, wait_seconds, communicate_seconds : list of float
        They add up to each rank's seconds. The rank that comes last to a message waits for none, so that the shortest
        stay in it is what the message takes, and what others stay longer is waiting. Pauses count as waiting.
    bytes_sent : list of float
        What a ring sends: 2 (R - 1) / R of each message of training steps.
    cpu_percent : list of float
        Processor time over wall time; 100 is one core. A rank that waits in MPI is busy looking for messages.
    cpu_percent_deviation : float
        Its standard deviation over ranks.
    memory_mib : list of float
        Resident memory at the end.
    gpu_percent : list of (float or None), or None
        Share of the time in which a GPU computed, and its standard deviation over ranks; None without one, and where
        its driver does not tell.
    gpu_percent_deviation : float or None
    gpu_memory_mib : list of float, or None
        The most that torch took of its memory.
    """

    seconds: float
    compute_seconds: list[float]
    wait_seconds: list[float]
    communicate_seconds: list[float]
    bytes_sent: list[float]
    cpu_percent: list[float]
    cpu_percent_deviation: float
    memory_mib: list[float]
    gpu_percent: list[float | None] | None = None
    gpu_percent_deviation: float | None = None
    gpu_memory_mib: list[float] | None = None


class EpochTimer:
    """Measures from its making to `close`.

    Parameters
    ----------
    parallel : Alone
        Notes what its messages take.
    where : torch.device
        What is computed on.
    """

    def __init__(self, parallel: SingleProcessEngine, where: torch.device) -> None:
        self.parallel = parallel
        self.gpu = GpuGauge(where) if where.type == "cuda" else None
        parallel.blocked, parallel.sent = [], 0.0
        self.paused = 0.0
        self.process = psutil.Process()
        self.cpu = self._cpu_seconds()
        self.started = time.perf_counter()
        self.seconds = 0.0

    def _cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def stop(self) -> None:
        """Take note that the epoch's last step is done."""
        self.seconds = time.perf_counter() - self.started
        self.cpu = self._cpu_seconds() - self.cpu

    def close(self, comm: Communicator) -> EpochCost:
        """Return what the epoch took, after `stop`. Collective."""
        blocked = np.array(self.parallel.blocked, dtype=np.float64)
        communicate = float(comm.allreduce(blocked, "min").sum())
        wait = float(blocked.sum()) - communicate + self.paused
        memory = self.process.memory_info().rss / 2**20
        percent = 100 * self.cpu / self.seconds
        own = (self.seconds - wait - communicate, wait, communicate, self.parallel.sent, percent, memory)
        columns = [list(column) for column in zip(*comm.allgather(own), strict=True)]
        compute, waits, communicates, sent, percents, memories = columns
        cost = EpochCost(
            seconds=self.seconds,
            compute_seconds=compute,
            wait_seconds=waits,
            communicate_seconds=communicates,
            bytes_sent=sent,
            cpu_percent=percents,
            cpu_percent_deviation=float(np.std(percents)),
            memory_mib=memories,
        )
        if self.gpu:
            shares, cost.gpu_memory_mib = map(list, zip(*comm.allgather(self.gpu.close()), strict=True))
            known = [share for share in shares if share is not None]
            if known:
                cost.gpu_percent, cost.gpu_percent_deviation = shares, float(np.std(known))
        return cost

"""The cost of an epoch: seconds, messages, processor time and memory of every rank."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from rcdp_hpc.parallel.base import Engine
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.training.monitor.gpu import GpuGauge


@dataclass
class EpochCost:
    """The cost of an epoch; lists have a value for each rank.

    Attributes
    ----------
    seconds : float
        From its first step to its last, on this rank.
    compute_seconds, wait_seconds, communicate_seconds : list of float
        Their sum is the seconds of the rank. The last rank that joins a message waits for no other, so the least time
        of all ranks is the communication, and the rest of a rank's time is waiting. Pauses count as waiting.
    bytes_sent : list of float
        Bytes that a ring sends for the messages of training steps: 2 (R - 1) / R of each message.
    cpu_percent : list of float
        Processor time over wall time; 100 is one core. A rank that waits in MPI uses its core, because it polls.
    cpu_percent_deviation : float
        Standard deviation of `cpu_percent` over ranks.
    memory_mib : list of float
        Resident memory at the end.
    gpu_percent : list of (float or None), or None
        Share of the time in which a GPU computed. None without a GPU, and if its driver does not report it.
    gpu_percent_deviation : float or None
        Standard deviation of `gpu_percent` over ranks.
    gpu_memory_mib : list of float, or None
        Largest memory that torch allocated on the GPU.
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
    """Measures the cost of an epoch, from the constructor to `close`.

    Parameters
    ----------
    engine : Engine
        Counts the seconds and bytes of its messages.
    device : torch.device
        The device of the training.

    Attributes
    ----------
    paused : float
        Seconds of pauses, which the caller adds.
    """

    def __init__(self, engine: Engine, device: torch.device) -> None:
        self.engine = engine
        self.gpu = GpuGauge(device) if device.type == "cuda" else None
        engine.communication_seconds = []
        engine.bytes_sent = 0.0
        self.paused = 0.0
        self.process = psutil.Process()
        self.cpu = self._cpu_seconds()
        self.started = time.perf_counter()
        self.seconds = 0.0

    def _cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def stop(self) -> None:
        """Measure the seconds up to now; called after the last step of the epoch."""
        self.seconds = time.perf_counter() - self.started
        self.cpu = self._cpu_seconds() - self.cpu

    def close(self, comm: Communicator) -> EpochCost:
        """Return the cost of the epoch, after `stop`. Collective."""
        seconds = np.array(self.engine.communication_seconds, dtype=np.float64)
        communicate = float(comm.allreduce(seconds, "min").sum())
        wait = float(seconds.sum()) - communicate + self.paused
        memory = self.process.memory_info().rss / 2**20
        percent = 100 * self.cpu / self.seconds
        costs = (self.seconds - wait - communicate, wait, communicate, self.engine.bytes_sent, percent, memory)
        columns = [list(column) for column in zip(*comm.allgather(costs), strict=True)]
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
            measured = [share for share in shares if share is not None]
            if measured:
                cost.gpu_percent = shares
                cost.gpu_percent_deviation = float(np.std(measured))
        return cost

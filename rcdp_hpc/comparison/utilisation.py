"""Use of the processor during a cell, sampled over time."""

from __future__ import annotations

import statistics
import threading
import time
from types import TracebackType
from typing import Any

from rcdp_hpc.runtime.comm.base import Communicator

# With more samples, two neighbours become one, and the interval doubles.
MOST_SAMPLES = 200


class Utilisation:
    """A context manager that samples the processor time of this process.

    Parameters
    ----------
    every : float
        Seconds between samples at the start.
    """

    def __init__(self, every: float = 0.5) -> None:
        self.every = every
        self._percent: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Utilisation:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            wall, used = time.perf_counter(), time.process_time()
            ended = self._ended.wait(self.every)
            wall, used = time.perf_counter() - wall, time.process_time() - used
            # The rest of a cell is a sample only if there is no other, since a short one says little.
            if not ended or not self._percent:
                self._percent.append(100 * used / max(wall, 1e-6))
            if ended:
                return
            if len(self._percent) >= MOST_SAMPLES:
                pairs = zip(self._percent[::2], self._percent[1::2], strict=False)
                self._percent = [(first + second) / 2 for first, second in pairs]
                self.every *= 2

    def over(self, comm: Communicator) -> dict[str, Any]:
        """Return the mean over the ranks of a cell, after the block (`CellTiming.utilisation`). Collective."""
        of_ranks = comm.allgather((self.every, self._percent))
        every = max(interval for interval, _ in of_ranks)
        columns = [percent for interval, percent in of_ranks if interval == every]
        over_time = [statistics.fmean(values) for values in zip(*columns, strict=False)]
        return {
            "mean": statistics.fmean(over_time),
            "deviation": statistics.stdev(over_time) if len(over_time) > 1 else 0.0,
            "every": every,
            "over_time": [round(value, 1) for value in over_time],
        }

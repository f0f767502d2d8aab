"""The steps that were started since the host last read their results."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.training.step_inputs import Batch

# Of a step: this rank's local row indices of each batch, and the batches, if they were fetched ahead.
FetchedRows = tuple[list[NDArray[np.int64]], list[Batch]]


@dataclass(frozen=True)
class Launch:
    """A step that was started.

    Attributes
    ----------
    global_rows : int
        Its rows on all ranks.
    rows : list of ndarray of int64
        This rank's local row indices of each batch.
    loss_scale : list of float
        The loss scale from before the step (`LossScale.state`).
    """

    global_rows: int
    rows: list[NDArray[np.int64]]
    loss_scale: list[float]


class LaunchedSteps:
    """The steps since the host last read their results, and the time that they take.

    A launch returns at once on a GPU, so steps are timed from one reading to the next.
    """

    def __init__(self) -> None:
        self.steps: list[Launch] = []
        self.first = 0
        self.seconds = 0.0
        self.timed = 0
        self.started = time.perf_counter()

    def begin(self, step: int) -> None:
        """Continue from this step of an epoch, after a pause."""
        self.first = step
        self.started = time.perf_counter()

    def since_pause(self, step: int) -> int:
        """Return the number of steps from the last pause up to this step of the epoch."""
        return step - self.first

    def add(self, step: Launch) -> None:
        """Add a step."""
        self.steps.append(step)

    def read(self, unfinished: int) -> tuple[list[Launch], Launch | None]:
        """Return the finished steps, and the first of the unfinished ones, if there are any; forget all of them.

        Parameters
        ----------
        unfinished : int
            Number of steps, the last ones, that changed nothing.
        """
        finished = self.steps[: len(self.steps) - unfinished]
        repeated = self.steps[len(finished)] if unfinished else None
        self.steps = []
        now = time.perf_counter()
        self.seconds += now - self.started
        self.timed += len(finished)
        self.started = now
        return finished, repeated

    @property
    def step_seconds(self) -> float:
        """Mean seconds of a step; 0 if none is finished."""
        return self.seconds / self.timed if self.timed else 0.0

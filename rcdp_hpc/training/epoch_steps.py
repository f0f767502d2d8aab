"""The steps of an epoch: their start, the reading of their results, and steps without a finite gradient."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.reservoir.stream import ahead
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agreed
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.training.launched_steps import FetchedRows, Launch, LaunchedSteps
from rcdp_hpc.training.monitor.divergence import DivergedError, advice, describe
from rcdp_hpc.training.optim.ema import MovingAverage
from rcdp_hpc.training.optim.learning_rate import LearningRate
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.pruning.pruner import Pruner
from rcdp_hpc.training.report import Position
from rcdp_hpc.training.states.host_states import SideStream
from rcdp_hpc.training.step import Stepper, StepResult
from rcdp_hpc.training.step_inputs import Batch, tensors_of

log = logging.getLogger(__name__)

# Steps in a row that may be skipped.
MOST_SKIPS = 10


class EpochSteps:
    """Takes the steps of an epoch.

    The host starts steps without waiting for them, and reads the sums of all at each pause and at the end of the epoch.
    If a gradient was not finite, it returns to that step, which changed nothing, as all steps after it; it waits for
    this one, and then handles it.

    Parameters
    ----------
    config : Config
    plan : BatchPlan
        The rows of each step.
    stepper : Stepper
    learning_rate : LearningRate
    comm : Communicator
    average : MovingAverage, optional
        Moving average of the weights.
    class_counts : ndarray of int64, shape (classes,)
        Rows of each class in the steps of this rank in the current epoch; added to.

    Attributes
    ----------
    steps : int
        Steps of an epoch.
    rows_timed : int
        Rows of all ranks since the start of the epoch, or the resume.
    step_seconds : float
        Mean seconds of a step; 0 before the first reading.
    """

    def __init__(
        self,
        config: Config,
        plan: BatchPlan,
        stepper: Stepper,
        learning_rate: LearningRate,
        comm: Communicator,
        average: MovingAverage | None,
        class_counts: NDArray[np.int64],
    ) -> None:
        self.config = config
        self.plan = plan
        self.stepper = stepper
        self.parallel = stepper.parallel
        self.learning_rate = learning_rate
        self.comm = comm
        self.average = average
        self.class_counts = class_counts
        self.steps = math.ceil(plan.steps / config.training.accumulate)
        self.rows_timed = 0
        self.step_seconds = 0.0
        # Steps that the host has not read the results of, and whether it waits for the next one.
        self.launched = LaunchedSteps()
        self.waits = False
        # This rank's rows since the weights were averaged, its first fault since then, and skipped steps in a row.
        self.local_rows = 0
        self.fault = ""
        self.skips = 0
        # Of the current epoch: the position, this rank's labels, and the divisor of the loss in each step.
        self.position: Position
        self.labels: NDArray[np.int64]
        self.weights: NDArray[np.float64]

    def run(
        self,
        position: Position,
        labels: NDArray[np.int64],
        orders: NDArray[np.int64],
        weights: NDArray[np.float64],
        interval: int,
        pause: Callable[[], None],
        progress: Progress,
    ) -> None:
        """Take the steps from a position to the end of its epoch, which the stepper has begun.

        Parameters
        ----------
        position : Position
            Advanced; its sums are current in each pause and at the end.
        labels : ndarray of int64
            Classes of this rank's rows.
        orders : ndarray of int64
            The result of `BatchPlan.orders`.
        weights : ndarray of float64
            Divisor of the loss in each step.
        interval : int
            Steps between pauses, at least.
        pause : callable
            Called between steps, on all ranks together; it may raise an error.
        progress : Progress
            Advanced with each step.
        """
        self.position = position
        self.labels = labels
        self.weights = weights
        self.rows_timed = 0
        self.stepper.sums.set(
            position.loss_sum, position.correct, position.norm_sum, position.step - position.skipped_steps,
            position.norm_max,
        )  # fmt: skip
        self.launched.begin(position.step)
        while position.step < self.steps:
            # `pause` may raise; the thread that fetches batches has ended then.
            with closing(self._fetch(orders)) as batches:
                self._take_steps(batches, interval, pause, progress)

    def _take_steps(
        self,
        batches: Iterator[FetchedRows],
        interval: int,
        pause: Callable[[], None],
        progress: Progress,
    ) -> None:
        """Take the steps up to the end of the epoch, or to the return to one without a finite gradient."""
        position, launched = self.position, self.launched
        for rows, fetched in batches:
            if self.stepper.pruner and not self._prepare_pruning(self.stepper.pruner):
                return
            self._take_step(rows, fetched, float(self.weights[position.step]))
            if position.step > progress.done:
                progress.advance()
            is_due = launched.since_pause(position.step) >= interval
            ranks_meet = self._ranks_meet()
            # A checkpoint holds the weights of one rank, so it needs ranks with equal weights.
            if not (ranks_meet and (is_due or position.step == self.steps or not self.parallel.syncs_gradients)):
                continue
            if not self._read():
                return
            self._synchronise()
            if is_due and position.step < self.steps:
                pause()
                launched.begin(position.step)

    def _prepare_pruning(self, pruner: Pruner) -> bool:
        """Let the pruner begin a step; return whether all gradients so far were finite. If not, return to that step.

        What it removes depends on the weights, so the steps before a removal must be done.
        """
        step = self.position.epoch * self.steps + self.position.step
        if pruner.is_due(step) and not self._read():
            return False
        pruner.begin_step(step)
        return True

    def _fetch(self, orders: NDArray[np.int64]) -> Generator[FetchedRows]:
        """Yield the rows of each step from the current one on, with the batches if states are slow.

        States in a file, or computed on demand, are fetched by a thread during the preceding step. States in memory are
        available sooner than a thread could pass them on.
        """
        train = self.stepper.train
        device = train.device
        side = SideStream(device) if train.slow else None

        def fetch(step: int) -> FetchedRows:
            rows = [self.plan.batch(orders, batch) for batch in self._batches_of(step)]
            if side is None:
                return rows, []

            def batches() -> list[Batch]:
                return [self.stepper.fetch(torch.from_numpy(indices).to(device)) for indices in rows]

            return rows, side.run(batches, tensors_of)

        steps = (fetch(step) for step in range(self.position.step, self.steps))
        return ahead(steps) if train.slow else steps

    def _take_step(self, rows: list[NDArray[np.int64]], fetched: list[Batch], weight: float) -> None:
        """Start a step; if this is the return to one without a finite gradient, wait for it, and skip it or stop."""
        position, stepper = self.position, self.stepper
        if self.fault:  # of a rank that steps independently: it ends the training when the ranks meet
            position.step += 1
            return
        global_rows = sum(self.plan.global_rows(batch) for batch in self._batches_of(position.step))
        rate = self.learning_rate.at(position.epoch, position.step)
        launch = Launch(global_rows, rows, stepper.scale.state())
        if not (self.waits or stepper.needs_host):
            stepper.launch(rows, weight, rate, fetched)
            self.launched.add(launch)
            position.step += 1
            return
        self.waits = False
        result = stepper.step(rows, weight, rate, fetched)
        if result.fault is None:
            self.launched.add(launch)
            position.step += 1
            self.skips = 0
        elif self.parallel.syncs_gradients:
            self._read()
            self._handle_divergence(result, weight, global_rows, rate)
        else:
            self.fault = describe(position.epoch, position.step, result.loss_sum / weight, rate, result.fault)
            position.step += 1

    def _read(self) -> bool:
        """Read the sums of the steps; return whether all gradients were finite. If not, return to that step."""
        if self.fault:
            return True
        position, stepper = self.position, self.stepper
        sums = stepper.sums.read()
        position.loss_sum, position.correct = sums.loss, sums.correct
        position.norm_sum, position.norm_max = sums.norm, sums.largest_norm
        done = sums.steps + position.skipped_steps
        finished, repeated = self.launched.read(position.step - done)
        for step in finished:
            self.rows_timed += step.global_rows
            self.local_rows += sum(map(len, step.rows))
            for rows in step.rows:
                self.class_counts += np.bincount(self.labels[rows], minlength=len(self.class_counts))
        if finished:
            self.skips = 0
            self.step_seconds = self.launched.step_seconds
        if repeated is None:
            return True
        stepper.sums.clear()
        stepper.scale.restore(repeated.loss_scale)
        if stepper.gradient_norms:
            stepper.gradient_norms.leave_out()
        position.step = done
        self.waits = True
        return False

    def _batches_of(self, step: int) -> range:
        """Return the batches whose gradients a step accumulates."""
        count = self.config.training.accumulate
        return range(step * count, min((step + 1) * count, self.plan.steps))

    def _ranks_meet(self) -> bool:
        """Return whether all ranks are equal after this step, or become equal by `_synchronise`.

        Independent replicas count as equal at the end of an epoch.
        """
        if self.parallel.syncs_gradients or self.position.step == self.steps:
            return True
        return not (self.parallel.independent or self.position.step % self.config.parallel.local_steps)

    def _synchronise(self) -> None:
        """Average the weights of ranks that step independently. A fault of any rank ends the training here."""
        if self.parallel.syncs_gradients:
            return
        with self.parallel.engine.counted():
            faults = self.comm.allgather(self.fault)
        for rank, fault in enumerate(faults):
            if fault:
                message = f"rank {rank}: {fault} {advice(False, self.position.best_epoch >= 0)}"
                raise agreed(DivergedError(message, resumable=False))
        if not self.parallel.independent:
            self.parallel.average(self.stepper.network, self.stepper.optimizer, self.local_rows)
        self.local_rows = 0
        if self.average:
            count = self.config.parallel.local_steps
            self.stepper.update_average(self.average, self.position.step % count or count)

    def _handle_divergence(self, result: StepResult, weight: float, rows: int, rate: float) -> None:
        """Stop, or skip the step and halve the rate. All ranks have the same norm, so they decide equally."""
        loss = float(self.comm.allreduce(np.array([result.loss_sum]))[0]) / weight
        first = min(fault for fault in self.comm.allgather(result.fault) if fault)
        description = describe(self.position.epoch, self.position.step, loss, rate, first)
        self.skips += 1
        hopeless = self.skips > MOST_SKIPS or self.position.skipped_steps + 1 >= self.steps
        if self.config.training.on_nan == "stop" or hopeless:
            raise agreed(DivergedError(f"{description} {advice(not hopeless, self.position.best_epoch >= 0)}"))
        self.learning_rate.halve()
        self.position.skip(weight, rows)
        self.rows_timed += rows
        if self.average:
            self.stepper.update_average(self.average)
        log.warning("%s The step is skipped, and the learning rate is halved.", description)

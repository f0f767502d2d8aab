"""The training loop: one page, read from top to bottom, for one rank or many."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from rcdp_hpc.config import TrainingSection
from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.runtime.collective import agreed
from rcdp_hpc.runtime.comm import Communicator
from rcdp_hpc.training.batches import BatchPlan
from rcdp_hpc.training.cache import CachedStates
from rcdp_hpc.training.losses import LOSSES
from rcdp_hpc.training.networks.base import Readout
from rcdp_hpc.training.networks.draw import DropoutDraw
from rcdp_hpc.training.parallel import Alone

log = logging.getLogger(__name__)

EVALUATION_ROWS = 4096
SECONDS_BETWEEN_PAUSES = 0.25


@dataclass
class Position:
    """Where the training stands: all that a checkpoint needs besides weights and optimiser.

    Attributes
    ----------
    epoch, step : int
        The next step to take, both from 0.
    loss_sum, correct : float
        Sums over this rank's rows of the epoch so far.
    best_loss, best_epoch : float, int
        Lowest validation loss and the epoch it was reached in.
    finished : str
        Why the training ended; empty while it goes on.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: float = 0.0
    best_loss: float = float("inf")
    best_epoch: int = -1
    finished: str = ""


@dataclass
class EpochReport:
    """What one epoch showed, over all ranks.

    Seconds and class counts are per rank; a rank's counts are the training rows of each class that it took steps with.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    compute_seconds: list[float] = field(default_factory=list)
    wait_seconds: list[float] = field(default_factory=list)
    class_counts: list[list[int]] = field(default_factory=list)


class Trainer:
    """Train a readout network on cached states.

    Parameters
    ----------
    settings : TrainingSection
        Loss, learning rate, epochs and the rest.
    seed : int
        Seed of the initial weights, the shuffles and the dropout.
    classes : int
        Number of classes.
    network : Readout
        With its initial weights, on the device of the states.
    train, validation : CachedStates
        This rank's rows of both splits.
    plan : BatchPlan
        Which rows make up each step.
    validation_rows : int
        Rows of the validation split over all ranks.
    comm : Communicator
        For metrics and agreement between ranks.
    parallel : Alone
        For gradients and batch statistics.
    """

    def __init__(
        self,
        settings: TrainingSection,
        seed: int,
        classes: int,
        network: Readout,
        train: CachedStates,
        validation: CachedStates,
        plan: BatchPlan,
        validation_rows: int,
        comm: Communicator,
        parallel: Alone,
    ) -> None:
        self.settings, self.seed, self.plan = settings, seed, plan
        self.train, self.validation, self.validation_rows = train, validation, validation_rows
        self.comm, self.parallel = comm, parallel
        self.loss = LOSSES[settings.loss]
        self.labels = train.labels.cpu().numpy()
        self.seen = np.zeros(classes, np.int64)
        self.position = Position()
        self.step_seconds = 0.0
        self.network = network
        moments = torch.from_numpy(comm.allreduce(train.moments())).to(train.states.device)
        self.network.standardise(moments[0], moments[1], plan.rows)
        parallel.broadcast_model(self.network)
        adam = torch.optim.Adam(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.optimizer = parallel.wrap(adam, self.network)
        self.best_weights = copy.deepcopy(self.network.state_dict())

    def run(self, pause: Callable[[], None], report: Callable[[EpochReport], None]) -> None:
        """Train from the present position to the end.

        Parameters
        ----------
        pause : callable
            Called on all ranks together every quarter of a second or so, at step boundaries and after each epoch:
            the place for checkpoints and stops.
        report : callable
            Given what each epoch showed, on all ranks.
        """
        while not self.position.finished:
            started, self.parallel.waited = time.perf_counter(), 0.0
            self._train_epoch(lambda: self._count_as_waiting(pause))
            seconds = time.perf_counter() - started
            epoch_report = self._close_epoch(seconds)
            report(epoch_report)
            if not self.position.finished:
                pause()

    def _count_as_waiting(self, pause: Callable[[], None]) -> None:
        started = time.perf_counter()
        pause()
        self.parallel.waited += time.perf_counter() - started

    def _train_epoch(self, pause: Callable[[], None]) -> None:
        self.network.train()
        position = self.position
        orders = self.plan.orders(position.epoch)
        interval = self._steps_between_pauses()
        while position.step < self.plan.steps:
            started = time.perf_counter()
            rows = self.plan.batch(orders, position.step)
            self._train_step(torch.from_numpy(rows).to(self.train.states.device))
            self.seen += np.bincount(self.labels[rows], minlength=len(self.seen))
            position.step += 1
            self.step_seconds = 0.9 * self.step_seconds + 0.1 * (time.perf_counter() - started)
            if position.step % interval == 0 and position.step < self.plan.steps:
                pause()

    def _steps_between_pauses(self) -> int:
        """Agree on how many steps take about `SECONDS_BETWEEN_PAUSES`; ten until that is known."""
        slowest = float(self.comm.allreduce(np.array([self.step_seconds]), "max")[0])
        return max(1, round(SECONDS_BETWEEN_PAUSES / slowest)) if slowest else 10

    def _train_step(self, rows: torch.Tensor) -> None:
        states, labels = self.train.batch(rows)
        draw = DropoutDraw(self.seed, self.position.epoch, rows + self.train.first) if self.settings.dropout else None
        scores = self.network(states, draw)
        loss = self.loss(scores, labels)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.zero_grad()
        (loss / self.plan.global_rows(self.position.step)).backward()
        self.parallel.step(self.optimizer)
        self.position.loss_sum += loss.item()
        self.position.correct += float((scores.argmax(1) == labels).sum())

    def _learning_rate(self) -> float:
        """Return the learning rate of this step: constant, or falling to 0 on half a cosine over the epochs."""
        highest = self.settings.learning_rate
        if self.settings.schedule == "constant":
            return highest
        done = (self.position.epoch + self.position.step / self.plan.steps) / self.settings.epochs
        return 0.5 * highest * (1 + math.cos(math.pi * done))

    def _close_epoch(self, seconds: float) -> EpochReport:
        position = self.position
        loss_sum, correct, wait = position.loss_sum, position.correct, self.parallel.waited
        validation_loss, validation_correct = self._validate()
        sums = self.comm.allreduce(np.array([loss_sum, correct, validation_loss, validation_correct]))
        waits = self.comm.allgather((seconds - wait, wait))
        train_rows, validation_rows = self.plan.rows, self.validation_rows
        report = EpochReport(
            epoch=position.epoch,
            train_loss=float(sums[0]) / train_rows,
            train_accuracy=float(sums[1]) / train_rows,
            validation_loss=float(sums[2]) / validation_rows,
            validation_accuracy=float(sums[3]) / validation_rows,
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            seconds=seconds,
            compute_seconds=[compute for compute, _ in waits],
            wait_seconds=[wait for _, wait in waits],
            class_counts=[counts.tolist() for counts in self.comm.allgather(self.seen)],
        )
        self._judge(report)
        position.epoch, position.step, position.loss_sum, position.correct = position.epoch + 1, 0, 0.0, 0.0
        self.seen[:] = 0
        return report

    def _validate(self) -> tuple[float, float]:
        self.network.eval()
        loss, correct = 0.0, 0.0
        with torch.no_grad():
            for rows in torch.arange(len(self.validation), device=self.validation.labels.device).split(EVALUATION_ROWS):
                states, labels = self.validation.batch(rows)
                scores = self.network(states)
                loss += self.loss(scores, labels).item()
                correct += float((scores.argmax(1) == labels).sum())
        return loss, correct

    def _judge(self, report: EpochReport) -> None:
        """Keep the best weights, and decide whether this was the last epoch."""
        position, settings = self.position, self.settings
        if not np.isfinite([report.train_loss, report.validation_loss]).all():
            kept = "model.pt holds the best weights before it" if position.best_epoch >= 0 else "no epoch was sound"
            raise agreed(
                StageFailedError(
                    f"epoch {report.epoch + 1}: the loss is {report.train_loss} (validation {report.validation_loss}). "
                    f"Lower training.learning_rate (now {settings.learning_rate}); {kept}."
                )
            )
        if report.validation_loss < position.best_loss:
            position.best_loss, position.best_epoch = report.validation_loss, report.epoch
            self.best_weights = copy.deepcopy(self.network.state_dict())
        if report.train_loss < settings.loss_target:
            position.finished = f"training loss below training.loss_target = {settings.loss_target:g}"
        elif report.epoch - position.best_epoch >= settings.patience:
            position.finished = f"no better validation loss for {settings.patience} epochs"
        elif report.epoch + 1 >= settings.epochs:
            position.finished = f"{settings.epochs} epochs done"

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs to go on to the same bits. Collective."""
        partial = self.comm.allgather((self.position.loss_sum, self.position.correct, *self.seen.tolist()))
        return {
            "position": asdict(self.position),
            "partial_sums": [list(sums) for sums in partial],
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best_weights": self.best_weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        On another number of ranks the sums of a half-finished epoch are put on rank 0, and their last digits, which
        only the printed training loss shows, may differ.
        """
        self.position = Position(**state["position"])
        partial = np.array(state["partial_sums"], np.float64)
        if len(partial) == self.comm.size:
            mine = partial[self.comm.rank]
        else:
            mine = partial.sum(0) if self.comm.is_root else np.zeros(partial.shape[1])
        self.position.loss_sum, self.position.correct = float(mine[0]), float(mine[1])
        # Checkpoints of before class counts were watched have none.
        self.seen[: len(mine) - 2] = mine[2:]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_weights = state["best_weights"]

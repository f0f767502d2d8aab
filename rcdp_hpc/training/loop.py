"""The training loop: one page, read from top to bottom, for one rank or many."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import TrainingSection
from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.runtime.collective import agreed
from rcdp_hpc.runtime.comm import Communicator
from rcdp_hpc.training.batches import BatchPlan
from rcdp_hpc.training.cache import CachedStates
from rcdp_hpc.training.losses import Objective
from rcdp_hpc.training.networks.assembly import EndToEnd
from rcdp_hpc.training.networks.base import Readout
from rcdp_hpc.training.optimizers import make_optimizer
from rcdp_hpc.training.parallel import Alone
from rcdp_hpc.training.report import EpochReport, Position
from rcdp_hpc.training.schedule import Schedule
from rcdp_hpc.training.step import Stepper

log = logging.getLogger(__name__)

EVALUATION_ROWS = 4096
SECONDS_BETWEEN_PAUSES = 0.25


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
    network : Readout or EndToEnd
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
        network: Readout | EndToEnd,
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
        self.labels = train.labels.cpu().numpy()
        self.seen = np.zeros(classes, np.int64)
        counts: NDArray[np.int64] = comm.allreduce(np.bincount(self.labels, minlength=classes))
        self.objective = Objective(settings, counts)
        self.schedule = Schedule(settings, plan.steps, plan.global_batch / settings.batch)
        self.position = Position()
        self.step_seconds = 0.0
        self.network = network
        moments = torch.from_numpy(comm.allreduce(train.moments())).to(train.states.device)
        self.network.standardise(moments[0], moments[1], plan.rows)
        parallel.broadcast_model(self.network)
        self.optimizer = parallel.wrap(make_optimizer(settings, self.network), self.network)
        self.stepper = Stepper(settings, seed, self.network, self.optimizer, self.objective, train, parallel)
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
        position, plan = self.position, self.plan
        orders = plan.orders(position.epoch)
        weights = self._step_weights(orders)
        interval = self._steps_between_pauses()
        while position.step < plan.steps:
            started = time.perf_counter()
            rows = plan.batch(orders, position.step)
            rate = self.schedule.rate(position.epoch, position.step)
            on_device = torch.from_numpy(rows).to(self.train.states.device)
            position.add(self.stepper.take(position.epoch, on_device, float(weights[position.step]), rate))
            self.seen += np.bincount(self.labels[rows], minlength=len(self.seen))
            self.step_seconds = 0.9 * self.step_seconds + 0.1 * (time.perf_counter() - started)
            if position.step % interval == 0 and position.step < plan.steps:
                pause()

    def _step_weights(self, orders: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Return the sum of the weights of all ranks' rows in each step of an epoch, by one message."""
        steps = range(self.plan.steps)
        if self.objective.class_weights is None:
            return np.array([self.plan.global_rows(step) for step in steps], dtype=np.float64)
        labels = torch.from_numpy(self.labels)
        own = [float(self.objective.weights(labels[self.plan.batch(orders, step)]).sum()) for step in steps]
        return self.comm.allreduce(np.array(own))

    def _steps_between_pauses(self) -> int:
        """Agree on how many steps take about `SECONDS_BETWEEN_PAUSES`; ten until that is known."""
        slowest = float(self.comm.allreduce(np.array([self.step_seconds]), "max")[0])
        return max(1, round(SECONDS_BETWEEN_PAUSES / slowest)) if slowest else 10

    def _close_epoch(self, seconds: float) -> EpochReport:
        position, wait = self.position, self.parallel.waited
        train_weight = float(self.objective.weights(self.train.labels).sum())
        own = [position.loss_sum, train_weight, position.correct, *self._validate()]
        sums = self.comm.allreduce(np.array(own)).tolist()
        waits = self.comm.allgather((seconds - wait, wait))
        report = EpochReport(
            epoch=position.epoch,
            train_loss=sums[0] / sums[1],
            train_accuracy=sums[2] / self.plan.rows,
            validation_loss=sums[3] / sums[4],
            validation_accuracy=sums[5] / self.validation_rows,
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            gradient_norm=position.norm_sum / self.plan.steps,
            gradient_norm_max=position.norm_max,
            seconds=seconds,
            compute_seconds=[compute for compute, _ in waits],
            wait_seconds=[wait for _, wait in waits],
            class_counts=[counts.tolist() for counts in self.comm.allgather(self.seen)],
        )
        self._judge(report)
        self.schedule.close_epoch(report.epoch, report.validation_loss)
        position.next_epoch()
        self.seen[:] = 0
        return report

    def _validate(self) -> tuple[float, float, float]:
        """Return the weighted sum of the loss over this rank's validation rows, the weights' sum, and rows right."""
        self.network.eval()
        loss, weight, correct = 0.0, 0.0, 0.0
        with torch.no_grad():
            for rows in torch.arange(len(self.validation), device=self.validation.labels.device).split(EVALUATION_ROWS):
                states, labels = self.validation.batch(rows)
                scores = self.network(states)
                loss += self.objective.sum(scores, labels).item()
                weight += float(self.objective.weights(labels).sum())
                correct += float((scores.argmax(1) == labels).sum())
        return loss, weight, correct

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
            "schedule": self.schedule.state(),
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
        self.schedule.restore(state["schedule"])
        self.best_weights = state["best_weights"]

"""The training loop: one page, read from top to bottom, for one rank or many."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.fields import refuse_other_shapes
from rcdp_hpc.model.metrics import scores
from rcdp_hpc.networks.base import Network
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.reservoir.stream import ahead
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.training.monitor.divergence import DivergedError, Finding, advice, describe, describe_epoch
from rcdp_hpc.training.monitor.epoch_cost import EpochTimer
from rcdp_hpc.training.monitor.gradient_norms import GradientWatch
from rcdp_hpc.training.optim.ema import MovingAverage
from rcdp_hpc.training.optim.learning_rate import LearningRate
from rcdp_hpc.training.optim.objective import Objective
from rcdp_hpc.training.optim.optimizers import make_optimizer
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.partition.mixup import Mixup
from rcdp_hpc.training.partition.repartition import Recut
from rcdp_hpc.training.report import EpochReport, Position
from rcdp_hpc.training.slices import Replicas
from rcdp_hpc.training.states.cache import CachedStates
from rcdp_hpc.training.step import Batch, Stepper, StepResult
from rcdp_hpc.training.validation import validate

log = logging.getLogger(__name__)

# Samples whose patches are whitened at once.
PATCH_ROWS = 1024
SECONDS_BETWEEN_PAUSES = 0.25
MOST_SKIPS = 10
# An epoch that is over within these seconds shows no bar.
PROGRESS_AFTER = 2.0


class Trainer:
    """Train a readout network on cached states.

    Parameters
    ----------
    config : Config
        Loss, learning rate, epochs and the rest.
    seed : int
        Seed of the initial weights, the shuffles and the dropout.
    classes : int
        Number of classes.
    network : Network
        With its initial weights, on the device of the states.
    train, validation : CachedStates
        This rank's rows of both splits.
    plan : BatchPlan
        Which rows make up each step.
    comm : Communicator
        For metrics and agreement between ranks.
    parallel : Alone
        For gradients and batch statistics.

    Attributes
    ----------
    show_progress : bool
        Whether this rank shows the progress within an epoch; False unless set.
    """

    def __init__(
        self,
        config: Config,
        seed: int,
        classes: int,
        network: Network,
        train: CachedStates,
        validation: CachedStates,
        plan: BatchPlan,
        comm: Communicator,
        parallel: SingleProcessEngine,
    ) -> None:
        self.config, self.seed, self.plan = config, seed, plan
        self.train, self.validation = train, validation
        self.comm, self.parallel = comm, parallel
        self.labels = train.labels.cpu().numpy()
        self.seen = np.zeros(classes, np.int64)
        counts: NDArray[np.int64] = comm.allreduce(np.bincount(self.labels, minlength=classes))
        self.objective = agree(comm, lambda: Objective(config, counts))
        self.steps = math.ceil(plan.steps / config.training.accumulate)
        batch_ratio = plan.global_batch / config.training.batch
        self.learning_rate = agree(comm, lambda: LearningRate(config, self.steps, batch_ratio))
        self.position = Position()
        self.step_seconds = 0.0
        self.show_progress = False
        self.clock: EpochTimer  # of the epoch that runs
        self.rows_timed = self.own_rows = self.skips = 0
        self.fault = ""
        self.network = network
        moments = torch.from_numpy(comm.allreduce(agree(comm, train.moments))).to(train.device)
        self.network.standardise(moments[0], moments[1], plan.rows)
        self.network.fit_patches((block for block, _ in train.blocks(PATCH_ROWS)), comm.allreduce)
        parallel.broadcast_model(self.network)
        optimizer = agree(comm, lambda: make_optimizer(config, network))
        self.optimizer = parallel.wrap(optimizer, self.network)
        self.slices = Replicas(config.parallel.replicas, self.network, len(train), comm) if parallel.apart else None
        mixup = Mixup(config.augment.mixup, plan) if config.augment.mixup else None
        self.watch = GradientWatch(self.network) if config.training.gradient_norms else None
        self.stepper = Stepper(
            config, seed, self.network, self.optimizer, self.objective, train, parallel, mixup, self.watch
        )
        self.average = MovingAverage(self.network, config.optimizer.ema) if config.optimizer.ema else None
        self.best_weights = copy.deepcopy(self.judged.state_dict())
        everyones = np.concatenate(comm.allgather(self.labels)) if plan.recut_epochs else self.labels
        self.recut = Recut(plan, everyones, parallel) if plan.recut_epochs else None

    @property
    def judged(self) -> nn.Module:
        """What is judged and kept: the network, or what the ranks' networks made together."""
        return self.slices.whole if self.slices else self.network

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
        if self.average and not (self.position.epoch or self.position.step):
            # The weights may have been set since the making.
            self.average.restore(self.network.state_dict())
        while not self.position.finished:
            self.clock = EpochTimer(self.parallel, self.train.device)
            self._train_epoch(lambda: self._count_as_waiting(pause))
            self.clock.stop()
            report(self._close_epoch())
            if not self.position.finished:
                pause()

    def _count_as_waiting(self, pause: Callable[[], None]) -> None:
        started = time.perf_counter()
        pause()
        self.clock.paused += time.perf_counter() - started

    def _train_epoch(self, pause: Callable[[], None]) -> None:
        self.network.train()
        position = self.position
        if self.recut:
            self.train = self.stepper.train = self.recut.cut(position.epoch, self.train)
            self.labels = self.train.labels.cpu().numpy()
        orders = self.plan.orders(position.epoch)
        weights = self._step_weights(orders)
        interval, since, self.rows_timed = self._steps_between_pauses(), 0, 0
        # A pause may raise: then no batch shall be under way any more.
        with closing(self._fetch(orders)) as fetched, self._epoch_progress() as progress:
            while position.step < self.steps:
                started = time.perf_counter()
                self._take_step(next(fetched), float(weights[position.step]))
                self.step_seconds = 0.9 * self.step_seconds + 0.1 * (time.perf_counter() - started)
                progress.advance()
                since += 1
                met = self._synchronise()
                if met and self.average:
                    self.average.update(self.network, self._steps_met())
                # Ranks that take steps by themselves are equal when they have met: only then can one checkpoint do.
                if met and since >= interval and position.step < self.steps:
                    pause()
                    since = 0

    def _epoch_progress(self) -> Progress:
        """Return the progress of an epoch in steps, shown only if it lasts; nothing is read from a device for it."""
        title, show = f"epoch {self.position.epoch + 1} of {self.config.training.epochs}", self.show_progress
        return Progress(title, self.steps, "steps", show, delay=PROGRESS_AFTER, done=self.position.step)

    def _fetch(self, orders: NDArray[np.int64]) -> Generator[list[Batch]]:
        """Yield the batches of each step from the present one on.

        States that lie far off, or are computed anew, are fetched in a thread of their own while the step before
        computes; from memory they come sooner than a thread can hand them over.
        """
        epoch, device = self.position.epoch, self.train.device

        def fetch(step: int) -> list[Batch]:
            own = [torch.from_numpy(self.plan.batch(orders, batch)) for batch in self._batches_of(step)]
            return [self.stepper.fetch(epoch, rows.to(device)) for rows in own]

        steps = (fetch(step) for step in range(self.position.step, self.steps))
        return ahead(steps) if self.train.far else steps

    def _take_step(self, batches: list[Batch], weight: float) -> None:
        """Take one step, or leave it out where its gradient is not finite."""
        position = self.position
        rows = sum(self.plan.global_rows(batch) for batch in self._batches_of(position.step))
        rate = self.learning_rate.at(position.epoch, position.step)
        result = self.stepper.take(batches, weight, rate)
        self.rows_timed += rows
        self.own_rows += sum(map(len, batches))
        if result.fault is None:
            position.add(result)
            self.skips = 0
            for batch in batches:
                self.seen += np.bincount(batch.labels.cpu().numpy(), minlength=len(self.seen))
        elif self.parallel.local:
            self.fault = self.fault or describe(
                position.epoch, position.step, result.loss_sum / weight, rate, result.fault
            )
            position.step += 1
        else:
            self._diverged(result, weight, rows, rate)

    def _batches_of(self, step: int) -> range:
        """Return the batches that a step accumulates the gradient over."""
        count = self.config.training.accumulate
        return range(step * count, min((step + 1) * count, self.plan.steps))

    def _synchronise(self) -> bool:
        """Average the weights of ranks that step by themselves, where that is due; tell whether all ranks are equal."""
        if not self.parallel.local:
            return True
        due = not (self.parallel.apart or self.position.step % self.config.parallel.local_steps)
        if not due and self.position.step < self.steps:
            return False
        with self.parallel.counted():
            faults = self.comm.allgather(self.fault)
        for rank, fault in enumerate(faults):
            if fault:
                message = f"rank {rank}: {fault} {advice(False, self.position.best_epoch >= 0)}"
                raise agreed(DivergedError(message, whole=False))
        if not self.parallel.apart:
            self.parallel.average(self.network, self.optimizer, self.own_rows)
        self.own_rows = 0
        return True

    def _steps_met(self) -> int:
        """Return the steps since ranks met before: 1 where they step together."""
        count = self.config.parallel.local_steps if self.parallel.local else 1
        return self.position.step % count or count

    def _diverged(self, result: StepResult, weight: float, rows: int, rate: float) -> None:
        """Stop, or leave the step out and halve the rate: all ranks find the same norm, and so decide alike."""
        loss = float(self.comm.allreduce(np.array([result.loss_sum]))[0]) / weight
        first = min(fault for fault in self.comm.allgather(result.fault) if fault)
        words = describe(self.position.epoch, self.position.step, loss, rate, first)
        self.skips += 1
        hopeless = self.skips > MOST_SKIPS or self.position.skipped_steps + 1 >= self.steps
        if self.config.training.on_nan == "stop" or hopeless:
            raise agreed(DivergedError(f"{words} {advice(not hopeless, self.position.best_epoch >= 0)}"))
        self.learning_rate.halve()
        self.position.skip(weight, rows)
        log.warning("%s The step is left out, and the learning rate halved.", words)

    def _step_weights(self, orders: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the sum of the weights of all ranks' rows in each step of an epoch, by one message.

        Where ranks take steps by themselves it is that of their own rows, and 1 where there are none.
        """
        batches, local = range(self.plan.steps), self.parallel.local
        if self.objective.class_weights is None and not local:
            by_batch = np.array([self.plan.global_rows(batch) for batch in batches], dtype=np.float64)
        else:
            labels = torch.from_numpy(self.labels)
            own = [float(self.objective.weights(labels[self.plan.batch(orders, batch)]).sum()) for batch in batches]
            by_batch = np.array(own) if local else self.comm.allreduce(np.array(own))
        by_step = np.add.reduceat(by_batch, np.arange(0, self.plan.steps, self.config.training.accumulate))
        return np.where(by_step > 0, by_step, 1.0)

    def _steps_between_pauses(self) -> int:
        """Agree on how many steps take about `SECONDS_BETWEEN_PAUSES`; ten until that is known."""
        slowest = float(self.comm.allreduce(np.array([self.step_seconds]), "max")[0])
        return max(1, round(SECONDS_BETWEEN_PAUSES / slowest)) if slowest else 10

    def _close_epoch(self) -> EpochReport:
        position = self.position
        train_weight = float(self.objective.weights(self.train.labels).sum())
        with self.average.applied(self.network) if self.average else nullcontext():
            judged = self.slices.gather(self.network) if self.slices else self.network
            scores_of = partial(self.stepper.scores, network=judged)
            found = validate(judged, scores_of, self.validation, self.objective, len(self.seen))
        own = [position.loss_sum, train_weight, position.correct, found.loss_sum, found.weight]
        sums = self.comm.allreduce(np.array(own)).tolist()
        validation = scores(self.comm.allreduce(found.confusion))
        cost = self.clock.close(self.comm)
        report = EpochReport(
            epoch=position.epoch,
            train_loss=sums[0] / (sums[1] - position.skipped_weight),
            train_accuracy=sums[2] / (self.plan.rows - position.skipped_rows),
            validation_loss=sums[3] / sums[4],
            validation_accuracy=validation["accuracy"],
            validation_macro_f1=validation["macro_f1"],
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            gradient_norm=position.norm_sum / (self.steps - position.skipped_steps),
            gradient_norm_max=position.norm_max,
            skipped_steps=position.skipped_steps,
            samples_per_second=self.rows_timed / cost.seconds,
            cost=cost,
            gradients=self.watch.close(self.comm, self.parallel) if self.watch else None,
            class_counts=[counts.tolist() for counts in self.comm.allgather(self.seen)],
        )
        self._refuse_unsound(report, found.fault)
        self._judge(report)
        self.learning_rate.close_epoch(report.epoch, report.validation_loss)
        position.next_epoch()
        self.seen[:] = 0
        return report

    def _refuse_unsound(self, report: EpochReport, fault: Finding | None) -> None:
        """Stop where a loss is not finite: the weights are spoilt, and the checkpoint before them stays."""
        losses = report.train_loss, report.validation_loss
        if np.isfinite(losses).all():
            return
        first = min((found for found in self.comm.allgather(fault) if found), default=None)
        words = describe_epoch(report.epoch, self.steps, losses, report.learning_rate, first)
        raise agreed(DivergedError(f"{words} {advice(False, self.position.best_epoch >= 0)}", whole=False))

    def _judge(self, report: EpochReport) -> None:
        """Keep the best weights, and decide whether this was the last epoch."""
        position, settings = self.position, self.config.training
        if report.validation_loss < position.best_loss:
            position.best_loss, position.best_epoch = report.validation_loss, report.epoch
            self.best_weights = copy.deepcopy(self.average.weights if self.average else self.judged.state_dict())
        if report.train_loss < settings.loss_target:
            position.finished = f"training loss below training.loss_target = {settings.loss_target:g}"
        elif report.epoch - position.best_epoch >= settings.patience:
            position.finished = f"no better validation loss for {settings.patience} epochs"
        elif report.epoch + 1 >= settings.epochs:
            position.finished = f"{settings.epochs} epochs done"

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs to go on to the same bits. Collective."""
        partial = self.comm.allgather((self.position.loss_sum, self.position.correct, *self.seen.tolist()))
        own = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {
            "slices": self.comm.allgather(own) if self.slices else [],
            "position": asdict(self.position),
            "partial_sums": [list(sums) for sums in partial],
            "average": self.average.weights if self.average else {},
            **own,
            "learning_rate": self.learning_rate.state(),
            "loss_scale": self.stepper.scale.state(),
            "gradients": self.watch.state(self.comm) if self.watch else {},
            "best_weights": self.best_weights,
        }

    def restore(self, state: dict[str, Any], where: str = "the checkpoint") -> None:
        """Go on from a saved state; `where` names it in messages.

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
        self.seen[:] = mine[2:]
        own = self._own_slice(state) if self.slices or state["slices"] else state
        self._refuse_other_weights(state, own, where)
        self.network.load_state_dict(own["network"])
        if self.average:
            self.average.restore(state["average"])
        self.optimizer.load_state_dict(own["optimizer"])
        self.learning_rate.restore(state["learning_rate"])
        self.stepper.scale.restore(state["loss_scale"])
        # Where norms were not asked for before, they are those of the rest of the epoch.
        if self.watch and state["gradients"]:
            self.watch.restore(state["gradients"], self.comm)
        self.best_weights = state["best_weights"]

    def _refuse_other_weights(self, state: dict[str, Any], own: dict[str, Any], where: str) -> None:
        """Raise a `DataDamagedError` if saved weights are not those of this network."""
        network, remedy = self.network.state_dict(), "Use --restart to train again."
        refuse_other_shapes(f"{where}: network", own["network"], network, remedy)
        refuse_other_shapes(f"{where}: best_weights", state["best_weights"], self.judged.state_dict(), remedy)
        if self.average:
            refuse_other_shapes(f"{where}: average", state["average"], network, remedy)

    def _own_slice(self, state: dict[str, Any]) -> dict[str, Any]:
        slices: list[dict[str, Any]] = state["slices"]
        if len(slices) != self.comm.size:
            raise agreed(
                InputError(
                    f"the checkpoint has {len(slices) or 1} networks that ranks trained apart (parallel.replicas), and "
                    f"there are {self.comm.size} ranks now: start as many ranks as networks, or train anew (--restart)."
                )
            )
        return slices[self.comm.rank]

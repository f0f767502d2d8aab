"""The training loop, for one rank or many."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.class_weights import report_settings_without_effect
from rcdp_hpc.model.fields import refuse_other_shapes
from rcdp_hpc.model.metrics import scores
from rcdp_hpc.networks.base import Network
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.training.criterion_checks import validation_criterion
from rcdp_hpc.training.epoch_steps import EpochSteps
from rcdp_hpc.training.held_out import HeldOutAnswers
from rcdp_hpc.training.monitor.divergence import DivergedError, Finding, advice, describe_epoch
from rcdp_hpc.training.monitor.epoch_cost import EpochTimer
from rcdp_hpc.training.monitor.gradient_norms import GradientNorms
from rcdp_hpc.training.optim.ema import MovingAverage
from rcdp_hpc.training.optim.learning_rate import LearningRate
from rcdp_hpc.training.optim.objective import Objective
from rcdp_hpc.training.optim.optimizers import make_optimizer
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.partition.mixup import Mixup
from rcdp_hpc.training.partition.repartition import Repartitioner, numbered
from rcdp_hpc.training.pruning.make import make_pruner
from rcdp_hpc.training.recorded_steps import record_steps, wants_recordings
from rcdp_hpc.training.replicas import Replicas
from rcdp_hpc.training.report import EpochReport, Position
from rcdp_hpc.training.states.cache import CachedStates
from rcdp_hpc.training.step import Stepper
from rcdp_hpc.training.teacher import TeacherTargets
from rcdp_hpc.training.training_checkpoint import ReplicaState, TrainerState
from rcdp_hpc.training.validation import validate

log = logging.getLogger(__name__)

# Samples whose patches are whitened at once.
PATCH_ROWS = 1024
SECONDS_BETWEEN_PAUSES = 0.25
# Seconds before an epoch shows its progress.
PROGRESS_AFTER = 2.0


class Trainer:
    """Train a readout network on cached states.

    Parameters
    ----------
    config : Config
    seed : int
        Seed of the initial weights, the shuffles and the dropout.
    classes : int
        Number of classes.
    network : Network
        With its initial weights, on the device of the states.
    train, validation : CachedStates
        This rank's rows of both splits.
    plan : BatchPlan
        The rows of each step.
    comm : Communicator
        For metrics and agreement between ranks.
    parallel : Strategy
        What the ranks sum, and the engine that sums it.
    teacher : TeacherTargets, optional
        Probabilities of another model that the training imitates.
    class_names : sequence of str
        For ``training.criterion``; by default the numbers of the classes.

    Attributes
    ----------
    criterion : Criterion or None
        What the best epoch maximises; None for the validation loss, which it minimises.
    position : Position
        The next step.
    steps : int
        Steps of an epoch.
    show_progress : bool
        Whether this rank shows the progress within an epoch; False unless set.

    Raises
    ------
    InputError
        If loss, schedule or optimiser cannot be created, or if the warm-up is not shorter than the training.
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
        parallel: Strategy,
        teacher: TeacherTargets | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        self.config = config
        self.seed = seed
        self.plan = plan
        self.train = train
        self.validation = validation
        self.comm = comm
        self.parallel = parallel
        self.network = network
        self.teacher = teacher
        self.criterion = validation_criterion(config, class_names or list(map(str, range(classes))))
        self.labels = train.labels.cpu().numpy()
        self.position = Position()
        self.steps = math.ceil(plan.steps / config.training.accumulate)
        self.show_progress = False
        self.timer: EpochTimer
        # Rows of each class in the steps of this rank in the current epoch.
        self.class_counts = np.zeros(classes, np.int64)
        counts: NDArray[np.int64] = comm.allreduce(np.bincount(self.labels, minlength=classes))
        self.objective = agree(comm, lambda: Objective(config, counts))
        report_settings_without_effect(config, counts)
        batch_ratio = plan.global_batch / config.training.batch
        self.learning_rate = agree(comm, lambda: LearningRate(config, self.steps, batch_ratio))
        self._prepare_network()
        self._prepare_steps()

    def _prepare_network(self) -> None:
        """Standardise the inputs of the network, and give all ranks the same weights."""
        moments = torch.from_numpy(self.comm.allreduce(agree(self.comm, self.train.moments))).to(self.train.device)
        self.network.standardise(moments[0], moments[1], self.plan.rows)
        self.network.fit_patches((block for block, _ in self.train.blocks(PATCH_ROWS)), self.comm.allreduce)
        self.parallel.engine.broadcast_model(self.network)

    def _prepare_steps(self) -> None:
        config, plan, network = self.config, self.plan, self.network
        optimizer = agree(self.comm, lambda: make_optimizer(config, network))
        recorded = wants_recordings(config, self.train.device, network, self.parallel)
        self.optimizer = self.parallel.wrap(optimizer, network, during_backward=not recorded)
        self.replicas = (
            Replicas(config.parallel.replicas, network, len(self.train), self.comm)
            if self.parallel.independent
            else None
        )
        mixup = Mixup(config.augment.mixup, plan) if config.augment.mixup else None
        self.gradient_norms = GradientNorms(network) if config.training.gradient_norms else None
        self.pruner = make_pruner(config, network, self.steps)
        self.average = MovingAverage(network, config.optimizer.ema) if config.optimizer.ema else None
        self.repartitioner = None
        if plan.reshuffle_every:
            labels = np.concatenate(self.comm.allgather(self.labels))
            self.repartitioner = Repartitioner(plan, labels, self.parallel.engine)
            self.train = numbered(self.train)
        self.stepper = Stepper(
            config, self.seed, network, self.optimizer, self.objective, self.train, self.parallel, mixup,
            self.gradient_norms, self.teacher, self.pruner, self.average if self.parallel.syncs_gradients else None,
        )  # fmt: skip
        self.stepper.inputs.reserve(config.training.accumulate, plan.most_batch_rows)
        if recorded:
            record_steps(config, self.stepper)
        self.epoch_steps = EpochSteps(
            config, plan, self.stepper, self.learning_rate, self.comm, self.average, self.class_counts
        )
        self.best_weights = copy.deepcopy(self.evaluated_model.state_dict())

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is validated and saved: the network, or the combination of the ranks' networks."""
        return self.replicas.combined if self.replicas else self.network

    def run(self, pause: Callable[[], None], report: Callable[[EpochReport], None]) -> None:
        """Train from the current position to the end.

        Parameters
        ----------
        pause : callable
            Called on all ranks together between steps, about four times per second, and after each epoch. It may write
            checkpoints, and raise an error to stop the training.
        report : callable
            Called with the report of each epoch, on all ranks.
        """
        if self.average and not (self.position.epoch or self.position.step):
            # The initial weights may have been changed since the constructor.
            self.average.restore(self.network.state_dict())
        while not self.position.finished:
            self.timer = EpochTimer(self.parallel.engine, self.train.device)
            self._train_epoch(lambda: self._count_as_waiting(pause))
            self.timer.stop()
            report(self._close_epoch())
            if not self.position.finished:
                pause()

    def _count_as_waiting(self, pause: Callable[[], None]) -> None:
        started = time.perf_counter()
        pause()
        self.timer.paused += time.perf_counter() - started

    def _train_epoch(self, pause: Callable[[], None]) -> None:
        self.network.train()
        position = self.position
        if self.repartitioner:
            self.train = self.stepper.train = self.repartitioner.partition(position.epoch, self.train)
            self.labels = self.train.labels.cpu().numpy()
        self.stepper.begin_epoch(position.epoch)
        self.objective.begin_epoch(position.epoch)
        orders = self.plan.orders(position.epoch)
        weights, interval = self._step_weights(orders), self._steps_between_pauses()
        with self._epoch_progress() as progress:
            self.epoch_steps.run(position, self.labels, orders, weights, interval, pause, progress)

    def _epoch_progress(self) -> Progress:
        """Return the progress of the epoch in steps. It reads nothing from the device."""
        title, show = f"epoch {self.position.epoch + 1} of {self.config.training.epochs}", self.show_progress
        return Progress(title, self.steps, "steps", show, delay=PROGRESS_AFTER, done=self.position.step)

    def _step_weights(self, orders: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the divisor of the loss in each step of an epoch: the sum of the weights of its rows. Collective.

        The rows are those of all ranks, or this rank's if ranks step independently (1 if it has none).
        """
        batches, local = range(self.plan.steps), not self.parallel.syncs_gradients
        if self.objective.class_weights is None and not local:
            by_batch = np.array([self.plan.global_rows(batch) for batch in batches], dtype=np.float64)
        else:
            labels = torch.from_numpy(self.labels)
            rows = [self.plan.batch(orders, batch) for batch in batches]
            sums = [float(self.objective.weights(labels[numbers], of_epoch=True).sum()) for numbers in rows]
            by_batch = np.array(sums) if local else self.comm.allreduce(np.array(sums))
        by_step = np.add.reduceat(by_batch, np.arange(0, self.plan.steps, self.config.training.accumulate))
        return np.where(by_step > 0, by_step, 1.0)

    def _steps_between_pauses(self) -> int:
        """Return the steps of `SECONDS_BETWEEN_PAUSES` on the slowest rank; 10 if none is timed yet. Collective."""
        slowest = float(self.comm.allreduce(np.array([self.epoch_steps.step_seconds]), "max")[0])
        return max(1, round(SECONDS_BETWEEN_PAUSES / slowest)) if slowest else 10

    def _close_epoch(self) -> EpochReport:
        """Validate the model, and return the report of the epoch. Collective."""
        position = self.position
        train_weight = float(self.objective.weights(self.train.labels, of_epoch=True).sum())
        with self._evaluated_weights():
            model = self.replicas.gather(self.network) if self.replicas else self.network
            scores_of = partial(self.stepper.scores, network=model)
            kept = self.pruner.kept if self.pruner else None
            answers = None if self.criterion is None else HeldOutAnswers(self.criterion)
            result = validate(model, scores_of, self.validation, self.objective, len(self.class_counts), answers)
        local_sums = [position.loss_sum, train_weight, position.correct, result.loss_sum, result.weight]
        sums = self.comm.allreduce(np.array(local_sums)).tolist()
        validation = scores(self.comm.allreduce(result.confusion))
        cost = self.timer.close(self.comm)
        report = EpochReport(
            epoch=position.epoch,
            train_loss=sums[0] / (sums[1] - position.skipped_weight),
            train_accuracy=sums[2] / (self.plan.rows - position.skipped_rows),
            validation_loss=sums[3] / sums[4],
            validation_accuracy=validation["accuracy"],
            validation_macro_f1=validation["macro_f1"],
            learning_rate=self.stepper.inputs.rate_value,
            gradient_norm=position.norm_sum / (self.steps - position.skipped_steps),
            gradient_norm_max=position.norm_max,
            skipped_steps=position.skipped_steps,
            samples_per_second=self.epoch_steps.rows_timed / cost.seconds,
            cost=cost,
            gradients=self.gradient_norms.close(self.comm, self.parallel) if self.gradient_norms else None,
            class_counts=[counts.tolist() for counts in self.comm.allgather(self.class_counts)],
            weights_left=kept,
            validation_fitness=None if answers is None else answers.fitness(self.comm),
        )
        self._refuse_infinite_loss(report, result.fault)
        with self._evaluated_weights():
            self._update_best(report)
        self.learning_rate.close_epoch(report.epoch, report.validation_loss)
        position.next_epoch()
        self.class_counts[:] = 0
        return report

    @contextmanager
    def _evaluated_weights(self) -> Iterator[None]:
        """Give the network the weights that are validated and saved within the block."""
        with (
            self.average.applied(self.network) if self.average else nullcontext(),
            self.pruner.applied() if self.pruner else nullcontext(),
        ):
            yield

    def _refuse_infinite_loss(self, report: EpochReport, fault: Finding | None) -> None:
        """Stop if a loss is not finite: the weights cannot be used, and the last checkpoint stays."""
        losses = report.train_loss, report.validation_loss
        if np.isfinite(losses).all():
            return
        first = min((finding for finding in self.comm.allgather(fault) if finding), default=None)
        description = describe_epoch(report.epoch, self.steps, losses, report.learning_rate, first)
        message = f"{description} {advice(False, self.position.best_epoch >= 0)}"
        raise agreed(DivergedError(message, resumable=False))

    def _update_best(self, report: EpochReport) -> None:
        """Copy the weights if they are the best so far, and decide whether this was the last epoch."""
        position, settings = self.position, self.config.training
        # While weights are removed, each model replaces the one before, which had more of them.
        removing = self.pruner is not None and self.pruner.removes_in(report.epoch)
        first_final = self.pruner is not None and self.pruner.removes_in(report.epoch - 1)
        if position.compare(report.epoch, report.fitness, report.validation_loss, removing or first_final):
            self.best_weights = copy.deepcopy(self.evaluated_model.state_dict())
        if removing:
            return
        if report.train_loss < settings.loss_target:
            position.finished = f"training loss below training.loss_target = {settings.loss_target:g}"
        elif report.epoch - position.improved_epoch >= settings.patience:
            measure = "validation loss" if self.criterion is None else f"{self.criterion.name} or validation loss"
            position.finished = f"no better {measure} for {settings.patience} epochs"
        elif report.epoch + 1 >= settings.epochs:
            position.finished = f"{settings.epochs} epochs done"

    def state(self) -> TrainerState:
        """Return all that `restore` needs to continue with the same bits. Collective."""
        sums = self.comm.allgather((self.position.loss_sum, self.position.correct, *self.class_counts.tolist()))
        replica = ReplicaState(self.network.state_dict(), self.optimizer.state_dict())
        return TrainerState(
            position=replace(self.position),
            partial_sums=[list(sums_of_rank) for sums_of_rank in sums],
            network=replica.network,
            optimizer=replica.optimizer,
            replicas=self.comm.allgather(replica) if self.replicas else [],
            average=self.average.weights if self.average else {},
            learning_rate=self.learning_rate.state(),
            loss_scale=self.stepper.scale.state(),
            gradients=self.gradient_norms.state(self.comm) if self.gradient_norms else {},
            pruning=self.pruner.state() if self.pruner else {},
            best_weights=self.best_weights,
        )

    def restore(self, state: TrainerState, where: str = "the checkpoint") -> None:
        """Continue from a saved state.

        On another number of ranks, rank 0 gets the sums of an unfinished epoch. Their last digits, which only the
        reported training loss shows, may differ.

        Parameters
        ----------
        state : TrainerState
        where : str
            Name of the state's origin, for messages.

        Raises
        ------
        DataDamagedError
            If the weights are not those of this network.
        InputError
            If the state has other numbers of replicas than there are ranks.
        """
        self.position = replace(state.position)
        self._restore_sums(np.array(state.partial_sums, np.float64))
        replica = self._own_replica(state) if self.replicas or state.replicas else state
        self._refuse_other_weights(state, replica, where)
        self.network.load_state_dict(replica.network)
        if self.average:
            self.average.restore(state.average)
        self.optimizer.load_state_dict(replica.optimizer)
        self.learning_rate.restore(state.learning_rate)
        self.stepper.scale.restore(state.loss_scale)
        # If gradients were not measured before, the norms are those of the rest of the epoch.
        if self.gradient_norms and state.gradients:
            self.gradient_norms.restore(state.gradients, self.comm)
        if self.pruner:
            self.pruner.restore(state.pruning)
        self.best_weights = dict(state.best_weights)

    def _restore_sums(self, by_rank: NDArray[np.float64]) -> None:
        """Restore this rank's sums of an unfinished epoch; `by_rank` has the shape (ranks, 2 + classes)."""
        if len(by_rank) == self.comm.size:
            sums = by_rank[self.comm.rank]
        else:
            sums = by_rank.sum(0) if self.comm.is_root else np.zeros(by_rank.shape[1])
        self.position.loss_sum = float(sums[0])
        self.position.correct = float(sums[1])
        self.class_counts[:] = sums[2:]

    def _refuse_other_weights(self, state: TrainerState, replica: TrainerState | ReplicaState, where: str) -> None:
        """Raise a `DataDamagedError` if saved weights are not those of this network."""
        network, remedy = self.network.state_dict(), "Use --restart to train again."
        refuse_other_shapes(f"{where}: network", replica.network, network, remedy)
        refuse_other_shapes(f"{where}: best_weights", state.best_weights, self.evaluated_model.state_dict(), remedy)
        if self.average:
            refuse_other_shapes(f"{where}: average", state.average, network, remedy)

    def _own_replica(self, state: TrainerState) -> ReplicaState:
        count = len(state.replicas)
        if count != self.comm.size:
            raise agreed(
                InputError(
                    f"the checkpoint has {count or 1} networks that ranks trained independently (parallel.replicas), "
                    f"and there are {self.comm.size} ranks: start one rank for each network, or train again "
                    "(--restart)."
                )
            )
        return state.replicas[self.comm.rank]

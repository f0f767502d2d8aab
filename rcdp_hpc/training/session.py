"""The course of a training: metrics, log lines, checkpoints and stops."""

from __future__ import annotations

import logging
import math
import time
import zipfile
from functools import partial
from typing import Any

import numpy as np
import torch

from rcdp_hpc.config import TRAINING_SECTIONS, Config, settings_that_matter
from rcdp_hpc.config.choices.chosen_by import criterion_value, named_criterion
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.repair import replaced_files
from rcdp_hpc.errors import RcdpError, StoppedError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.answer_rule import AnswerRule
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.packing import Quantized
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.code_consent import code_named_by, found_digests
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root, agreed
from rcdp_hpc.runtime.digests import write_sealed
from rcdp_hpc.runtime.progress import time_left
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.text import plain_name
from rcdp_hpc.training.calibration import answer_rule, network_scores, plain_rule, store_answer_rule
from rcdp_hpc.training.history import History
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.monitor.class_counts import ClassCountLog
from rcdp_hpc.training.monitor.divergence import DivergedError
from rcdp_hpc.training.monitor.summary_table import sum_by_rank
from rcdp_hpc.training.monitor.tensorboard import TensorBoardWriter
from rcdp_hpc.training.partition.batches import partitions_per_rank
from rcdp_hpc.training.report import EpochReport, Position
from rcdp_hpc.training.resume_file import check_optimizer_state, first_optimizer_state, restoring
from rcdp_hpc.training.rounding import codes_of_training
from rcdp_hpc.training.training_checkpoint import TrainerState, TrainingCheckpoint

log = logging.getLogger(__name__)

# The time left is shown from this many seconds on.
LEAST_TIME_LEFT = 60.0
SECONDS_BETWEEN_NOTES = 5.0
# Epochs of which the log shows a line.
LOGGED_EPOCHS = 20


def decisive_settings(config: Config) -> dict[str, Any]:
    """Return the settings that decide the trained weights."""
    return settings_that_matter(config, ("run", "data", *TRAINING_SECTIONS))


def user_code(config: Config) -> dict[str, str]:
    """Return the SHA-256 of each module of the user's that decides the trained weights."""
    named = code_named_by(config)
    return found_digests(name for key, name in named.items() if key.partition(".")[0] in TRAINING_SECTIONS)


class Session:
    """The files of a training in the run directory, its log lines, checkpoints and stops.

    Parameters
    ----------
    config : Config
    comm : Communicator
    run : RunDirectory
    shards : ShardReader

    Attributes
    ----------
    threads : int
        Threads per rank.
    notes : dict
        Entries for the state file of the stage.
    learned : dict of str to torch.Tensor
        What a frozen extractor learned before the training, for the model file.
    quantized : dict of str to Quantized
        Codes of what is rounded to 8 bits before the training (`ModelFile.quantized`).
    best : dict of str to float
        Validation loss and accuracy of the best epoch.
    """

    trainer: Trainer

    def __init__(self, config: Config, comm: Communicator, run: RunDirectory, shards: ShardReader) -> None:
        self.config = config
        self.comm = comm
        self.run = run
        self.shards = shards
        self.threads = 1
        self.tensorboard: TensorBoardWriter | None = None
        self.notes: dict[str, Any] = {}
        self.learned: dict[str, torch.Tensor] = {}
        self.quantized: dict[str, Quantized] = {}
        self.last_checkpoint = self.last_note = time.monotonic()
        self.history = History(run.train / "metrics.jsonl")
        self.class_counts = ClassCountLog(run.train / "class_counts.jsonl")
        self.best: dict[str, float] = {}
        # Until the training ends, the model is not calibrated.
        self.rule: AnswerRule | None = None
        self.started = time.monotonic()
        self.earlier_seconds = 0.0

    @property
    def reports(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, one for each epoch."""
        return self.history.records

    def is_finished(self, saved: TrainingCheckpoint) -> bool:
        """Return whether the checkpointed training finished under the current limits; take over its results."""
        self.history.records = saved.metrics
        self.threads = saved.threads
        self.notes = saved.notes
        self.best = saved.best
        return bool(saved.trainer.position.finished) and saved.limits == self._limits()

    def begin(self, trainer: Trainer, saved: TrainingCheckpoint | None) -> None:
        """Start, or restore weights, position and history. Collective."""
        self.trainer = trainer
        self.notes = {
            "engine": trainer.parallel.engine.describe(),
            "replaced": list(replaced_files(self.shards)),
            "rank_speeds": list(trainer.plan.rank_speeds),
            "partitions": partitions_per_rank(trainer.plan),
        }
        if saved is not None:
            agree(self.comm, partial(self._restore, saved.trainer))
            position, epochs = trainer.position, self.config.training.epochs
            position.finished = f"{epochs} epochs done" if position.epoch >= epochs else ""
            self.history.records = saved.metrics
            self.earlier_seconds = sum(float(entry["seconds"]) for entry in saved.metrics)
            self.best = saved.best
            self.class_counts.history.records = saved.class_counts
            log.info("resumed at epoch %d, step %d", position.epoch + 1, position.step)
        self._seed_torch()
        agree_on_root(self.comm, self._check_room)
        self.tensorboard = agree(self.comm, partial(self._open_tensorboard, self.trainer.position.epoch))
        # Lines after the checkpoint are removed: their epochs are repeated.
        agree_on_root(self.comm, self._rewrite_histories)

    def _restore(self, state: TrainerState) -> None:
        path = self.run.train / "last.pt"
        with restoring(path):
            self.trainer.restore(state, str(path))
            check_optimizer_state(self.trainer.optimizer, first_optimizer_state(self.config, self.trainer.network))

    def _rewrite_histories(self) -> None:
        self.history.rewrite()
        self.class_counts.history.rewrite()

    def _seed_torch(self) -> None:
        """Seed torch's global generator. The package does not use it, but a user's module that does is repeatable."""
        position = self.trainer.position
        entropy = [self.config.run.seed, self.comm.rank, position.epoch, position.step]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))

    def _open_tensorboard(self, epoch: int) -> TensorBoardWriter | None:
        enabled = self.config.training.tensorboard and self.comm.is_root
        return TensorBoardWriter(self.run.train / "tensorboard", epoch) if enabled else None

    def _check_room(self) -> None:
        """Raise an error if the disk has no room for the checkpoints, one more while it is written, and the model."""
        config, weights = self.config, self.trainer.network.state_dict().values()
        size = sum(value.numel() * value.element_size() for value in weights)
        # Almost all bytes are the weights, the best weights, two moments of the optimiser, and the moving average.
        replicas = 4 * self.comm.size if self.trainer.replicas else 0
        pruning = {"magnitude": 1, "l0": 3}[config.pruning.method] * config.pruning.active
        checkpoint_size = size * (4 + bool(config.optimizer.ema) + replicas + pruning) + 2**20
        self.run.train.mkdir(parents=True, exist_ok=True)
        # Files that new ones replace. What an extractor learned, and a ridge readout, stay.
        present = sum(file.stat().st_size for name in ("last", "model") for file in self.run.train.glob(f"{name}.pt*"))
        members = self.comm.size if config.parallel.replicas == "ensemble" else 1
        model_size = size * members + self._fixed_bytes() + 2**20
        needed = checkpoint_size * (config.checkpoint.keep + 1) + 3 * model_size - present
        checkpoint.check_free_space(self.run.train, needed)

    def _fixed_bytes(self) -> int:
        """Return the bytes of the model that are not trained: what an extractor learned, and the user's matrices."""
        learned = sum(value.numel() * value.element_size() for value in self.learned.values())
        if not self.config.reservoir.matrices:
            return learned
        with zipfile.ZipFile(self.config.reservoir.matrices) as matrices:
            return learned + sum(array.file_size for array in matrices.infolist())

    def _limits(self) -> dict[str, float]:
        settings = self.config.training
        limits = {"epochs": settings.epochs, "patience": settings.patience, "loss_target": settings.loss_target}
        return limits | ({"stop_seconds": settings.stop_seconds} if settings.stop_seconds else {})

    def report(self, epoch: EpochReport) -> None:
        """Write the metrics of an epoch, and log them. Collective."""
        entry = epoch.entry()
        self.reports.append(entry)
        if self.trainer.position.best_epoch == epoch.epoch:
            names = ("validation_loss", "validation_accuracy", "validation_fitness")
            self.best = {name: entry[name] for name in names if name in entry}
        self.class_counts.add(epoch.epoch, epoch.class_counts, self.shards.class_counts("train"))

        def append() -> None:
            self.history.write_last()
            self.class_counts.history.write_last()
            if self.tensorboard:
                self.tensorboard.write(entry)

        agree_on_root(self.comm, append)
        self._end_in_time()
        self._log_epoch(epoch)

    def _end_in_time(self) -> None:
        """End the training if the time of ``training.stop_seconds`` is too short for another epoch. Collective.

        The time counts from the start of the stage; of earlier jobs, only their epochs count.
        """
        position, limit = self.trainer.position, self.config.training.stop_seconds
        if not limit or position.finished:
            return
        now = self.earlier_seconds + time.monotonic() - self.started
        another = float(np.mean([entry["seconds"] for entry in self.reports]))
        spent, another = self.comm.broadcast((now, another))
        if spent + another > limit:
            position.finished = f"{spent:.0f} s used of training.stop_seconds = {limit:g}, too little for another epoch"

    def _log_epoch(self, epoch: EpochReport) -> None:
        """Log about twenty of the epochs, always the first and the last; metrics.jsonl has all of them."""
        position, epochs = self.trainer.position, self.config.training.epochs
        if epoch.epoch % math.ceil(epochs / LOGGED_EPOCHS) and not position.finished:
            return
        best = " *" if position.best_epoch == epoch.epoch else ""
        rest = 0.0 if position.finished else (epochs - epoch.epoch - 1) * epoch.cost.seconds
        seconds = f"{epoch.cost.seconds:.3g}" if epoch.cost.seconds < 100 else f"{epoch.cost.seconds:.0f}"
        # The line has room for one of: the time left, the share of time that ranks waited for one another.
        more = f", {time_left(rest)}" if rest >= LEAST_TIME_LEFT else ""
        by = self.trainer.criterion
        if by is not None:
            more = f", {plain_name(by.name)} {criterion_value(by.name, epoch.fitness):.4f}{more}"
        if not more and self.comm.size > 1:
            more = f", {100 * np.mean(epoch.cost.wait_seconds) / epoch.cost.seconds:.0f} % wait"
        log.info(
            "epoch %3d  loss %.4f %5.2f %%  validation %.4f %5.2f %%%-2s %s s%s",
            epoch.epoch + 1, epoch.train_loss, 100 * epoch.train_accuracy, epoch.validation_loss,
            100 * epoch.validation_accuracy, best, seconds, more,
        )  # fmt: skip

    def run_to_the_end(self) -> None:
        """Train, and write the last checkpoint. Collective.

        If the training diverges, the checkpoint is that of the last step with a finite gradient. If the state cannot be
        resumed, the earlier checkpoint stays, and only the best model so far is written.
        """
        try:
            with self.comm.limit_waits(self.config.run.stall_seconds):
                self.trainer.run(self.pause, self.report)
        except DivergedError as error:
            if error.resumable:
                self.save_checkpoint()
            else:
                agree_on_root(self.comm, self._write_model)
            raise
        self._calibrate()
        self.save_checkpoint()

    def _calibrate(self) -> None:
        """Set the rule of the answers, calibrated by the validation rows. Collective."""
        calibrated = self.config.prediction.calibration != "none" and self.trainer.position.best_epoch >= 0
        scores = network_scores(self.trainer, self.comm) if calibrated else None
        rule = self.rule = answer_rule(self.config, self.comm, self.shards, scores)
        agree_on_root(self.comm, lambda: store_answer_rule(self.run.train, rule))

    def pause(self) -> None:
        """Stop if a signal asks for it, or write a checkpoint if one is due. Collective, with all ranks at one step."""
        position, settings = self.trainer.position, self.config.checkpoint
        self._note_position()
        due = self.comm.is_root and time.monotonic() - self.last_checkpoint >= settings.every_seconds
        if settings.every_epochs and not position.step:
            due = due or position.epoch % settings.every_epochs == 0
        flags = self.comm.allreduce(np.array([float(signals.stop_requested()), float(due)]), "max")
        if flags[0]:
            self.save_checkpoint()
            self.comm.barrier()
            raise agreed(
                StoppedError(
                    f"training stopped by {signals.received_name()} in epoch {position.epoch + 1}, step "
                    f"{position.step}; the checkpoint is written. Run the same command to continue."
                )
            )
        if flags[1]:
            self.save_checkpoint()

    def _note_position(self) -> None:
        """Write the step of a long epoch to a file every few seconds, for `rcdp status`; nothing depends on it."""
        position, now = self.trainer.position, time.monotonic()
        if not self.comm.is_root or not position.step or now - self.last_note < SECONDS_BETWEEN_NOTES:
            return
        self.last_note = now
        try:
            write_sealed(
                self.run.position_file,
                {"epoch": position.epoch, "step": position.step, "steps": self.trainer.steps},
            )
        except RcdpError as error:
            log.debug("%s", error)

    def save_checkpoint(self) -> None:
        """Write a checkpoint, and the best model so far. Collective."""
        state = self.trainer.state()
        # Writing may take longer than ranks wait for one another in a step; the heartbeats of rank 0 go on.
        with self.comm.limit_waits(0.0):
            agree_on_root(self.comm, lambda: self._write(state))
        self.last_checkpoint = time.monotonic()

    def _write(self, state: TrainerState) -> None:
        plan = self.trainer.plan
        current = TrainingCheckpoint(
            settings=decisive_settings(self.config),
            limits=self._limits(),
            code=user_code(self.config),
            ranks=self.comm.size,
            threads=self.threads,
            global_batch=plan.global_batch,
            partition_count=plan.partition_count,
            rows=self.shards.rows("train"),
            shards=self.shards.digest,
            best=self.best,
            replaced=replaced_files(self.shards),
            load_balance={"kind": self.config.partition.load_balance, "rank_speeds": list(plan.rank_speeds)},
            notes=self.notes,
            trainer=state,
            metrics=self.history.records,
            class_counts=self.class_counts.history.records,
        )
        marks = {"metrics": self.history.mark(), "class_counts": self.class_counts.history.mark()}
        self._write_model()
        # Last, so that the best epoch of the checkpoint is never later than that of the model.
        checkpoint.save(self.run.train / "last.pt", current.content(marks), self.config.checkpoint.keep)

    def _write_model(self) -> None:
        """Write the best model so far, if an epoch is done."""
        if self.trainer.position.best_epoch >= 0:
            weights = self.trainer.best_weights
            quantized = {**self.quantized, **codes_of_training(self.config, weights)}
            ModelFile.write(
                self.run.model, self.config, self.shards, weights, self.learned, quantized=quantized,
                rule=self.rule or plain_rule(self.config, self.shards),
            )  # fmt: skip

    def summary(self, position: Position) -> dict[str, Any]:
        """Return the results of the stage, for its state file."""
        return {
            "epochs": position.epoch,
            "best_epoch": position.best_epoch + 1,
            **self.best,
            **self._criterion(),
            "ended": position.finished,
            **self._weights_left(),
            **self.notes,
            "threads": self.threads,
            "compute_seconds": sum_by_rank(self.reports, "compute_seconds"),
            "wait_seconds": sum_by_rank(self.reports, "wait_seconds"),
            "communicate_seconds": sum_by_rank(self.reports, "communicate_seconds"),
        }

    def _criterion(self) -> dict[str, str]:
        """Return the criterion that chose the best epoch, unless it is the validation loss."""
        name = named_criterion(self.config.training.criterion)
        return {} if name is None else {"criterion": name}

    def _weights_left(self) -> dict[str, float]:
        """Return the share of weights that the last epoch had left, if weights are removed."""
        last = self.reports[-1] if self.reports else {}
        return {"weights_left": last["weights_left"]} if "weights_left" in last else {}

"""A training under way: its files, its clock, its pauses."""

from __future__ import annotations

import json
import logging
import math
import time
import zipfile
from functools import partial
from typing import Any

import numpy as np
import torch

from rcdp_hpc.config import TRAINING_SECTIONS, Config, settings_that_matter
from rcdp_hpc.data.shards.reader import ShardSet
from rcdp_hpc.data.shards.repair import replaced_files
from rcdp_hpc.errors import RcdpError, StoppedError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.code_consent import code_named_by, found_digests
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed
from rcdp_hpc.runtime.digests import write_sealed
from rcdp_hpc.runtime.progress import time_left
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.history import History
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.monitor.class_counts import ClassCountLog
from rcdp_hpc.training.monitor.divergence import DivergedError
from rcdp_hpc.training.monitor.summary_table import sum_by_rank
from rcdp_hpc.training.monitor.tensorboard import TensorBoardWriter
from rcdp_hpc.training.partition.batches import slabs_of_ranks
from rcdp_hpc.training.report import EpochReport
from rcdp_hpc.training.resume_file import check_optimizer_state, first_optimizer_state, restoring

log = logging.getLogger(__name__)

# Seconds from which on the rest of a training is told in advance.
WORTH_TELLING = 60.0
SECONDS_BETWEEN_NOTES = 5.0


def decisive_settings(config: Config) -> dict[str, Any]:
    """Return the settings that decide the trained weights."""
    return settings_that_matter(config, ("run", "data", *TRAINING_SECTIONS))


def user_code(config: Config) -> dict[str, str]:
    """Return the SHA-256 of each module of the user's that decides the trained weights."""
    named = code_named_by(config)
    return found_digests(name for key, name in named.items() if key.partition(".")[0] in TRAINING_SECTIONS)


class Session:
    """A training under way: its files, its clock, its pauses."""

    trainer: Trainer

    def __init__(self, config: Config, comm: Communicator, run: RunDirectory, shards: ShardSet) -> None:
        self.config, self.comm, self.run, self.shards = config, comm, run, shards
        self.threads = 1
        self.board: TensorBoardWriter | None = None
        self.notes: dict[str, Any] = {}
        self.learned: dict[str, torch.Tensor] = {}
        self.last_checkpoint = self.last_note = time.monotonic()
        self.history = History(run.train / "metrics.jsonl")
        self.watch = ClassCountLog(run.train / "class_counts.jsonl")
        self.best: dict[str, float] = {}

    @property
    def reports(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, one for each epoch."""
        return self.history.records

    def is_over(self, saved: dict[str, Any]) -> bool:
        """Tell whether a checkpoint is that of a training that ended, under the limits of today."""
        self.history.records, self.threads = saved["history"]["metrics"], saved["threads"]
        self.notes, self.best = json.loads(saved["notes"]), json.loads(saved["best"])
        return bool(saved["trainer"]["position"]["finished"]) and json.loads(saved["limits"]) == self._limits()

    def begin(self, trainer: Trainer, saved: dict[str, Any] | None) -> None:
        """Start, or restore weights, position and the metrics written so far."""
        self.trainer = trainer
        self.notes = {
            "replaced": list(replaced_files(self.shards)),
            "speeds": list(trainer.plan.speeds),
            "slabs": slabs_of_ranks(trainer.plan),
        }
        if saved is not None:
            agree(self.comm, partial(self._restore, saved["trainer"]))
            position, epochs = trainer.position, self.config.training.epochs
            position.finished = f"{epochs} epochs done" if position.epoch >= epochs else ""
            self.history.records, self.best = saved["history"]["metrics"], json.loads(saved["best"])
            self.watch.history.records = saved["history"]["class_counts"]
            log.info("going on from epoch %d, step %d", position.epoch + 1, position.step)
        self._seed_torch()
        agree(self.comm, self._check_room if self.comm.is_root else lambda: None)
        self.board = agree(self.comm, partial(self._open_board, self.trainer.position.epoch))
        # What was written after the checkpoint goes: its epochs come again.
        agree(self.comm, self._rewrite_histories if self.comm.is_root else lambda: None)

    def _restore(self, state: dict[str, Any]) -> None:
        path = self.run.train / "last.pt"
        with restoring(path):
            self.trainer.restore(state, str(path))
            check_optimizer_state(self.trainer.optimizer, first_optimizer_state(self.config, self.trainer.network))

    def _rewrite_histories(self) -> None:
        self.history.rewrite()
        self.watch.history.rewrite()

    def _seed_torch(self) -> None:
        """Seed torch's own generator, which nothing here draws from: should a user's module, its runs repeat."""
        position = self.trainer.position
        entropy = [self.config.run.seed, self.comm.rank, position.epoch, position.step]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))

    def _open_board(self, epoch: int) -> TensorBoardWriter | None:
        wanted = self.config.training.tensorboard and self.comm.is_root
        return TensorBoardWriter(self.run.train / "tensorboard", epoch) if wanted else None

    def _check_room(self) -> None:
        """Refuse to begin what could not be kept: checkpoints, one more while it is written, and the model."""
        config, weights = self.config, self.trainer.network.state_dict().values()
        size = sum(value.numel() * value.element_size() for value in weights)
        # The weights, the best ones, two moments of the optimiser, and the moving average; all but text is that.
        apart = 4 * self.comm.size if self.trainer.slices else 0
        checkpoint_size = size * (4 + bool(config.optimizer.ema) + apart) + 2**20
        self.run.train.mkdir(parents=True, exist_ok=True)
        # Files that new ones take the place of; what an extractor learned and a ridge readout stay.
        present = sum(file.stat().st_size for name in ("last", "model") for file in self.run.train.glob(f"{name}.pt*"))
        model_size = (
            size * (self.comm.size if config.parallel.replicas == "ensemble" else 1) + self._beside_weights() + 2**20
        )
        needed = checkpoint_size * (config.checkpoint.keep + 1) + 3 * model_size - present
        checkpoint.check_free_space(self.run.train, needed)

    def _beside_weights(self) -> int:
        """Return the bytes of what goes into the model unchanged: what an extractor learned, and given matrices."""
        learned = sum(value.numel() * value.element_size() for value in self.learned.values())
        if not self.config.reservoir.matrices:
            return learned
        with zipfile.ZipFile(self.config.reservoir.matrices) as given:
            return learned + sum(array.file_size for array in given.infolist())

    def _limits(self) -> dict[str, float]:
        settings = self.config.training
        return {"epochs": settings.epochs, "patience": settings.patience, "loss_target": settings.loss_target}

    def report(self, epoch: EpochReport) -> None:
        """Write an epoch's metrics and tell the user."""
        entry = epoch.entry()
        self.reports.append(entry)
        if self.trainer.position.best_epoch == epoch.epoch:
            self.best = {name: entry[name] for name in ("validation_loss", "validation_accuracy")}
        self.watch.note(epoch.epoch, epoch.class_counts, self.shards.class_counts("train"))

        def append() -> None:
            self.history.write_last()
            self.watch.history.write_last()
            if self.board:
                self.board.write(entry)

        agree(self.comm, append if self.comm.is_root else lambda: None)
        self._tell(epoch)

    def _tell(self, epoch: EpochReport) -> None:
        """Show about twenty epochs, the first and the last among them; metrics.jsonl has them all."""
        position, epochs = self.trainer.position, self.config.training.epochs
        if epoch.epoch % math.ceil(epochs / 20) and not position.finished:
            return
        best = " *" if position.best_epoch == epoch.epoch else ""
        rest = 0.0 if position.finished else (epochs - epoch.epoch - 1) * epoch.cost.seconds
        seconds = f"{epoch.cost.seconds:.3g}" if epoch.cost.seconds < 100 else f"{epoch.cost.seconds:.0f}"
        # What fits a line: the time left, or how long ranks waited for one another.
        more = f", {time_left(rest)}" if rest >= WORTH_TELLING else ""
        if not more and self.comm.size > 1:
            more = f", {100 * np.mean(epoch.cost.wait_seconds) / epoch.cost.seconds:.0f} % wait"
        log.info(
            "epoch %3d  loss %.4f %5.2f %%  validation %.4f %5.2f %%%-2s %s s%s",
            epoch.epoch + 1, epoch.train_loss, 100 * epoch.train_accuracy, epoch.validation_loss,
            100 * epoch.validation_accuracy, best, seconds, more,
        )  # fmt: skip

    def run_to_the_end(self) -> None:
        """Train, and write the last checkpoint: of the end, or of the last step that was sound.

        Where that is no more, the last checkpoint stays, and the best model so far is written alone.
        """
        try:
            with self.comm.limit_waits(self.config.run.stall_seconds):
                self.trainer.run(self.pause, self.report)
        except DivergedError as error:
            if error.whole:
                self.save_checkpoint()
            else:
                agree(self.comm, self._write_model if self.comm.is_root else lambda: None)
            raise
        self.save_checkpoint()

    def pause(self) -> None:
        """Stop or write a checkpoint where all ranks are at the same step."""
        position, settings = self.trainer.position, self.config.checkpoint
        self._note_position()
        due = self.comm.is_root and time.monotonic() - self.last_checkpoint >= settings.every_seconds
        if settings.every_epochs and not position.step:
            due = due or position.epoch % settings.every_epochs == 0
        wishes = self.comm.allreduce(np.array([float(signals.stop_requested()), float(due)]), "max")
        if wishes[0]:
            self.save_checkpoint()
            self.comm.barrier()
            raise agreed(
                StoppedError(
                    f"training stopped by {signals.received_name()} in epoch {position.epoch + 1}, step "
                    f"{position.step}; the checkpoint is written: run the same command to go on."
                )
            )
        if wishes[1]:
            self.save_checkpoint()

    def _note_position(self) -> None:
        """Write the step of a long epoch down now and then, for `rcdp status`; nothing depends on it."""
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
        """Write the last checkpoint, and the best model so far. Collective."""
        state = self.trainer.state()
        # Rank 0 may write for longer than ranks wait for one another in training; its heartbeats show that it runs.
        with self.comm.limit_waits(0.0):
            agree(self.comm, lambda: self._write(state) if self.comm.is_root else None)
        self.last_checkpoint = time.monotonic()

    def _write(self, state: dict[str, Any]) -> None:
        content = {
            "settings": json.dumps(decisive_settings(self.config)),
            "limits": json.dumps(self._limits()),
            "code": json.dumps(user_code(self.config)),
            "ranks": self.comm.size,
            "threads": self.threads,
            "global_batch": self.trainer.plan.global_batch,
            "slab_count": self.trainer.plan.slab_count,
            "shards": self.shards.digest,
            "history": {"metrics": self.history.mark(), "class_counts": self.watch.history.mark()},
            "best": json.dumps(self.best),
            "replaced": json.dumps(replaced_files(self.shards)),
            "rows": self.shards.rows("train"),
            "allotment": json.dumps(
                {"kind": self.config.partition.load_balance, "speeds": list(self.trainer.plan.speeds)},
            ),
            "notes": json.dumps(self.notes),
            "trainer": state,
        }
        self._write_model()
        # Last, so that a checkpoint never speaks of a better model than the one on the disk.
        checkpoint.save(self.run.train / "last.pt", content, self.config.checkpoint.keep)

    def _write_model(self) -> None:
        """Write the best model so far, where an epoch is done."""
        if self.trainer.position.best_epoch >= 0:
            ModelFile.write(
                self.run.model, self.config, self.shards, self.trainer.best_weights,
                self.learned,
            )  # fmt: skip

    def summary(self, position: dict[str, Any]) -> dict[str, Any]:
        """Return what the stage did, for its state file."""
        return {
            "epochs": position["epoch"],
            "best_epoch": position["best_epoch"] + 1,
            **self.best,
            "ended": position["finished"],
            **self.notes,
            "threads": self.threads,
            "compute_seconds": sum_by_rank(self.reports, "compute_seconds"),
            "wait_seconds": sum_by_rank(self.reports, "wait_seconds"),
            "communicate_seconds": sum_by_rank(self.reports, "communicate_seconds"),
        }

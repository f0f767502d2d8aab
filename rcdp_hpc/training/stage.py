"""The training stage: from shards and the search's winner to a trained model and its metrics."""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rcdp_hpc.config import Config, refuse_other_settings, settings_that_matter
from rcdp_hpc.data.reading import ShardSet, open_shards
from rcdp_hpc.data.refill import RefilledShards, record, replaced_in, tell_replaced, without_damaged
from rcdp_hpc.data.stage_in import staged_in
from rcdp_hpc.errors import InputError, StoppedError
from rcdp_hpc.reservoir.passed import StateSource
from rcdp_hpc.reservoir.reductions import check_samples
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.collective import agree, agreed, run_on_root
from rcdp_hpc.runtime.comm import Communicator
from rcdp_hpc.runtime.files import append_line, write_json, write_text
from rcdp_hpc.runtime.memory import MIB, machine_memory
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import fair_share, limit_threads
from rcdp_hpc.training import checkpoint
from rcdp_hpc.training.allotment import Speeds, measured_rate, rows_by_speed, speeds_of_ranks
from rcdp_hpc.training.batches import BatchPlan, slabs_of_ranks
from rcdp_hpc.training.board import Board
from rcdp_hpc.training.cache import CachedStates, cache_dtype, cache_states, refuse_too_many
from rcdp_hpc.training.counts import ClassWatch
from rcdp_hpc.training.divergence import DivergedError
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.model import TrainedModel
from rcdp_hpc.training.networks.assembly import build_network, make_source
from rcdp_hpc.training.networks.eq11 import ReadoutNetwork
from rcdp_hpc.training.parallel import Alone, parallel_for
from rcdp_hpc.training.report import EpochReport
from rcdp_hpc.training.ridge import baseline_of, solve_readout, warm_start
from rcdp_hpc.training.table import closing_table, sum_by_rank

log = logging.getLogger(__name__)

# Given the number of training rows, returns this rank's batches.
PlanFor = Callable[[int], BatchPlan]
# Beyond it the ridge's sums and factorisations take longer than most trainings.
BASELINE_WIDTH = 10_000


def train(config: Config, comm: Communicator, run: RunDirectory) -> dict[str, Any]:
    """Train the readout on all ranks, or go on from the last checkpoint.

    Parameters
    ----------
    config : Config
        With the search's winner already put into its reservoir and training sections.
    comm : Communicator
        All ranks of the job.
    run : RunDirectory
        Its shards are read; checkpoints, metrics and the model are written.

    Returns
    -------
    dict
        Epochs, best validation loss and accuracy, why it ended, seconds computing and waiting per rank.

    Raises
    ------
    InputError
        If the checkpoint belongs to other settings, or ranks cannot train together.
    StoppedError
        If a signal asked for a stop; a checkpoint is written.
    """
    if config.training.readout == "ridge":
        return _solve(config, comm, run)
    shards = agree(comm, lambda: open_shards(config, run.shards))
    # Rank 0 decides for all: on a network file system ranks may not see the same files at the same moment.
    saved = run_on_root(comm, lambda: _load_checkpoint(config, run, shards))
    session = _Session(config, comm, run, shards)
    if saved is not None and session.is_over(saved):
        log.info("training is over already: %s", saved["trainer"]["position"]["finished"])
        return session.summary(saved["trainer"]["position"])
    parallel = parallel_for(comm, config.run.stall_seconds, config.training)
    session.threads = _threads(config, comm, saved)
    with limit_threads(session.threads):
        reservoir = agree(comm, lambda: _build_reservoir(config, shards))
        speeds = _speeds(config, comm, reservoir, shards, saved)
        plan_for = partial(_plan, config, comm, saved, speeds)
        with _staged_in(config, comm, shards, plan_for):
            session.shards = _sound_shards(config, comm, run, shards, saved, plan_for)
            trainer = _prepare_trainer(config, comm, run, session.shards, parallel, reservoir, plan_for)
            session.shards.close()
        session.begin(trainer, saved)
        session.run_to_the_end()
    summary = session.summary(asdict(session.trainer.position))
    for line in closing_table(session.reports):
        log.info("%s", line)
    log.info(
        "training ended: %s; best epoch %d, validation accuracy %.2f %%",
        *(summary["ended"], summary["best_epoch"], 100 * summary["validation_accuracy"]),
    )
    return summary


def _load_checkpoint(config: Config, run: RunDirectory, shards: ShardSet) -> dict[str, Any] | None:
    saved = checkpoint.load_latest(run.train / "last.pt")
    if saved is None:
        return None
    where = str(run.train / "last.pt")
    refuse_other_settings(where, json.loads(saved["settings"]), _settings(config), "training")
    refuse_other_shards(where, saved["shards"], shards)
    return saved


def _speeds(
    config: Config,
    comm: Communicator,
    reservoir: StateSource,
    shards: ShardSet,
    saved: dict[str, Any] | None,
) -> Speeds:
    """Agree on the ranks' speeds, and tell what follows from them."""
    steps, features = reservoir.cut.shape(shards.sample_shape)
    speeds = speeds_of_ranks(config.training, comm, partial(measured_rate, reservoir, steps, features), saved)
    if speeds:
        slabs = slabs_of_ranks(_plan(config, comm, saved, speeds, shards.rows("train")))
        log.info("speeds of the ranks: %s; slabs: %s", list(speeds), slabs)
        if max(speeds) / min(speeds) > 1.5 * max(slabs) / min(slabs):
            log.warning("%d slabs are too few to follow these speeds: raise training.slabs", sum(slabs))
    return speeds


def _sound_shards(
    config: Config,
    comm: Communicator,
    run: RunDirectory,
    shards: ShardSet,
    saved: dict[str, Any] | None,
    plan_for: PlanFor,
) -> ShardSet:
    """Return the shards that training reads: where it is asked for, those that are damaged are replaced. Collective.

    What a checkpoint was trained without stays left out, even if it is sound again: its rows are others.
    """
    known = {} if saved is None else json.loads(saved.get("replaced", "{}"))
    view = without_damaged(
        comm,
        shards,
        known,
        search=config.data.on_damage == "replace",
        own_rows=lambda rows: plan_for(rows).own_rows,
        check_stop=lambda: signals.raise_if_stopped("checking the shards"),
    )
    if isinstance(view, RefilledShards):
        tell_replaced(view, known)
        if saved is not None and view.rows("train") != saved.get("rows", view.rows("train")):
            log.warning(
                "%d training rows instead of %d: the epoch that is gone on with sees some rows twice, and others not",
                *(view.rows("train"), saved["rows"]),
            )
        agree(comm, partial(write_json, run.train / "replaced.json", record(view)) if comm.is_root else lambda: None)
    return view


def refuse_other_shards(where: str, digest: str, shards: ShardSet) -> None:
    """Raise an `InputError` where `where` was made from other shards: their rows may be in another split now."""
    if digest != shards.digest:
        raise InputError(
            f"{where} was made from other shards than those that are there now. Train anew with --restart, or put the "
            "earlier shards back."
        )


def _settings(config: Config) -> dict[str, Any]:
    """Return the settings that decide the trained weights."""
    return settings_that_matter(config, ("run", "data", "reservoir", "training"))


def _threads(config: Config, comm: Communicator, saved: dict[str, Any] | None) -> int:
    """Threads per rank: as configured, as in the run that is resumed, or the rank's share of the cores."""
    share = config.training.threads or fair_share(comm)
    if saved is None:
        return share
    if saved["ranks"] == comm.size:
        return int(saved["threads"])
    log.info(
        "resuming on %d ranks what ran on %d: batches stay %d rows over all ranks, results are equal to rounding",
        *(comm.size, saved["ranks"], saved["global_batch"]),
    )
    return share


def _solve(config: Config, comm: Communicator, run: RunDirectory) -> dict[str, Any]:
    """Solve the readout by ridge instead of training it."""
    threads = config.training.threads or fair_share(comm)
    with limit_threads(threads):
        shards = agree(comm, lambda: open_shards(config, run.shards))
        reservoir = agree(comm, lambda: _build_reservoir(config, shards))
        speeds = _speeds(config, comm, reservoir, shards, None)
        plan_for = partial(_plan, config, comm, None, speeds)
        with _staged_in(config, comm, shards, plan_for):
            sound = _sound_shards(config, comm, run, shards, None, plan_for)
            plan = plan_for(sound.rows("train"))
            pieces = [plan.slab_bounds(slab) for slab in plan.own_slabs]
            validation = rows_by_speed(sound.rows("validation"), comm.rank, comm.size, speeds)
            result = solve_readout(config, comm, run, sound, reservoir, pieces, validation, threads)
            sound.close()
        return result


def _staged_in(config: Config, comm: Communicator, shards: ShardSet, plan_for: PlanFor) -> AbstractContextManager[None]:
    """Read from node-local copies within the block, where that is asked for."""
    if not config.data.stage_in:
        return nullcontext()
    plan = plan_for(shards.rows("train"))
    validation = rows_by_speed(shards.rows("validation"), comm.rank, comm.size, plan.speeds)
    pieces = [("train", *plan.own_rows), ("validation", *validation)]
    return staged_in(comm, shards, pieces, lambda: signals.raise_if_stopped("copying shards"))


def _plan(config: Config, comm: Communicator, saved: dict[str, Any] | None, speeds: Speeds, rows: int) -> BatchPlan:
    settings = config.training
    if comm.size > rows:
        raise agreed(InputError(f"{comm.size} ranks for {rows} training rows: start at most {rows} ranks."))
    # A resumed run keeps its global batch on any number of ranks, or its steps would mean other rows.
    global_batch = saved["global_batch"] if saved is not None else settings.batch * comm.size
    return BatchPlan(rows, global_batch, settings.slabs, comm.rank, comm.size, config.run.seed, speeds)


def _prepare_trainer(
    config: Config,
    comm: Communicator,
    run: RunDirectory,
    shards: ShardSet,
    parallel: Alone,
    reservoir: StateSource,
    plan_for: PlanFor,
) -> Trainer:
    plan, settings = plan_for(shards.rows("train")), config.training
    _refuse_large_batch(plan)
    pieces = [plan.slab_bounds(slab) for slab in plan.own_slabs]
    validation = [rows_by_speed(shards.rows("validation"), comm.rank, comm.size, plan.speeds)]
    mine = pieces[-1][1] - pieces[0][0] + validation[0][1] - validation[0][0]
    limit = _cache_limit(config, comm)
    agree(comm, lambda: refuse_too_many(mine, reservoir.width, cache_dtype(settings, reservoir), limit))
    started = time.perf_counter()
    with Progress("states", mine, enabled=comm.is_root and config.run.progress) as progress:

        def both() -> tuple[CachedStates, CachedStates]:
            return (
                cache_states(reservoir, shards, "train", pieces, progress, cache_dtype(settings, reservoir)),
                cache_states(reservoir, shards, "validation", validation, progress, cache_dtype(settings, reservoir)),
            )

        train_states, validation_states = agree(comm, both)
    seconds = time.perf_counter() - started
    if settings.extractor.trained:
        log.info("%d samples per rank read in %.1f s", mine, seconds)
    else:
        log.info("states of %d rows per rank computed once and cached in %.1f s (%s)", mine, seconds, reservoir.kernel)
    classes = len(shards.classes)
    network = agree(
        comm,
        lambda: build_network(
            config.reservoir, settings, shards.sample_shape, reservoir, classes, config.run.seed, parallel
        ),
    )
    trainer = Trainer(
        settings, config.run.seed, classes, network, train_states, validation_states, plan,
        shards.rows("validation"), comm, parallel,
    )  # fmt: skip
    known = agree(comm, lambda: (run.train / "ridge.pt").exists() and (run.train / "last.pt").exists())
    if settings.baseline and settings.extractor.trained:
        log.info("no ridge baseline: states change while the extractor is trained")
    elif settings.baseline and reservoir.width > BASELINE_WIDTH:
        log.info("no ridge baseline: %d values a sample are too many to solve for", reservoir.width)
    elif settings.baseline and not all(comm.allgather(known)):
        states = (train_states, validation_states)
        fit = baseline_of(config, comm, run, shards, states, pieces, reservoir.batch_rows)
        if settings.warm_start and isinstance(network, ReadoutNetwork):
            warm_start(network, fit.readout)
    return trainer


def _refuse_large_batch(plan: BatchPlan) -> None:
    if plan.global_batch > plan.rows:
        raise agreed(
            InputError(
                f"a batch of {plan.global_batch} rows over {plan.ranks} ranks is more than the {plan.rows} there are: "
                f"lower training.batch to a rank's slab ({plan.rows // plan.ranks} rows) or less, or start fewer ranks."
            )
        )


def _build_reservoir(config: Config, shards: ShardSet) -> StateSource:
    # The test rows too: a sequence too short for what is kept would end a long training in its evaluation.
    if config.training.extractor.trained:
        if shards.shortest is not None:
            raise InputError(
                f"training.extractor.kind = {config.training.extractor.kind!r} reads samples of one length, and these "
                "have lengths of their own: set it to 'none'"
            )
    elif config.reservoir.kind == "random":
        check_samples(config.reservoir, shards.sample_shape, shards.shortest)
    return make_source(config.reservoir, config.training, shards.sample_shape, device())


def _cache_limit(config: Config, comm: Communicator) -> int:
    """Return the bytes of states that a rank may keep. Collective."""
    hosts = comm.allgather(platform.node())
    return config.training.cache_memory * MIB or machine_memory() // hosts.count(hosts[comm.rank])


def device() -> torch.device:
    """Return this rank's GPU where torch sees any, and the CPU otherwise."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank = next((int(os.environ[name]) for name in _LOCAL_RANK_VARIABLES if name in os.environ), 0)
    # Some sites show each task a single device, number 0.
    return torch.device("cuda", local_rank % torch.cuda.device_count())


_LOCAL_RANK_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_RANK", "HOROVOD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")


class _Session:
    """A training under way: its files, its clock, its pauses."""

    trainer: Trainer

    def __init__(self, config: Config, comm: Communicator, run: RunDirectory, shards: ShardSet) -> None:
        self.config, self.comm, self.run, self.shards = config, comm, run, shards
        self.threads = 1
        self.board: Board | None = None
        self.notes: dict[str, Any] = {}
        self.last_checkpoint = time.monotonic()
        self.reports: list[dict[str, Any]] = []
        self.watch = ClassWatch(run.train / "class_counts.jsonl")

    @property
    def metrics_file(self) -> Path:
        return self.run.train / "metrics.jsonl"

    def is_over(self, saved: dict[str, Any]) -> bool:
        """Tell whether a checkpoint is that of a training that ended, under the limits of today."""
        self.reports, self.threads = json.loads(saved["reports"]), saved["threads"]
        self.notes = json.loads(saved.get("notes", "{}"))
        return bool(saved["trainer"]["position"]["finished"]) and json.loads(saved["limits"]) == self._limits()

    def begin(self, trainer: Trainer, saved: dict[str, Any] | None) -> None:
        """Start, or restore weights, position and the metrics written so far."""
        self.trainer = trainer
        self.notes = {
            "replaced": list(replaced_in(self.shards)),
            "speeds": list(trainer.plan.speeds),
            "slabs": slabs_of_ranks(trainer.plan),
        }
        if saved is not None:
            trainer.restore(saved["trainer"])
            position, epochs = trainer.position, self.config.training.epochs
            position.finished = f"{epochs} epochs done" if position.epoch >= epochs else ""
            self.reports = json.loads(saved["reports"])
            self.watch.lines = json.loads(saved.get("class_counts", "[]"))
            log.info("going on from epoch %d, step %d", position.epoch + 1, position.step)
        agree(self.comm, self._check_room if self.comm.is_root else lambda: None)
        self.board = agree(self.comm, partial(self._open_board, self.trainer.position.epoch))
        # What was written after the checkpoint goes: its epochs come again.
        lines = "".join(json.dumps(entry) + "\n" for entry in self.reports)
        agree(self.comm, lambda: write_text(self.metrics_file, lines) if self.comm.is_root else None)
        agree(self.comm, self.watch.rewrite if self.comm.is_root else lambda: None)

    def _open_board(self, epoch: int) -> Board | None:
        wanted = self.config.training.tensorboard and self.comm.is_root
        return Board(self.run.train / "tensorboard", epoch) if wanted else None

    def _check_room(self) -> None:
        """Refuse to begin what could not be kept: checkpoints, one more while it is written, and the model."""
        settings, weights = self.config.training, self.trainer.network.state_dict().values()
        size = sum(value.numel() * value.element_size() for value in weights)
        # The weights, the best ones, two moments of the optimiser, and the moving average; all but text is that.
        checkpoint_size = size * (4 + bool(settings.ema)) + 2**20
        self.run.train.mkdir(parents=True, exist_ok=True)
        present = sum(file.stat().st_size for file in self.run.train.glob("*.pt*"))
        needed = checkpoint_size * (settings.checkpoint_keep + 1) + 3 * (size + 2**20) - present
        checkpoint.check_room(self.run.train, needed)

    def _limits(self) -> dict[str, float]:
        settings = self.config.training
        return {"epochs": settings.epochs, "patience": settings.patience, "loss_target": settings.loss_target}

    def report(self, epoch: EpochReport) -> None:
        """Write an epoch's metrics and tell the user."""
        entry = asdict(epoch)
        counts = entry.pop("class_counts")
        self.reports.append(entry)
        line = self.watch.note(epoch.epoch, counts, self.shards.class_counts("train"))

        def append() -> None:
            append_line(self.metrics_file, entry)
            append_line(self.watch.path, line)
            if self.board:
                self.board.write(entry)

        agree(self.comm, append if self.comm.is_root else lambda: None)
        self._tell(epoch)

    def _tell(self, epoch: EpochReport) -> None:
        """Show about twenty epochs, the first and the last among them; metrics.jsonl has them all."""
        position, epochs = self.trainer.position, self.config.training.epochs
        if epoch.epoch % -(-epochs // 20) and not position.finished:
            return
        best = " *" if position.best_epoch == epoch.epoch else ""
        log.info(
            "epoch %3d  loss %.4f  accuracy %.2f %%  validation %.4f  %.2f %%%s  %.1f s, %.0f %% waiting",
            epoch.epoch + 1, epoch.train_loss, 100 * epoch.train_accuracy, epoch.validation_loss,
            100 * epoch.validation_accuracy, best, epoch.seconds, 100 * np.mean(epoch.wait_seconds) / epoch.seconds,
        )  # fmt: skip

    def run_to_the_end(self) -> None:
        """Train, and write the last checkpoint: of the end, or of the last step that was sound."""
        try:
            self.trainer.run(self.pause, self.report)
        except DivergedError as error:
            if error.whole:
                self.save_checkpoint()
            raise
        self.save_checkpoint()

    def pause(self) -> None:
        """Stop or write a checkpoint where all ranks are at the same step."""
        position, settings = self.trainer.position, self.config.training
        due = self.comm.is_root and time.monotonic() - self.last_checkpoint >= settings.checkpoint_seconds
        if settings.checkpoint_epochs and not position.step:
            due = due or position.epoch % settings.checkpoint_epochs == 0
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

    def save_checkpoint(self) -> None:
        """Write the last checkpoint, and the best model so far. Collective."""
        state = self.trainer.state()
        agree(self.comm, lambda: self._write(state) if self.comm.is_root else None)
        self.last_checkpoint = time.monotonic()

    def _write(self, state: dict[str, Any]) -> None:
        content = {
            "settings": json.dumps(_settings(self.config)),
            "limits": json.dumps(self._limits()),
            "ranks": self.comm.size,
            "threads": self.threads,
            "global_batch": self.trainer.plan.global_batch,
            "shards": self.shards.digest,
            "reports": json.dumps(self.reports),
            "class_counts": json.dumps(self.watch.lines),
            "replaced": json.dumps(replaced_in(self.shards)),
            "rows": self.shards.rows("train"),
            "allotment": json.dumps(
                {"kind": self.config.training.allotment, "speeds": list(self.trainer.plan.speeds)},
            ),
            "notes": json.dumps(self.notes),
            "trainer": state,
        }
        if state["position"]["best_epoch"] >= 0:
            TrainedModel.save(
                self.run.model, self.config.reservoir, self.config.training, self.shards.classes,
                self.shards.sample_shape, self.shards.scale, state["best_weights"], self.shards.digest,
            )  # fmt: skip
        # Last, so that a checkpoint never speaks of a better model than the one on the disk.
        checkpoint.save(self.run.train / "last.pt", content, self.config.training.checkpoint_keep)

    def summary(self, position: dict[str, Any]) -> dict[str, Any]:
        """Return what the stage did, for its state file."""
        best = self.reports[position["best_epoch"]]
        return {
            "epochs": position["epoch"],
            "best_epoch": position["best_epoch"] + 1,
            "validation_loss": best["validation_loss"],
            "validation_accuracy": best["validation_accuracy"],
            "ended": position["finished"],
            **self.notes,
            "threads": self.threads,
            "compute_seconds": sum_by_rank(self.reports, "compute_seconds"),
            "wait_seconds": sum_by_rank(self.reports, "wait_seconds"),
            "communicate_seconds": sum_by_rank(self.reports, "communicate_seconds"),
        }

"""The training stage: from shards and the search's winner to a trained model and its metrics."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from rcdp_hpc.config import Config, refuse_other_settings
from rcdp_hpc.config.choices import LOSSES, extractor_choice
from rcdp_hpc.data.shards.reader import ShardReader, open_shards
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model.model_file import ModelFile, named_code
from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.networks.learned_source import load_learned
from rcdp_hpc.networks.losses import loss_of
from rcdp_hpc.networks.readouts.mlp import MLPReadout
from rcdp_hpc.networks.user_readout_check import check_user_readout
from rcdp_hpc.parallel.base import Engine, Strategy
from rcdp_hpc.parallel.choose import strategy_for
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root, run_on_root
from rcdp_hpc.runtime.comm.gpus import report_shared_gpus
from rcdp_hpc.runtime.device import device, refuse_without_gpu, set_up_device
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_context import StageContext
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.calibration import check_answers, plain_rule, stored_answer_rule
from rcdp_hpc.training.checks import (
    BASELINE_WIDTH,
    check_images,
    check_sequences,
    check_solved,
    check_warm_start,
    check_warm_start_features,
)
from rcdp_hpc.training.criterion_checks import check_on_shards
from rcdp_hpc.training.initial_weights import load_initial
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.monitor.summary_table import summary_table
from rcdp_hpc.training.partition.batches import BatchPlan, partitions_for, resumed_partitions
from rcdp_hpc.training.partition.load_balance import rows_by_speed
from rcdp_hpc.training.partition.rows import (
    agree_on_speeds,
    plan_batches,
    refuse_large_batch,
    staged_if_configured,
    undamaged_shards,
)
from rcdp_hpc.training.resume_file import read_checkpoint
from rcdp_hpc.training.rounding import codes_of_training, round_learned, rounded_user_matrices
from rcdp_hpc.training.session import Session, decisive_settings, user_code
from rcdp_hpc.training.solve.dictionary_fit import learn_extractor
from rcdp_hpc.training.solve.ridge import baseline_of
from rcdp_hpc.training.solve.solve_stage import refuse_other_readout, solve_readout
from rcdp_hpc.training.solve.warm_start import warm_start
from rcdp_hpc.training.states.placement import place_states
from rcdp_hpc.training.teacher import TeacherTargets, teacher_targets
from rcdp_hpc.training.teacher_models import check_teachers
from rcdp_hpc.training.threads import threads_of_rank
from rcdp_hpc.training.training_checkpoint import TrainingCheckpoint

log = logging.getLogger(__name__)


def train(context: StageContext, allow_code: bool = False) -> dict[str, Any]:
    """Train the readout on all ranks, from the last checkpoint if there is one.

    Parameters
    ----------
    context : StageContext
        Its configuration has the best candidate of the search. Shards are read from its run directory; checkpoints,
        metrics and the model are written there.
    allow_code : bool
        Import classes that only the model file of a teacher names.

    Returns
    -------
    dict
        Epochs, best validation loss and accuracy, why the training ended, and seconds of each rank.

    Raises
    ------
    InputError
        If the checkpoint has other settings or shards, or ranks cannot train together.
    StoppedError
        If a signal stopped the training; a checkpoint is written.
    """
    config, comm, run = context.config, context.comm, context.run
    if not config.readout.trained:
        return _solve(config, comm, run)
    shards = agree(comm, lambda: open_shards(config, run.shards))
    # Only rank 0 reads it: on a network file system, ranks may see different files at one moment.
    saved = run_on_root(comm, lambda: _load_checkpoint(config, run, shards))
    agree_on_root(comm, lambda: refuse_other_readout(run, decisive_settings(config)))
    agree_on_root(comm, lambda: check_on_shards(config, shards))
    session = Session(config, comm, run, shards)
    if saved is not None and session.is_finished(saved):
        log.info("training is finished already: %s", saved.trainer.position.finished)
        run_on_root(comm, partial(_restore_model, config, run, shards, saved))
        return session.summary(saved.trainer.position)
    agree(comm, lambda: check_answers(config, shards, 0))
    run_on_root(comm, partial(check_teachers, config, shards, run))
    where = agree(comm, lambda: _device(config))
    set_up_device(where, config)
    parallel = strategy_for(comm, config.run.stall_seconds, config.parallel, where)
    session.threads = _threads(config, comm, shards, saved)
    if saved is not None:
        _report_other_engine(saved, parallel.engine, comm.size)
    if saved is not None and saved.ranks != comm.size:
        _report_other_ranks(config, comm.size, saved, shards.rows("train"))
    with limit_threads(session.threads):
        matrices, codes = agree(comm, lambda: rounded_user_matrices(config, shards.sample_shape))
        reservoir = agree(comm, lambda: _build_reservoir(config, shards, matrices))
        speeds = agree_on_speeds(config, comm, reservoir, shards, saved)
        plan_for = partial(plan_batches, config, comm, saved, speeds)
        with staged_if_configured(config, comm, shards, plan_for):
            session.shards = undamaged_shards(config, comm, run, shards, saved, plan_for)
            learned = learn_extractor(config, comm, run, session.shards, reservoir)
            session.learned, learned_codes = round_learned(config, reservoir, learned)
            session.quantized = {**codes, **learned_codes}
            plan = plan_for(session.shards.rows("train"))
            teacher = teacher_targets(config, comm, run, session.shards, plan, saved is not None, allow_code)
            trainer = _prepare_trainer(config, comm, run, session.shards, parallel, reservoir, plan, teacher)
            if saved is None and config.training.initial:
                agree_on_root(comm, lambda: load_initial(trainer.network, config, session.shards))
                parallel.engine.broadcast_model(trainer.network)
            session.shards.close()
        session.begin(trainer, saved)
        session.run_to_the_end()
        parallel.engine.close()
    summary = session.summary(session.trainer.position)
    for line in summary_table(session.reports) if session.reports else ():
        log.info("%s", line)
    log.info(
        "training ended: %s; best epoch %d, validation accuracy %.2f %%",
        *(summary["ended"], summary["best_epoch"], 100 * summary["validation_accuracy"]),
    )
    return summary


def _device(config: Config) -> torch.device:
    """Return the device of this rank; raise an `InputError` if the settings are for another one."""
    where = device(config.training.device)
    refuse_without_gpu(config, where)
    return where


def _load_checkpoint(config: Config, run: RunDirectory, shards: ShardReader) -> TrainingCheckpoint | None:
    saved = read_checkpoint(run.train)
    if saved is None:
        return None
    where = str(run.train / "last.pt")
    refuse_other_settings(where, saved.settings, decisive_settings(config), "training")
    refuse_other_shards(where, saved.shards, shards)
    _report_changed_code(where, saved.code, user_code(config))
    return saved


def _report_changed_code(where: str, saved: Mapping[str, str], current: Mapping[str, str]) -> None:
    """Log a warning for each of the user's modules that has changed since the checkpoint was written."""
    for module in sorted(set(saved) | set(current)):
        if saved.get(module) != current.get(module):
            log.warning(
                "module %s has changed since %s was written: the rest of the training uses the new code", module, where
            )


def _restore_model(config: Config, run: RunDirectory, shards: ShardReader, saved: TrainingCheckpoint) -> None:
    """Write the model of a finished training again if it is damaged, if the checkpoint has all of its content."""
    try:
        ModelFile.read(run.model)
    except DataDamagedError as error:
        # The checkpoint has neither what an extractor learned nor the digests of the modules of user networks.
        if extractor_choice(config.extractor.kind).learned or named_code(config).keys() - {LOSSES.key}:
            raise
        log.warning("%s The model is written again from the checkpoint.", error)
        weights = saved.trainer.best_weights
        quantized = {**rounded_user_matrices(config, shards.sample_shape)[1], **codes_of_training(config, weights)}
        rule = stored_answer_rule(run.train, len(shards.classes)) or plain_rule(config, shards)
        ModelFile.write(run.model, config, shards, weights, quantized=quantized, rule=rule)


def _has_baseline(run: RunDirectory) -> bool:
    """Return whether a resumed training has its ridge baseline; a damaged baseline is fitted again."""
    path = run.train / "ridge.pt"
    if not (run.train / "last.pt").exists() or not path.exists():
        return False
    try:
        ModelFile.read(path, "The baseline is fitted again.", role="baseline")
    except DataDamagedError as error:
        log.warning("%s", error)
        return False
    return True


def refuse_other_shards(where: str, digest: str, shards: ShardReader) -> None:
    """Raise an `InputError` if the file `where` belongs to other shards, whose rows may be in another split."""
    if digest != shards.digest:
        raise InputError(
            f"{where} belongs to other shards than the current ones. Train again with --restart, or put the earlier "
            "shards back."
        )


def _threads(config: Config, comm: Communicator, shards: ShardReader, saved: TrainingCheckpoint | None) -> int:
    """Return the threads per rank: those of the resumed run, or those that `threads_of_rank` chooses."""
    if saved is not None and saved.ranks == comm.size:
        return saved.threads
    return threads_of_rank(config, comm, shards)


def _report_other_ranks(config: Config, ranks: int, saved: TrainingCheckpoint, rows: int) -> None:
    """Log how the batches change if a training is resumed on another number of ranks."""
    before, position = resumed_partitions(config.partition.count, saved), saved.trainer.position
    now = partitions_for(before, ranks)
    text = f"resuming on {ranks} ranks a training of {saved.ranks} ranks"
    text += f": batches stay {saved.global_batch} rows over all ranks"
    if now == before:
        log.info("%s, results are equal to rounding", text)
        return
    text += f", but are drawn from {now} partitions instead of {before}, so that each rank has at least one"
    seen = min(rows, position.step * config.training.accumulate * saved.global_batch)
    if seen:
        text += (
            f"; the rest of epoch {position.epoch + 1}, {rows - seen} rows, repeats some of the {seen} rows it has "
            "seen and misses as many"
        )
    log.warning("%s; results are not those of %d ranks", text, saved.ranks)


def _report_other_engine(saved: TrainingCheckpoint, engine: Engine, ranks: int) -> None:
    """Log how results change if a training is resumed with another engine."""
    before, now = saved.notes.get("engine", ""), engine.describe()
    if before and before != now and ranks == saved.ranks:
        exact = "sums of two ranks are the same to the bit" if ranks == 2 else "sums differ in their last digits"
        log.info("resuming with %s a training of %s: %s", now, before, exact)


@dataclass(frozen=True)
class SolvedRows:
    """What a readout that is solved reads.

    Attributes
    ----------
    shards : ShardReader
    reservoir : StateSource
        With the part of the extractor that is fixed before the training.
    plan : BatchPlan
        Which training rows this rank reads.
    threads : int
        Threads of a rank.
    """

    shards: ShardReader
    reservoir: StateSource
    plan: BatchPlan
    threads: int


@contextmanager
def rows_to_solve(
    config: Config, comm: Communicator, run: RunDirectory, learned: Mapping[str, torch.Tensor] | None = None
) -> Iterator[SolvedRows]:
    """Open the shards of a run and build what computes their states, for the length of the block. Collective.

    Parameters
    ----------
    config : Config
    comm : Communicator
    run : RunDirectory
    learned : mapping of str to torch.Tensor, optional
        State of the part of the extractor that is fixed before the training; by default it is learned.
    """
    shards = agree(comm, lambda: open_shards(config, run.shards))
    agree_on_root(comm, lambda: check_on_shards(config, shards))
    threads = threads_of_rank(config, comm, shards)
    where = agree(comm, lambda: device(config.training.device))
    set_up_device(where, config)
    report_shared_gpus(comm, where, "solve the readout")
    with limit_threads(threads):
        reservoir = agree(comm, lambda: _build_reservoir(config, shards))
        speeds = agree_on_speeds(config, comm, reservoir, shards, None)
        plan_for = partial(plan_batches, config, comm, None, speeds)
        with staged_if_configured(config, comm, shards, plan_for):
            undamaged = undamaged_shards(config, comm, run, shards, None, plan_for)
            if learned is None:
                learn_extractor(config, comm, run, undamaged, reservoir)
            else:
                agree(comm, lambda: load_learned(reservoir, learned))
            yield SolvedRows(undamaged, reservoir, plan_for(undamaged.rows("train")), threads)
            undamaged.close()


def _solve(config: Config, comm: Communicator, run: RunDirectory) -> dict[str, Any]:
    """Solve the readout instead of training it."""
    with rows_to_solve(config, comm, run) as rows:
        return solve_readout(config, comm, run, rows.shards, rows.reservoir, rows.plan, rows.threads)


def _prepare_trainer(
    config: Config,
    comm: Communicator,
    run: RunDirectory,
    shards: ShardReader,
    parallel: Strategy,
    reservoir: StateSource,
    plan: BatchPlan,
    teacher: TeacherTargets | None,
) -> Trainer:
    refuse_large_batch(config, plan)
    partitions = [plan.partition_bounds(partition) for partition in plan.local_partitions]
    validation = rows_by_speed(shards.rows("validation"), comm.rank, comm.size, plan.rank_speeds)
    train_states, validation_states = place_states(config, comm, reservoir, shards, partitions, validation)
    classes = len(shards.classes)
    network = agree(
        comm,
        lambda: build_network(config, shards.sample_shape, reservoir, classes, config.run.seed, parallel),
    )
    trainer = Trainer(
        config, config.run.seed, classes, network, train_states, validation_states, plan, comm, parallel, teacher,
        shards.classes,
    )  # fmt: skip
    trainer.show_progress = comm.is_root and config.run.progress
    has_baseline = config.training.baseline and run_on_root(comm, partial(_has_baseline, run))
    if config.training.baseline and config.extractor.trained:
        log.info("no ridge baseline: states change while the extractor is trained")
    elif config.training.baseline and reservoir.width > BASELINE_WIDTH:
        log.info("no ridge baseline: %d features are too many to solve for", reservoir.width)
    elif config.training.baseline and not has_baseline:
        states = (train_states, validation_states)
        fit = baseline_of(config, comm, run, shards, states, plan, reservoir)
        if config.readout.warm_start and isinstance(network, MLPReadout):
            warm_start(network, fit, loss_of(config.loss).warm_start_factor)
    return trainer


def _report_one_step(config: Config, shards: ShardReader) -> None:
    """Log that the reservoir is a layer of random features if samples have one step, as the rows of a table."""
    reservoir = config.reservoir
    if reservoir.kind != "random" or config.extractor.makes_sequences:
        return
    steps, features = Sequencer.of(reservoir).shape(shards.sample_shape)
    if steps == 1:
        log.info(
            "each sample is one step, so recurrent connections have no effect: the reservoir is a layer of %d random "
            "%s features of the %d inputs (reservoir.kind = 'none' reads the inputs themselves)",
            *(reservoir.nodes, reservoir.activation, features),
        )


def _build_reservoir(config: Config, shards: ShardReader, matrices: ReservoirMatrices | None = None) -> StateSource:
    check_images(config, shards.sample_shape, shards.shortest)
    check_sequences(config, shards.sample_shape, shards.shortest)
    check_warm_start(config, len(shards.classes))
    check_warm_start_features(config, shards.sample_shape)
    check_solved(config, shards.sample_shape)
    check_user_readout(config, shards.sample_shape, len(shards.classes))
    source = make_source(config, shards.sample_shape, device(config.training.device), matrices)
    _report_one_step(config, shards)
    return source

"""The training stage: from shards and the search's winner to a trained model and its metrics."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from rcdp_hpc.config import Config, refuse_other_settings
from rcdp_hpc.config.choices import extractor_choice
from rcdp_hpc.data.shards.reader import ShardSet, open_shards
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model.model_file import ModelFile, named_code
from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.networks.readouts.mlp import MLPReadout
from rcdp_hpc.networks.user_readout_check import check_user_readout
from rcdp_hpc.parallel.choose import parallel_for
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, run_on_root
from rcdp_hpc.runtime.device import device, refuse_without_gpu, set_up_device
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_context import StageContext
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.checks import check_images, check_sequences, check_warm_start
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.monitor.summary_table import summary_table
from rcdp_hpc.training.partition.batches import kept_slabs, slabs_for
from rcdp_hpc.training.partition.load_balance import rows_by_speed
from rcdp_hpc.training.partition.rows import (
    PlanFor,
    agree_on_speeds,
    plan_batches,
    refuse_large_batch,
    sound_shards,
    staged_where_asked,
)
from rcdp_hpc.training.resume_file import read_resume
from rcdp_hpc.training.session import Session, decisive_settings, user_code
from rcdp_hpc.training.solve.dictionary_fit import learn_extractor
from rcdp_hpc.training.solve.ridge import baseline_of, solve_readout
from rcdp_hpc.training.solve.warm_start import warm_start
from rcdp_hpc.training.states.placement import place_states
from rcdp_hpc.training.threads import threads_of_rank

log = logging.getLogger(__name__)

# Beyond it the ridge's sums and factorisations take longer than most trainings.
BASELINE_WIDTH = 10_000


def train(context: StageContext) -> dict[str, Any]:
    """Train the readout on all ranks, or go on from the last checkpoint.

    Parameters
    ----------
    context : StageContext
        The best candidate of the search is already in its configuration. The shards of its run directory are read;
        checkpoints, metrics and the model are written there.

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
    config, comm, run = context.config, context.comm, context.run
    if not config.readout.trained:
        return _solve(config, comm, run)
    shards = agree(comm, lambda: open_shards(config, run.shards))
    # Rank 0 decides for all: on a network file system ranks may not see the same files at the same moment.
    saved = run_on_root(comm, lambda: _load_checkpoint(config, run, shards))
    session = Session(config, comm, run, shards)
    if saved is not None and session.is_over(saved):
        log.info("training is over already: %s", saved["trainer"]["position"]["finished"])
        run_on_root(comm, partial(_see_to_model, config, run, shards, saved))
        return session.summary(saved["trainer"]["position"])
    agree(comm, lambda: refuse_without_gpu(config, device()))
    set_up_device(device(), config)
    parallel = parallel_for(comm, config.run.stall_seconds, config.parallel)
    session.threads = _threads(config, comm, shards, saved)
    if saved is not None and saved["ranks"] != comm.size:
        _tell_other_ranks(config, comm.size, saved, shards.rows("train"))
    with limit_threads(session.threads):
        reservoir = agree(comm, lambda: _build_reservoir(config, shards))
        speeds = agree_on_speeds(config, comm, reservoir, shards, saved)
        plan_for = partial(plan_batches, config, comm, saved, speeds)
        with staged_where_asked(config, comm, shards, plan_for):
            session.shards = sound_shards(config, comm, run, shards, saved, plan_for)
            session.learned = learn_extractor(config, comm, run, session.shards, reservoir)
            trainer = _prepare_trainer(config, comm, run, session.shards, parallel, reservoir, plan_for)
            session.shards.close()
        session.begin(trainer, saved)
        session.run_to_the_end()
    summary = session.summary(asdict(session.trainer.position))
    for line in summary_table(session.reports) if session.reports else ():
        log.info("%s", line)
    log.info(
        "training ended: %s; best epoch %d, validation accuracy %.2f %%",
        *(summary["ended"], summary["best_epoch"], 100 * summary["validation_accuracy"]),
    )
    return summary


def _load_checkpoint(config: Config, run: RunDirectory, shards: ShardSet) -> dict[str, Any] | None:
    saved = read_resume(run.train)
    if saved is None:
        return None
    where = str(run.train / "last.pt")
    refuse_other_settings(where, json.loads(saved["settings"]), decisive_settings(config), "training")
    refuse_other_shards(where, saved["shards"], shards)
    _report_changed_code(where, json.loads(saved["code"]), user_code(config))
    return saved


def _report_changed_code(where: str, saved: Mapping[str, str], current: Mapping[str, str]) -> None:
    """Log a warning for each of the user's modules that has changed since the checkpoint was written."""
    for module in sorted(set(saved) | set(current)):
        if saved.get(module) != current.get(module):
            log.warning(
                "module %s has changed since %s was written: the rest of the training uses the new code", module, where
            )


def _see_to_model(config: Config, run: RunDirectory, shards: ShardSet, saved: dict[str, Any]) -> None:
    """See that the model of a finished training is sound; write it again from the checkpoint if that has all of it."""
    try:
        ModelFile.read(run.model)
    except DataDamagedError as error:
        # What an extractor learned, and the digests of the user's modules, are not in the checkpoint.
        if extractor_choice(config.extractor.kind).learned or named_code(config):
            raise
        log.warning("%s The model is written again from the checkpoint.", error)
        ModelFile.write(run.model, config, shards, saved["trainer"]["best_weights"])


def _baseline_is_there(run: RunDirectory) -> bool:
    """Tell whether the ridge baseline of a training that is resumed is there; a damaged one is fitted again."""
    path = run.train / "ridge.pt"
    if not (run.train / "last.pt").exists() or not path.exists():
        return False
    try:
        ModelFile.read(path, "The baseline is fitted again.")
    except DataDamagedError as error:
        log.warning("%s", error)
        return False
    return True


def refuse_other_shards(where: str, digest: str, shards: ShardSet) -> None:
    """Raise an `InputError` where `where` was made from other shards: their rows may be in another split now."""
    if digest != shards.digest:
        raise InputError(
            f"{where} was made from other shards than those that are there now. Train anew with --restart, or put the "
            "earlier shards back."
        )


def _threads(config: Config, comm: Communicator, shards: ShardSet, saved: dict[str, Any] | None) -> int:
    """Threads per rank: as in the run that is resumed, or as `threads_of_rank` chooses."""
    if saved is not None and saved["ranks"] == comm.size:
        return int(saved["threads"])
    return threads_of_rank(config, comm, shards)


def _tell_other_ranks(config: Config, ranks: int, saved: dict[str, Any], rows: int) -> None:
    """Tell what becomes of the batches where so many ranks go on with what another number began."""
    before, position = kept_slabs(config.partition.count, saved), saved["trainer"]["position"]
    now = slabs_for(before, ranks)
    words = f"resuming on {ranks} ranks what ran on {saved['ranks']}"
    words += f": batches stay {saved['global_batch']} rows over all ranks"
    if now == before:
        log.info("%s, results are equal to rounding", words)
        return
    words += f", but are drawn from {now} slabs instead of {before}, one at least for each rank"
    seen = min(rows, position["step"] * config.training.accumulate * saved["global_batch"])
    if seen:
        words += (
            f"; of the {rows - seen} rows that epoch {position['epoch'] + 1} goes on with, some are among the {seen} "
            "it has seen, and as many are left out"
        )
    log.warning("%s; results are not those of %d ranks", words, saved["ranks"])


def _solve(config: Config, comm: Communicator, run: RunDirectory) -> dict[str, Any]:
    """Solve the readout by ridge instead of training it."""
    shards = agree(comm, lambda: open_shards(config, run.shards))
    threads = threads_of_rank(config, comm, shards)
    with limit_threads(threads):
        reservoir = agree(comm, lambda: _build_reservoir(config, shards))
        speeds = agree_on_speeds(config, comm, reservoir, shards, None)
        plan_for = partial(plan_batches, config, comm, None, speeds)
        with staged_where_asked(config, comm, shards, plan_for):
            sound = sound_shards(config, comm, run, shards, None, plan_for)
            learn_extractor(config, comm, run, sound, reservoir)
            plan = plan_for(sound.rows("train"))
            result = solve_readout(config, comm, run, sound, reservoir, plan, threads)
            sound.close()
        return result


def _prepare_trainer(
    config: Config,
    comm: Communicator,
    run: RunDirectory,
    shards: ShardSet,
    parallel: SingleProcessEngine,
    reservoir: StateSource,
    plan_for: PlanFor,
) -> Trainer:
    plan = plan_for(shards.rows("train"))
    refuse_large_batch(config, plan)
    pieces = [plan.slab_bounds(slab) for slab in plan.own_slabs]
    validation = rows_by_speed(shards.rows("validation"), comm.rank, comm.size, plan.speeds)
    train_states, validation_states = place_states(config, comm, reservoir, shards, pieces, validation)
    classes = len(shards.classes)
    network = agree(
        comm,
        lambda: build_network(config, shards.sample_shape, reservoir, classes, config.run.seed, parallel),
    )
    trainer = Trainer(config, config.run.seed, classes, network, train_states, validation_states, plan, comm, parallel)
    trainer.show_progress = comm.is_root and config.run.progress
    known = config.training.baseline and run_on_root(comm, partial(_baseline_is_there, run))
    if config.training.baseline and config.extractor.trained:
        log.info("no ridge baseline: states change while the extractor is trained")
    elif config.training.baseline and reservoir.width > BASELINE_WIDTH:
        log.info("no ridge baseline: %d values a sample are too many to solve for", reservoir.width)
    elif config.training.baseline and not known:
        states = (train_states, validation_states)
        fit = baseline_of(config, comm, run, shards, states, plan, reservoir)
        if config.readout.warm_start and isinstance(network, MLPReadout):
            warm_start(network, fit)
    return trainer


def _report_one_step(config: Config, shards: ShardSet) -> None:
    """Log what a reservoir is for samples of one step, as the rows of a table."""
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


def _build_reservoir(config: Config, shards: ShardSet) -> StateSource:
    check_images(config, shards.sample_shape, shards.shortest)
    check_sequences(config, shards.sample_shape, shards.shortest)
    check_warm_start(config, len(shards.classes))
    check_user_readout(config, shards.sample_shape, len(shards.classes))
    source = make_source(config, shards.sample_shape, device())
    _report_one_step(config, shards)
    if config.readout.warm_start and source.width > BASELINE_WIDTH:
        raise InputError(
            f"readout.warm_start starts from a ridge readout, and {source.width} values a sample are too many to "
            f"solve for (at most {BASELINE_WIDTH}): set it to false, or keep fewer states"
        )
    return source

"""The rows that a rank reads: its share, from undamaged shards, if configured from node-local copies."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.repair import RefilledShards, log_replaced, replacement_record, without_damaged
from rcdp_hpc.data.shards.stage_in import staged_in
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree_on_root, agreed
from rcdp_hpc.runtime.digests import write_sealed
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.checks import check_batch, check_ranks
from rcdp_hpc.training.partition.batches import BatchPlan, partitions_per_rank, resumed_partitions
from rcdp_hpc.training.partition.load_balance import Speeds, measured_rate, rows_by_speed, speeds_of_ranks
from rcdp_hpc.training.training_checkpoint import TrainingCheckpoint

log = logging.getLogger(__name__)

# Returns this rank's batches for a number of training rows.
PlanFor = Callable[[int], BatchPlan]


def agree_on_speeds(
    config: Config,
    comm: Communicator,
    reservoir: StateSource,
    shards: ShardReader,
    saved: TrainingCheckpoint | None,
) -> Speeds:
    """Return the ranks' speeds, the same on every rank, and log the partitions of each. Collective."""
    steps, features = reservoir.sequencer.shape(shards.sample_shape)
    speeds = speeds_of_ranks(config, comm, partial(measured_rate, reservoir, steps, features), saved)
    if speeds:
        counts = partitions_per_rank(plan_batches(config, comm, saved, speeds, shards.rows("train")))
        log.info("speeds of the ranks: %s; partitions: %s", list(speeds), counts)
        if max(speeds) / min(speeds) > 1.5 * max(counts) / min(counts):
            log.warning("%d partitions are too few for shares by these speeds: raise partition.count", sum(counts))
    return speeds


def plan_batches(
    config: Config, comm: Communicator, saved: TrainingCheckpoint | None, speeds: Speeds, rows: int
) -> BatchPlan:
    """Return this rank's batches; a resumed training keeps its global batch and its number of partitions."""
    settings = config.training
    try:
        check_ranks(rows, comm.size)
    except InputError as error:
        raise agreed(error) from None
    # With another global batch, the steps of a resumed training would have other rows.
    global_batch = saved.global_batch if saved is not None else settings.global_batch or settings.batch * comm.size
    partitions = resumed_partitions(config.partition.count, saved)
    every = config.partition.reshuffle_every
    return BatchPlan(rows, global_batch, partitions, comm.rank, comm.size, config.run.seed, speeds, every)


def refuse_large_batch(config: Config, plan: BatchPlan) -> None:
    """Raise an `InputError` on all ranks if a step has more rows than the training part."""
    try:
        check_batch(config, plan.rows, plan.ranks, plan.global_batch)
    except InputError as error:
        raise agreed(error) from None


def undamaged_shards(
    config: Config,
    comm: Communicator,
    run: RunDirectory,
    shards: ShardReader,
    saved: TrainingCheckpoint | None,
    plan_for: PlanFor,
) -> ShardReader:
    """Return the shards, with damaged ones replaced if ``data.on_damage = "replace"``. Collective.

    Shards that were left out when the checkpoint was written stay left out, even if they are repaired, since a resumed
    training keeps its rows.
    """
    known = {} if saved is None else saved.replaced
    view = without_damaged(
        comm,
        shards,
        known,
        search=config.data.on_damage == "replace",
        local_rows=lambda rows: plan_for(rows).local_rows,
        check_stop=lambda: signals.raise_if_stopped("checking the shards"),
    )
    if isinstance(view, RefilledShards):
        log_replaced(view, known)
        if saved is not None and view.rows("train") != saved.rows:
            log.warning(
                "%d training rows instead of %d: the resumed epoch sees some rows twice, and misses others",
                *(view.rows("train"), saved.rows),
            )
        agree_on_root(comm, partial(write_sealed, run.train / "replaced.json", replacement_record(view)))
    return view


def staged_if_configured(
    config: Config, comm: Communicator, shards: ShardReader, plan_for: PlanFor
) -> AbstractContextManager[None]:
    """Read from node-local copies within the block, if ``data.stage_in`` is set. Collective."""
    if not config.data.stage_in:
        return nullcontext()
    plan = plan_for(shards.rows("train"))
    validation = rows_by_speed(shards.rows("validation"), comm.rank, comm.size, plan.rank_speeds)
    ranges = [("train", *plan.local_rows), ("validation", *validation)]
    return staged_in(comm, shards, ranges, lambda: signals.raise_if_stopped("copying shards"))

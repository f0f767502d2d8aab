"""Which rows a rank reads: its share by speed, from copies nearby, and none that are damaged."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import ShardSet
from rcdp_hpc.data.shards.repair import RefilledShards, log_replaced, replacement_record, without_damaged
from rcdp_hpc.data.shards.stage_in import staged_in
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed
from rcdp_hpc.runtime.digests import write_sealed
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.checks import check_batch, check_ranks
from rcdp_hpc.training.partition.batches import BatchPlan, kept_slabs, slabs_of_ranks
from rcdp_hpc.training.partition.load_balance import Speeds, measured_rate, rows_by_speed, speeds_of_ranks

log = logging.getLogger(__name__)

# Given the number of training rows, returns this rank's batches.
PlanFor = Callable[[int], BatchPlan]


def agree_on_speeds(
    config: Config,
    comm: Communicator,
    reservoir: StateSource,
    shards: ShardSet,
    saved: dict[str, Any] | None,
) -> Speeds:
    """Agree on the ranks' speeds, and tell what follows from them."""
    steps, features = reservoir.sequencer.shape(shards.sample_shape)
    speeds = speeds_of_ranks(config, comm, partial(measured_rate, reservoir, steps, features), saved)
    if speeds:
        slabs = slabs_of_ranks(plan_batches(config, comm, saved, speeds, shards.rows("train")))
        log.info("speeds of the ranks: %s; slabs: %s", list(speeds), slabs)
        if max(speeds) / min(speeds) > 1.5 * max(slabs) / min(slabs):
            log.warning("%d slabs are too few to follow these speeds: raise partition.count", sum(slabs))
    return speeds


def plan_batches(
    config: Config, comm: Communicator, saved: dict[str, Any] | None, speeds: Speeds, rows: int
) -> BatchPlan:
    """Return this rank's batches of so many training rows; a resumed run keeps its global batch and its slabs."""
    settings = config.training
    try:
        check_ranks(rows, comm.size)
    except InputError as error:
        raise agreed(error) from None
    # A resumed run keeps its global batch on any number of ranks, or its steps would mean other rows.
    global_batch = saved["global_batch"] if saved is not None else settings.global_batch or settings.batch * comm.size
    slabs = kept_slabs(config.partition.count, saved)
    again = config.partition.reshuffle_every
    return BatchPlan(rows, global_batch, slabs, comm.rank, comm.size, config.run.seed, speeds, again)


def refuse_large_batch(config: Config, plan: BatchPlan) -> None:
    """Raise an `InputError` on all ranks if a step takes more rows than there are."""
    try:
        check_batch(config, plan.rows, plan.ranks, plan.global_batch)
    except InputError as error:
        raise agreed(error) from None


def sound_shards(
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
    known = {} if saved is None else json.loads(saved["replaced"])
    view = without_damaged(
        comm,
        shards,
        known,
        search=config.data.on_damage == "replace",
        local_rows=lambda rows: plan_for(rows).own_rows,
        check_stop=lambda: signals.raise_if_stopped("checking the shards"),
    )
    if isinstance(view, RefilledShards):
        log_replaced(view, known)
        if saved is not None and view.rows("train") != saved["rows"]:
            log.warning(
                "%d training rows instead of %d: the epoch that is gone on with sees some rows twice, and others not",
                *(view.rows("train"), saved["rows"]),
            )
        agree(
            comm,
            partial(write_sealed, run.train / "replaced.json", replacement_record(view))
            if comm.is_root
            else lambda: None,
        )
    return view


def staged_where_asked(
    config: Config, comm: Communicator, shards: ShardSet, plan_for: PlanFor
) -> AbstractContextManager[None]:
    """Read from node-local copies within the block, where that is asked for."""
    if not config.data.stage_in:
        return nullcontext()
    plan = plan_for(shards.rows("train"))
    validation = rows_by_speed(shards.rows("validation"), comm.rank, comm.size, plan.speeds)
    pieces = [("train", *plan.own_rows), ("validation", *validation)]
    return staged_in(comm, shards, pieces, lambda: signals.raise_if_stopped("copying shards"))

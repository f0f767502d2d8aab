"""The rows that a ridge readout is fitted to: states computed on access, or cached states."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.reservoir.device_sums import sums_device
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, run_on_root
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.solve.member_rows import MemberRows
from rcdp_hpc.training.solve.ridge_fit import (
    ORIGINAL,
    SYNTHETIC,
    VALIDATION,
    Blocks,
    GatheredRows,
    RowSource,
    feature_bound,
)
from rcdp_hpc.training.states.cache import CachedStates, state_blocks
from rcdp_hpc.training.states.shifts import shifts_within

DOING = "summing reservoir states"
SPLITS = ("train", "validation")


def streamed_source(
    config: Config, comm: Communicator, shards: ShardReader, reservoir: StateSource, plan: BatchPlan, progress: Progress
) -> RowSource:
    """Return rows whose states are computed on access and not stored.

    Blocks are within one partition. Gathered rows, however, are computed in blocks of ``reservoir.batch_rows`` over the
    whole split, which are divided among the ranks: with few rows, blocks within a partition would be small and several
    times as slow.
    """
    shifts = shifts_within(config.augment.shifts)
    joined = extractor_of(config, shards.sample_shape).joined_features
    joined_at = reservoir.width - joined if joined else 0
    device = sums_device(reservoir.device)

    def blocks(split: str, start: int, stop: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        copies = shifts if split == "train" else shifts[:1]
        for _, states, labels in state_blocks(reservoir, shards, split, start, stop, progress, DOING, shifts=copies):
            yield states, labels

    def partitions(split: str) -> Iterable[Blocks]:
        return (blocks(split, *bounds) for bounds in _local_bounds(plan, shards.rows(split)))

    def gather() -> GatheredRows | None:
        parts = []
        for split in SPLITS:
            bounds = blocks_of_rank(shards.rows(split), reservoir.batch_rows, comm.rank, comm.size)
            parts.append(agree(comm, partial(_rows_of, shards, split, blocks(split, *bounds), *bounds, device)))
        return _gathered(comm, reservoir.width, parts, joined_at)

    rows, counts = shards.rows("train") * len(shifts), shards.class_counts("train") * len(shifts)
    return RowSource(
        reservoir.width, len(shards.classes), rows, shards.rows("validation"), counts,
        lambda: partitions("train"), lambda: partitions("validation"), gather, feature_bound(config), device=device,
        names=tuple(shards.classes),
    )  # fmt: skip


def drawn_rows(
    config: Config, comm: Communicator, shards: ShardReader, plan: BatchPlan, source: RowSource
) -> MemberRows | None:
    """Return the rows of each member of an ensemble, drawn from those of `streamed_source`. Collective.

    None if ``readout.member_rows`` says that all members have all rows.
    """
    if config.readout.member_rows == "all":
        return None

    def labels() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        train, validation = (
            shards.columns(split, 0, shards.rows(split), ("y",))["y"].astype(np.int64) for split in SPLITS
        )
        return train, validation

    starts = tuple([start for start, _ in _local_bounds(plan, shards.rows(split))] for split in SPLITS)
    of_all = run_on_root(comm, labels)
    return MemberRows(source, of_all, (starts[0], starts[1]), config.readout.member_ratio, config.run.seed)


def cached_source(
    config: Config,
    comm: Communicator,
    shards: ShardReader,
    states: tuple[CachedStates, CachedStates],
    plan: BatchPlan,
    batch_rows: int,
) -> RowSource:
    """Return rows with cached states: each rank's partitions of the training rows, and its validation rows."""
    train, validation = states
    device = sums_device(train.device)

    def blocks(start: int, stop: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for block in train.blocks(batch_rows, start - train.first, stop - train.first):
            signals.raise_if_stopped(DOING)
            yield block

    def gather() -> GatheredRows | None:
        parts = []
        for split, rows in zip(SPLITS, states, strict=True):
            bounds = rows.first, rows.first + len(rows)
            parts.append(agree(comm, partial(_rows_of, shards, split, rows.blocks(batch_rows), *bounds, device)))
        return _gathered(comm, train.states.shape[1], parts)

    return RowSource(
        train.states.shape[1], len(shards.classes), shards.rows("train"), shards.rows("validation"),
        shards.class_counts("train"), lambda: (blocks(*bounds) for bounds in _local_bounds(plan, shards.rows("train"))),
        lambda: [validation.blocks(batch_rows)], gather, feature_bound(config), device=device,
        names=tuple(shards.classes),
    )  # fmt: skip


def blocks_of_rank(rows: int, batch_rows: int, rank: int, ranks: int) -> tuple[int, int]:
    """Return the first row of a rank's blocks and one after the last; blocks are not divided."""
    count = math.ceil(rows / batch_rows)
    first, last = (min(rows, batch_rows * (end * count // ranks)) for end in (rank, rank + 1))
    return first, last


def _local_bounds(plan: BatchPlan, rows: int) -> list[tuple[int, int]]:
    """Return first row and one after the last of each partition of this rank, in a split of `rows` rows."""
    of_split = replace(plan, rows=rows)
    return [of_split.partition_bounds(partition) for partition in of_split.local_partitions]


Part = tuple[list[torch.Tensor], NDArray[np.int64], NDArray[np.int64]]


def _rows_of(
    shards: ShardReader, split: str, blocks: Blocks, start: int, stop: int, device: torch.device | None = None
) -> Part:
    """Return states in blocks, on the CPU or a device, class indices and origins of consecutive rows."""
    computed = [(states.to(device or "cpu"), labels.cpu().numpy()) for states, labels in blocks]
    if split == "validation":
        origins = np.full(stop - start, VALIDATION)
    else:
        synthetic = shards.columns(split, start, stop, ["synthetic"])["synthetic"].astype(bool)
        origins = np.where(synthetic, SYNTHETIC, ORIGINAL)
    labels = [classes for _, classes in computed] or [np.empty(0, np.int64)]
    return [states for states, _ in computed], np.concatenate(labels), origins


def _gathered(comm: Communicator, width: int, parts: list[Part], joined_at: int = 0) -> GatheredRows | None:
    """Return the rows of all ranks on rank 0, by split and then by rank; None on other ranks."""
    stacked = [_stacked(comm, width, *part) for part in parts]
    if not comm.is_root:
        return None
    states, labels, origins = zip(*(part for part in stacked if part is not None), strict=True)
    return GatheredRows(torch.cat(states), np.concatenate(labels), np.concatenate(origins), joined_at)


def _stacked(
    comm: Communicator, width: int, states: list[torch.Tensor], labels: NDArray[np.int64], origins: NDArray[np.int64]
) -> tuple[torch.Tensor, NDArray[np.int64], NDArray[np.int64]] | None:
    local = torch.cat(states) if states else torch.empty((0, width))
    if comm.size == 1:
        return local, labels, origins
    # float64 represents states of 32 bits or fewer, and class indices, exactly.
    rows = comm.gather_rows(np.column_stack([local.double().cpu().numpy(), labels, origins]))
    if rows is None:
        return None
    return (
        torch.from_numpy(rows[:, :width]).float().to(local.device),
        rows[:, width].astype(np.int64),
        rows[:, width + 1].astype(np.int64),
    )

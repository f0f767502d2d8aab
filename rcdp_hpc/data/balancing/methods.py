"""Balancing the training part of a source under a configuration: one place for all methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.balancing.lengths import stretched
from rcdp_hpc.data.balancing.rules import Balancing
from rcdp_hpc.data.balancing.targets import class_targets
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.rows import RowTable, make_samples, original_rows, stacked, synthetic_rows
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.data.sources import Source
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.progress import Progress

if TYPE_CHECKING:
    from rcdp_hpc.data.balancing.smote import SmoteDraw

READ_BYTES = 2**22
# Methods that neither add nor remove rows of a class that has its target already.
CLASS_BY_CLASS = ("smote", "random_over", "random_under")


def balanced_rows(
    source: Source,
    train: NDArray[np.int64],
    data: DataSection,
    seed: int,
    storage: Storage,
    progress: bool = False,
    check_stop: Callable[[], None] = lambda: None,
    quiet: bool = False,
) -> RowTable:
    """Return the rows of the training part after balancing, not yet in the order of the shards.

    Parameters
    ----------
    source : Source
        The samples.
    train : ndarray of int64
        Ascending indices of the training samples.
    data : DataSection
        ``balance`` and its options, and ``memory_budget``; with ``folds``, the rows are those of a fold, in which
        classes may be absent, and SMOTE repeats the sample of a class that has only one.
    seed : int
        ``run.seed``.
    storage : Storage
        How samples are stored: neighbours are found among the values that are stored.
    progress : bool
        Show progress.
    check_stop : callable
        Called between blocks of work; what it raises ends the balancing.
    quiet : bool
        Do not warn of classes with too few samples for SMOTE.

    Raises
    ------
    InputError
        If the method cannot be used on these samples, or does not fit ``data.memory_budget``.
    """
    labels = source.train.y[train]
    if data.balance == "none":
        return original_rows(labels, train)
    classes = source.classes
    members = [train[labels == label] for label in range(len(classes))]
    situation = Balancing.of(source, [len(own) for own in members], data)
    targets = situation.targets(data.balance)
    situation.check()
    if data.balance in CLASS_BY_CLASS and targets == [len(own) for own in members]:
        return original_rows(labels, train)
    # Imported here: scikit-learn takes seconds to load, and training rows that stay as they are do without it.
    from rcdp_hpc.data.balancing import smote

    if data.balance == "random_under":
        kept = np.sort(np.concatenate(smote.thinned(members, targets, seed)))
        return original_rows(source.train.y[kept], kept)
    rows = original_rows(labels, train)
    if data.balance == "random_over":
        plans = smote.plan_copies(members, targets, seed)
        return stacked([rows, *(synthetic_rows(p.label, p.source, p.neighbour, p.step) for p in plans)])
    if data.balance in ("smote", "smote_tomek", "smote_enn"):
        draws = smote.draw_smote(members, classes, data.smote_neighbours, seed, targets, data.folds > 0, quiet)
        made = smote_rows("neighbours", source, members, draws, data, storage, progress, check_stop)
        rows = stacked([rows, *made])
        return rows if data.balance == "smote" else _cleaned(source, rows, situation, storage)
    samples = comparable(source, storage)
    return stacked([rows, *_whole(source, train, labels, situation, seed, samples, targets)])


def smote_rows(
    title: str,
    source: Source,
    members: Sequence[NDArray[np.int64]],
    draws: Sequence[SmoteDraw],
    data: DataSection,
    storage: Storage,
    progress: bool,
    check_stop: Callable[[], None],
) -> list[RowTable]:
    """Return the rows of each draw, their neighbours found under a progress bar of this title; see `balanced_rows`."""
    from rcdp_hpc.data.balancing.smote import plan_smote

    searched = sum(len(draw.searched) for draw in draws)
    size = 4 * math.prod(source.sample_shape)
    with Progress(title, searched, "samples", enabled=progress, unit_bytes=size) as bar:

        def advance(done: int) -> None:
            bar.advance(done)
            check_stop()

        plans = plan_smote(comparable(source, storage), members, draws, advance, Budget.of(data).held)
    return [synthetic_rows(plan.label, plan.source, plan.neighbour, plan.step) for plan in plans]


def _whole(
    source: Source,
    train: NDArray[np.int64],
    labels: NDArray[np.int64],
    situation: Balancing,
    seed: int,
    samples: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    targets: list[int],
) -> list[RowTable]:
    from rcdp_hpc.data.balancing import whole_set

    x = samples(train).reshape(len(train), -1)
    data = situation.data
    try:
        made = whole_set.made_rows(data.balance, x, labels, targets, data.smote_neighbours, seed, source.categories)
    except whole_set.UnsuitedError as error:
        raise InputError(
            f"data.balance = '{data.balance}' does not suit these samples, imbalanced-learn refuses them ({error}): "
            f"{situation.advice()}."
        ) from None
    return [
        RowTable(table.y, train[table.source], train[table.neighbour], table.step, table.categories) for table in made
    ]


def _cleaned(source: Source, rows: RowTable, situation: Balancing, storage: Storage) -> RowTable:
    from rcdp_hpc.data.balancing.whole_set import kept_rows

    x = np.empty((len(rows), math.prod(source.sample_shape)), np.float32)
    size = max(1, READ_BYTES // (4 * x.shape[1]))
    for start in range(0, len(rows), size):
        part = rows.part(slice(start, start + size))
        x[start : start + size] = make_samples(source, part, storage).reshape(len(part), -1)
    kept = rows.part(kept_rows(situation.data.balance, x, rows.y))
    emptied = [name for name, count in zip(source.classes, kept.counts(len(source.classes)), strict=True) if not count]
    if emptied:
        raise InputError(
            f"data.balance = '{situation.data.balance}' would clean away all rows of class {', '.join(emptied)}: "
            f"{situation.advice()}."
        )
    return kept


def comparable(source: Source, storage: Storage) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """Return a function that reads samples as distances are taken: sequences stretched to the longest."""
    size = max(1, READ_BYTES // (4 * math.prod(source.sample_shape)))

    def read_block(indices: NDArray[np.int64]) -> NDArray[np.float32]:
        x = storage.rounded(source.samples(indices))
        lengths = source.lengths(indices)
        return x if lengths is None else stretched(x, lengths, x.shape[1])

    def read(indices: NDArray[np.int64]) -> NDArray[np.float32]:
        if len(indices) <= size:
            return read_block(indices)
        # In blocks: on their way, samples are in memory a few times.
        x = np.empty((len(indices), *source.sample_shape), np.float32)
        for start in range(0, len(indices), size):
            x[start : start + size] = read_block(indices[start : start + size])
        return x

    return read


def wanted_rows(counts: Sequence[int], classes: Sequence[str], data: DataSection) -> list[int]:
    """Return the rows that each class should have after balancing; without balancing, those it has."""
    if data.balance == "none":
        return list(counts)
    return class_targets(counts, classes, data.balance, data.balance_ratio, data.balance_counts)


def exact_method(source: Source, counts: Sequence[int], data: DataSection) -> str:
    """Return a method of balancing that reaches its targets on these samples."""
    return Balancing.of(source, counts, data).accepted()[0]

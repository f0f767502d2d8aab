"""The reserve: synthetic rows of every class, stored separately, that replace rows lost with damaged shards."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.balancing.base import BalancingTask, OverSampling
from rcdp_hpc.data.balancing.methods import wanted_rows
from rcdp_hpc.data.balancing.registry import load_method
from rcdp_hpc.data.balancing.suitability import Suitability, reserve_method
from rcdp_hpc.data.rows import RowTable, stacked
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.data.sources import Source
from rcdp_hpc.errors import InputError

log = logging.getLogger(__name__)

# Keeps the random numbers of the reserve apart from those of the balancing.
_RESERVE_DRAWS = 4


def reserve_size(rows: int, share: float) -> int:
    """Return how many rows the reserve has for a class with this number of training rows."""
    return math.ceil(share * rows)


def reserve_rows(
    source: Source,
    train: RowTable,
    data: DataSection,
    seed: int,
    storage: Storage,
    progress: bool = False,
    check_stop: Callable[[], None] = lambda: None,
) -> RowTable:
    """Plan the reserve: for each class ``data.reserve`` times its training rows, rounded up.

    The rows are made only of samples in the training part, one class at a time, whichever method balanced that part.

    Parameters
    ----------
    source : Source
        The samples.
    train : RowTable
        The training part after balancing.
    data, seed, storage, progress, check_stop
        As in `rcdp_hpc.data.balancing.methods.balanced_rows`.

    Returns
    -------
    RowTable
        Not yet in the order of the shards.

    Raises
    ------
    InputError
        If a class has one sample, from which SMOTE cannot make another.
    """
    samples = np.sort(train.source[~train.synthetic])
    counts = np.bincount(source.train.y[samples], minlength=len(source.classes)).tolist()
    sizes = [reserve_size(rows, data.reserve) for rows in train.counts(len(source.classes))]
    targets = [count + size for count, size in zip(counts, sizes, strict=True)]
    name = reserve_method(data.balance, source.categories)
    if name == "smote" and not data.folds:
        _refuse_single_samples(source.classes, counts)
    reserve_seed = int(np.random.SeedSequence(seed, spawn_key=(_RESERVE_DRAWS,)).generate_state(1)[0])
    title = "neighbours of the reserve"
    task = BalancingTask(source, samples, targets, data, reserve_seed, storage, progress, check_stop, title=title)
    method = load_method(name)
    assert isinstance(method, OverSampling)
    rows = stacked(method.synthetic(task))
    log.info("reserve: %d synthetic rows stored separately", sum(sizes))
    return rows


def refuse_small_classes(source: Source, before: Sequence[int], data: DataSection) -> None:
    """Raise an `InputError` if the classes are too small for the balancing or the reserve, before either begins."""
    Suitability.of(source, before, data).check()
    if data.reserve and not data.folds and reserve_method(data.balance, source.categories) == "smote":
        wanted = wanted_rows(before, source.classes, data)
        _refuse_single_samples(source.classes, [min(pair) for pair in zip(before, wanted, strict=True)])


def _refuse_single_samples(classes: Sequence[str], counts: Sequence[int]) -> None:
    for name, count in zip(classes, counts, strict=True):
        if count < 2:
            raise InputError(
                f"data.reserve: class {name} has too few training samples ({count}) for SMOTE to make others. Give it "
                "more samples, or set data.reserve = 0 or data.balance = 'random_over'."
            )

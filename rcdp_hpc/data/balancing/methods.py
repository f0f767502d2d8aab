"""Balancing the training part of a source with the method that the configuration names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.choices import balancing_choice
from rcdp_hpc.data.balancing.base import BalancingTask, UnsuitedError
from rcdp_hpc.data.balancing.registry import load_method, method_choice
from rcdp_hpc.data.balancing.suitability import Suitability
from rcdp_hpc.data.balancing.targets import class_targets
from rcdp_hpc.data.rows import RowTable
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.data.sources import Source
from rcdp_hpc.errors import InputError


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
    train : ndarray of int64, shape (N,)
        Ascending indices of the training samples.
    data : DataSection
        ``balance`` and its options, and ``memory_budget``. With ``folds``, the rows are those of a fold, in which
        classes may be absent; SMOTE then repeats the sample of a class that has only one.
    seed : int
        Seed of all random numbers.
    storage : Storage
        How samples are stored: distances are computed between stored values.
    progress : bool
        Show progress.
    check_stop : callable
        Called between blocks of work; raises an exception to stop.
    quiet : bool
        Do not warn of classes with too few samples for SMOTE.

    Raises
    ------
    InputError
        If the method does not suit these samples, needs more than ``data.memory_budget``, removes all rows of a
        class, or is a user's class that breaks its contract.
    """
    counts = np.bincount(source.train.y[train], minlength=len(source.classes)).tolist()
    suitability = Suitability.of(source, counts, data)
    targets = suitability.targets(data.balance)
    suitability.check()
    task = BalancingTask(source, train, targets, data, seed, storage, progress, check_stop, quiet)
    # Returns early to avoid the import of scikit-learn, which takes seconds.
    if targets == counts and not balancing_choice(data.balance).cleans:
        return task.originals()
    try:
        rows = load_method(data.balance).rows(task)
    except UnsuitedError as error:
        raise InputError(f"data.balance = '{data.balance}' {error}: {suitability.advice()}.") from None
    after = rows.counts(len(source.classes))
    emptied = [name for name, before, left in zip(source.classes, counts, after, strict=True) if before and not left]
    if emptied:
        raise InputError(
            f"data.balance = '{data.balance}' would remove all rows of class {', '.join(emptied)}: "
            f"{suitability.advice()}."
        )
    return rows


def wanted_rows(counts: Sequence[int], classes: Sequence[str], data: DataSection) -> list[int]:
    """Return the rows that each class should have after balancing.

    Parameters
    ----------
    counts : sequence of int
        Training samples of each class.
    classes : sequence of str
        Names of the classes.
    data : DataSection
        ``balance``, ``balance_ratio`` and ``balance_counts`` are used.
    """
    return class_targets(counts, classes, method_choice(data.balance), data.balance_ratio, data.balance_counts)


def exact_method(source: Source, counts: Sequence[int], data: DataSection) -> str:
    """Return the name of a balancing method that reaches its targets on these samples."""
    return Suitability.of(source, counts, data).accepted()[0]

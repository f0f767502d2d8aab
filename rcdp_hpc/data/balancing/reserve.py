"""The reserve: synthetic rows of every class, kept aside to stand in for rows that damaged shards lose."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.balancing.methods import smote_rows, wanted_rows
from rcdp_hpc.data.balancing.rules import Balancing
from rcdp_hpc.data.rows import RowTable, stacked, synthetic_rows
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.data.sources import Source
from rcdp_hpc.errors import InputError

log = logging.getLogger(__name__)

# The reserve's draws must not repeat those of the balancing.
_RESERVE_DRAWS = 4


def reserve_method(balance: str, categories: Sequence[int]) -> str:
    """Return how the rows of the reserve are made: by "smote", or as copies ("random_over").

    Copies are made where the training part was balanced by copies, and of samples with categories, which lie on no
    segment.
    """
    return "random_over" if balance == "random_over" or len(categories) else "smote"


def reserve_size(rows: int, share: float) -> int:
    """Return how many rows the reserve keeps for a class of so many training rows."""
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

    Its rows are made of the samples in the training part alone, a class at a time, whatever balanced that part.

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
        If a class has one sample, of which SMOTE makes no other.
    """
    # Imported here, as in `balanced_rows`: scikit-learn takes seconds to load.
    from rcdp_hpc.data.balancing import smote as balance

    made = train.synthetic
    members = [np.sort(train.source[~made & (train.y == label)]) for label in range(len(source.classes))]
    wanted = [reserve_size(rows, data.reserve) for rows in train.counts(len(source.classes))]
    targets = [len(own) + rows for own, rows in zip(members, wanted, strict=True)]
    own_seed = int(np.random.SeedSequence(seed, spawn_key=(_RESERVE_DRAWS,)).generate_state(1)[0])
    if reserve_method(data.balance, source.categories) == "random_over":
        plans = balance.plan_copies(members, targets, own_seed)
        rows = [synthetic_rows(plan.label, plan.source, plan.neighbour, plan.step) for plan in plans]
    else:
        repeats = data.folds > 0
        if not repeats:
            _refuse_single_samples(source.classes, [len(own) for own in members])
        draws = balance.draw_smote(members, source.classes, data.smote_neighbours, own_seed, targets, repeats)
        rows = smote_rows("neighbours of the reserve", source, members, draws, data, storage, progress, check_stop)
    log.info("reserve: %d synthetic rows kept aside", sum(wanted))
    return stacked(rows)


def refuse_small_classes(source: Source, before: Sequence[int], data: DataSection) -> None:
    """Raise an `InputError` if the classes are too small for the balancing or the reserve, before either begins."""
    Balancing.of(source, before, data).check()
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

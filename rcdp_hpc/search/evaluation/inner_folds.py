"""Cross-validation within the fitness: folds of real rows.

If the readout is ridge, all folds are evaluated from one pass over the training rows, synthetic rows included: a
synthetic row counts in a training part that holds out neither of the two original rows it derives from. Otherwise only
the real rows are used, and the training part of each fold is balanced separately.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import balancing_choice
from rcdp_hpc.data.balancing.methods import balanced_rows
from rcdp_hpc.data.rows import make_samples
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.data.sources.base import Part, Source
from rcdp_hpc.data.split import fold_numbers
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.fold_sums import NO_FOLD

if TYPE_CHECKING:
    from rcdp_hpc.data.shards.reader import Rows

Arrays = dict[str, NDArray[Any]]

# With two folds, the rows between the two folds would never count.
FEWEST_FOLDS = 3


def uses_one_pass(config: Config) -> bool:
    """Return whether all folds are evaluated from one pass over the training rows."""
    return config.search.folds > 1 and not reason_for_separate_folds(config)


def reason_for_separate_folds(config: Config) -> str:
    """Return why the training part of each fold is balanced separately; "" if one pass is enough for all folds.

    One pass needs a ridge readout, three folds or more, and synthetic rows that are computed from two original rows and
    nothing else.
    """
    search, balancing = config.search, balancing_choice(config.data.balance)
    if search.evaluation != "ridge":
        return f"search.evaluation = '{search.evaluation}' has no sums that folds share"
    if search.folds < FEWEST_FOLDS:
        return "a synthetic row between rows of two folds would never count"
    if balancing.rows == "values" or balancing.needs_categories or balancing.cleans:
        return f"data.balance = '{config.data.balance}' computes synthetic rows from more than two original rows"
    return ""


def parent_folds(
    rows: Rows, classes: Sequence[str], config: Config, whole: Mapping[str, NDArray[Any]] | None = None
) -> NDArray[np.int64]:
    """Return the folds of the two original rows that each training row derives from, shape (rows, 2), int64.

    Both are the fold of an original row itself. `NO_FOLD` stands for an original row that is not among these rows, and
    so is never held out; if rows have groups, for one whose group is not among them.

    Parameters
    ----------
    rows : Rows
        Training rows.
    classes : sequence of str
    config : Config
        ``search.folds`` and ``run.seed`` are read.
    whole : mapping, optional
        ``source_index``, ``synthetic`` and ``group`` of the whole training part, if these rows are only its first ones.

    Raises
    ------
    InputError
        If there are fewer original rows than folds.
    """
    real = np.flatnonzero(~np.asarray(rows.synthetic, dtype=bool))
    labels = np.asarray(rows.y, dtype=np.int64)[real]
    groups = None if rows.group is None else np.asarray(rows.group, dtype=np.int64)[real]
    numbers = fold_numbers(labels, classes, config.search.folds, config.run.seed, "search.folds", groups)
    neighbours = np.where(rows.synthetic, rows.neighbour_index, rows.source_index)
    ends = np.stack([rows.source_index, neighbours], axis=1)
    found = _looked_up(ends, np.asarray(rows.source_index)[real], numbers)
    if groups is None or whole is None:
        return found
    original = ~np.asarray(whole["synthetic"], dtype=bool)
    group_of_end = _looked_up(ends, whole["source_index"][original], np.asarray(whole["group"], np.int64)[original])
    return np.where(found == NO_FOLD, _looked_up(group_of_end, groups, numbers), found)


def _looked_up(keys: NDArray[Any], known: NDArray[Any], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the value of each key, of the keys that are known; `NO_FOLD` of others."""
    order = np.argsort(known, kind="stable")
    places = np.searchsorted(known, keys, sorter=order).clip(max=len(known) - 1)
    return np.where(known[order][places] == keys, values[order][places], NO_FOLD)


def balanced_folds(
    x: NDArray[Any],
    y: NDArray[np.int64],
    classes: Sequence[str],
    config: Config,
    storage: Storage,
    categories: tuple[int, ...] = (),
    lengths: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
    masks: int = 0,
) -> list[Arrays]:
    """Return x_train, y_train, x_val and y_val of every fold; only the training part of each is balanced.

    Every fold also has ``synthetic`` and each row's index in `x`: ``origin_train`` (-1 for a synthetic row) and
    ``origin_val``. Sequences of unequal length also have ``lengths_train`` and ``lengths_val``.

    Parameters
    ----------
    x, y : ndarray
        Real rows only: synthetic rows may be computed from rows that a fold holds out.
    classes : sequence of str
    config : Config
        ``search.folds``, ``run.seed`` and the keys of ``[data]`` on balancing are read.
    storage : Storage
        Storage of the rows: synthetic rows are rounded as in shards.
    categories : tuple of int
        Indices of features that are categories.
    lengths : ndarray, shape (rows,), int64, optional
        Number of steps of each padded sample.
    groups : ndarray, shape (rows,), int64, optional
        Number of each row's group, all rows of which are in one fold.
    masks : int
        Mask channels of missing values, the last features, which a synthetic row has of the row it starts from.

    Raises
    ------
    InputError
        If the rows cannot be balanced fold by fold, or a class is too small for it.
    """
    numbers = fold_numbers(y, classes, config.search.folds, config.run.seed, "search.folds", groups)
    data = config.data.model_copy(update={"folds": config.search.folds})
    source = Source(
        "folds", list(classes), Part(x, y, lengths), None, 1.0, "the rows of the fitness", categories,
        mask_channels=masks,
    )  # fmt: skip
    parts = []
    for fold in range(config.search.folds):
        train, held_out = np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)
        try:
            # A class that is small in one fold is small in all, so only the first fold warns.
            rows = balanced_rows(source, train, data, config.run.seed, storage, quiet=fold > 0)
        except InputError as error:
            raise InputError(f"search.folds = {config.search.folds}, fold {fold + 1}: {error}") from None
        x_train = storage.rounded(make_samples(source, rows, storage)).astype(x.dtype, copy=False)
        part = {"x_train": x_train, "y_train": rows.y.astype(np.int64), "x_val": x[held_out], "y_val": y[held_out]}
        part |= {"synthetic": rows.synthetic, "origin_val": held_out}
        part["origin_train"] = np.where(rows.synthetic, -1, rows.source)
        if lengths is not None:  # a synthetic row is as long as the row that it is computed from
            part |= {"lengths_train": lengths[rows.source], "lengths_val": lengths[held_out]}
        parts.append(part)
    return parts

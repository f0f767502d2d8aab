"""Cross-validation within the fitness: folds of real rows, each balanced separately."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.data.balancing.methods import balanced_rows
from rcdp_hpc.data.rows import make_samples
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.data.sources.base import Part, Source
from rcdp_hpc.data.split import fold_numbers
from rcdp_hpc.errors import InputError

Arrays = dict[str, NDArray[Any]]


def balanced_folds(
    x: NDArray[Any],
    y: NDArray[np.int64],
    classes: Sequence[str],
    config: Config,
    storage: Storage,
    categories: tuple[int, ...] = (),
    lengths: NDArray[np.int64] | None = None,
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

    Raises
    ------
    InputError
        If the rows cannot be balanced fold by fold, or a class is too small for it.
    """
    numbers = fold_numbers(y, classes, config.search.folds, config.run.seed, "search.folds")
    data = config.data.model_copy(update={"folds": config.search.folds})
    source = Source("folds", list(classes), Part(x, y, lengths), None, 1.0, "the rows of the fitness", categories)
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

"""Cross-validation within the fitness: folds of real rows, each balanced by itself."""

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

    With them are ``synthetic``, and each row's index among `x`: ``origin_train`` (-1 for a synthetic row) and
    ``origin_val``. Sequences of unequal length have lengths_train and lengths_val with them.

    Parameters
    ----------
    x, y : ndarray
        Real rows alone: synthetic ones could have been made of rows that a fold holds out.
    classes : sequence of str
    config : Config
        Of it are used: ``search.folds``, what ``data`` says of balancing, and ``run.seed``.
    storage : Storage
        How the rows are stored: synthetic rows are rounded as they are in shards.
    categories : tuple of int
        Features that hold categories.
    lengths : ndarray, shape (rows,), int64, optional
        Steps of each padded sample that hold data.

    Raises
    ------
    InputError
        If the rows cannot be balanced fold by fold, or a class is too small for it.
    """
    numbers = fold_numbers(y, classes, config.search.folds, config.run.seed, "search.folds")
    data = config.data.model_copy(update={"folds": config.search.folds})
    source = Source("folds", list(classes), Part(x, y, lengths), None, 1.0, "the rows of the fitness", categories)
    found = []
    for fold in range(config.search.folds):
        train, held_out = np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)
        try:
            # Classes that are small in one fold are small in all: the first fold's warning is enough.
            rows = balanced_rows(source, train, data, config.run.seed, storage, quiet=fold > 0)
        except InputError as error:
            raise InputError(f"search.folds = {config.search.folds}, fold {fold + 1}: {error}") from None
        x_train = storage.rounded(make_samples(source, rows, storage)).astype(x.dtype, copy=False)
        part = {"x_train": x_train, "y_train": rows.y.astype(np.int64), "x_val": x[held_out], "y_val": y[held_out]}
        part |= {"synthetic": rows.synthetic, "origin_val": held_out}
        part["origin_train"] = np.where(rows.synthetic, -1, rows.source)
        if lengths is not None:  # a synthetic row is as long as the one it was made from
            part |= {"lengths_train": lengths[rows.source], "lengths_val": lengths[held_out]}
        found.append(part)
    return found

"""The rows that candidates are fitted to and judged by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.collective import agree, agreed
from rcdp_hpc.runtime.comm import Communicator
from rcdp_hpc.search.folds import balanced_folds

if TYPE_CHECKING:
    from rcdp_hpc.data.reading import ShardSet


@dataclass(frozen=True)
class FitnessData:
    """Rows for fitting and for judging candidates.

    Attributes
    ----------
    x_train, x_val : ndarray, shape (rows, ...)
        Samples.
    y_train, y_val : ndarray, shape (rows,), int64
        Class numbers.
    classes : int
        Number of classes.
    folds : tuple of FitnessData
        Folds of cross-validation within the fitness, which then take the place of the rows themselves; else empty.
    """

    x_train: NDArray[Any]
    y_train: NDArray[np.int64]
    x_val: NDArray[Any]
    y_val: NDArray[np.int64]
    classes: int
    folds: tuple[FitnessData, ...] = ()

    def fingerprint(self) -> str:
        """Return a SHA-256 of the rows."""
        digest = hashlib.sha256(str(self.classes).encode())
        for array in (self.x_train, self.y_train, self.x_val, self.y_val):
            digest.update(f"{array.shape}{array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).data)
        for fold in self.folds:
            digest.update(fold.fingerprint().encode())
        return digest.hexdigest()


def fitness_rows(shards: ShardSet, config: Config, comm: Communicator) -> FitnessData:
    """Read the first rows of the training and the validation split, once per node. Collective.

    Any contiguous slice of a split keeps the class proportions, so the first rows are as good as any.

    Parameters
    ----------
    shards : ShardSet
    config : Config
        ``search.train_rows`` and ``search.validation_rows`` bound how many rows are read.
    comm : Communicator

    Returns
    -------
    FitnessData
        Its arrays are read-only and shared by the ranks of a node.
    """
    if shards.layout.lengths:
        raise agreed(
            InputError(
                "the search takes samples of one length, and these shards hold sequences of unequal length: set "
                "search.generations=0, which trains with the configured reservoir."
            )
        )

    def read() -> dict[str, NDArray[Any]]:
        train = shards.read("train", 0, min(config.search.train_rows, shards.rows("train")))
        val = shards.read("validation", 0, min(config.search.validation_rows, shards.rows("validation")))
        arrays: dict[str, NDArray[Any]] = {
            "x_train": train.x,
            "y_train": np.asarray(train.y, dtype=np.int64),
            "x_val": val.x,
            "y_val": np.asarray(val.y, dtype=np.int64),
        }
        if config.search.folds == 1:
            return arrays
        real = ~np.asarray(train.synthetic, dtype=bool)
        folds = balanced_folds(train.x[real], arrays["y_train"][real], shards.classes, config)
        return arrays | {f"{name}.{fold}": part[name] for fold, part in enumerate(folds) for name in part}

    arrays = agree(comm, lambda: comm.share(read))
    classes = len(shards.classes)
    numbers = range(config.search.folds if config.search.folds > 1 else 0)
    folds = tuple(_data(arrays, f".{fold}", classes) for fold in numbers)
    return _data(arrays, "", classes, folds)


def _data(
    arrays: dict[str, NDArray[Any]], suffix: str, classes: int, folds: tuple[FitnessData, ...] = ()
) -> FitnessData:
    x_train, y_train, x_val, y_val = (arrays[name + suffix] for name in ("x_train", "y_train", "x_val", "y_val"))
    return FitnessData(x_train, y_train, x_val, y_val, classes, folds)

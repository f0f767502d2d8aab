"""The rows that candidates are fitted to and evaluated on."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.search.evaluation.inner_folds import (
    balanced_folds,
    parent_folds,
    reason_for_separate_folds,
    uses_one_pass,
)

if TYPE_CHECKING:
    from rcdp_hpc.data.shards.reader import Rows, ShardReader
    from rcdp_hpc.reservoir.reductions import FeatureShape
    from rcdp_hpc.search.evaluation.extracted import Extracted

log = logging.getLogger(__name__)

Part = Literal["train", "val"]


class Samples(NamedTuple):
    """Samples, shape (rows, ...), their labels, shape (rows,), and their numbers of steps (None if all are equal)."""

    x: NDArray[Any]
    y: NDArray[np.int64]
    lengths: NDArray[np.int64] | None


@dataclass(frozen=True)
class FitnessData:
    """Training and validation rows of the fitness.

    Attributes
    ----------
    x_train, x_val : ndarray, shape (rows, ...)
        Samples.
    y_train, y_val : ndarray, shape (rows,), int64
        Labels.
    classes : int
        Number of classes.
    folds : tuple of FitnessData
        Folds of the cross-validation within the fitness, each balanced separately, used instead of the rows themselves;
        empty without.
    lengths_train, lengths_val : ndarray, shape (rows,), int64, or None
        Number of steps of each padded sample; None if all have the same number.
    synthetic : ndarray of bool, shape (rows,), or None
        Whether each training row is synthetic; None if there are no synthetic rows.
    origin_train, origin_val : ndarray, shape (rows,), int64, or None
        In a fold: the index of each row among the original rows of the whole (`originals`), -1 for a synthetic row. The
        states of original rows are computed once for all folds. None otherwise.
    features : FeatureShape or None
        If the samples are the features of a fixed extractor: their order. A readout reads them if there is no
        reservoir.
    digest : str
        Digest of the samples that the features are computed from; "" if the samples are the rows themselves.
    parent_folds : ndarray, shape (rows, 2), int64, or None
        If all folds are evaluated from one pass over the training rows: the folds of the two original rows that each
        training row derives from (`rcdp_hpc.search.evaluation.inner_folds.parent_folds`).
    names : tuple of str
        Names of the classes; empty if they are not known.
    """

    x_train: NDArray[Any]
    y_train: NDArray[np.int64]
    x_val: NDArray[Any]
    y_val: NDArray[np.int64]
    classes: int
    folds: tuple[FitnessData, ...] = ()
    lengths_train: NDArray[np.int64] | None = None
    lengths_val: NDArray[np.int64] | None = None
    synthetic: NDArray[np.bool_] | None = None
    origin_train: NDArray[np.int64] | None = None
    origin_val: NDArray[np.int64] | None = None
    features: FeatureShape | None = None
    digest: str = ""
    parent_folds: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()

    @cached_property
    def original_folds(self) -> NDArray[np.int64]:
        """The fold of each original row, of rows with `parent_folds`."""
        if self.parent_folds is None:
            raise AssertionError("these rows have no folds from one pass")
        folds = self.parent_folds[:, 0]
        return folds if self.synthetic is None else folds[~self.synthetic]

    def named(self, names: tuple[str, ...]) -> FitnessData:
        """Return the same rows with the names of the classes."""
        return replace(self, names=names, folds=tuple(replace(fold, names=names) for fold in self.folds))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; their numbers if the names are not known."""
        return self.names or tuple(map(str, range(self.classes)))

    @cached_property
    def originals(self) -> Samples:
        """The original training rows."""
        if self.synthetic is None or not self.synthetic.any():
            return Samples(self.x_train, self.y_train, self.lengths_train)
        real = ~self.synthetic
        lengths = None if self.lengths_train is None else self.lengths_train[real]
        return Samples(self.x_train[real], self.y_train[real], lengths)

    @cached_property
    def left_out_rows(self) -> Samples:
        """The original training rows and the validation rows, for leave-one-out."""
        x, y, lengths = self.originals
        all_lengths = None
        if lengths is not None and self.lengths_val is not None:
            all_lengths = np.concatenate([lengths, self.lengths_val])
        return Samples(np.concatenate([x, self.x_val]), np.concatenate([y, self.y_val]), all_lengths)

    def samples(self, part: Part) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Return the samples of "train" or "val", and their numbers of steps."""
        return (self.x_train, self.lengths_train) if part == "train" else (self.x_val, self.lengths_val)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, folds included."""
        arrays = (
            self.x_train, self.y_train, self.x_val, self.y_val, self.lengths_train, self.lengths_val, self.synthetic,
            self.origin_train, self.origin_val, self.parent_folds,
        )  # fmt: skip
        return sum(array.nbytes for array in arrays if array is not None) + sum(fold.nbytes for fold in self.folds)

    def first(self, share: float) -> FitnessData:
        """Return the first rows of both parts; every contiguous slice of a split has its class proportions.

        Parameters
        ----------
        share : float
            Share of the rows, above 0 and at most 1; the number of rows is rounded up.
        """
        train, val = (slice(math.ceil(share * len(y))) for y in (self.y_train, self.y_val))
        return FitnessData(
            self.x_train[train],
            self.y_train[train],
            self.x_val[val],
            self.y_val[val],
            self.classes,
            lengths_train=None if self.lengths_train is None else self.lengths_train[train],
            lengths_val=None if self.lengths_val is None else self.lengths_val[val],
            synthetic=None if self.synthetic is None else self.synthetic[train],
            features=self.features,
            digest=self.digest,
            names=self.names,
        )

    def fingerprint(self) -> str:
        """Return a SHA-256 of the rows, or of the samples that they are the features of."""
        if self.digest:
            return self.digest
        digest = hashlib.sha256(str(self.classes).encode())
        optional = (self.lengths_train, self.lengths_val, self.synthetic, self.parent_folds)
        present = [array for array in optional if array is not None]
        for array in (self.x_train, self.y_train, self.x_val, self.y_val, *present):
            digest.update(f"{array.shape}{array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).data)
        for fold in self.folds:
            digest.update(fold.fingerprint().encode())
        return digest.hexdigest()


def fitness_rows(
    shards: ShardReader, config: Config, comm: Communicator, extracted: Extracted | None = None
) -> FitnessData:
    """Read the first rows of the training and the validation split, once per node. Collective.

    Every contiguous slice of a split has the class proportions of the whole, so the first rows are as good as others.

    Parameters
    ----------
    shards : ShardReader
    config : Config
        ``search.train_rows`` and ``search.validation_rows`` are the most rows that are read.
    comm : Communicator
    extracted : Extracted, optional
        Computes the features that replace the samples.

    Returns
    -------
    FitnessData
        With read-only arrays that the ranks of a node share.
    """
    classes = len(shards.classes)
    balanced_apart = config.search.folds > 1 and not uses_one_pass(config)
    numbers = range(config.search.folds if balanced_apart else 0)
    if balanced_apart and comm.is_root:
        reason = reason_for_separate_folds(config)
        log.info("search.folds = %d: each fold is balanced and solved separately: %s", config.search.folds, reason)

    def samples() -> dict[str, NDArray[Any]]:
        train = shards.read("train", 0, min(config.search.train_rows, shards.rows("train")))
        val = shards.read("validation", 0, min(config.search.validation_rows, shards.rows("validation")))
        real = ~np.asarray(train.synthetic, dtype=bool)
        arrays = _columns(train, "train") | _columns(val, "val") | {"synthetic": ~real}
        if config.search.folds == 1:
            return arrays
        if not balanced_apart:
            whole = None
            if train.group is not None and len(real) < shards.rows("train"):
                whole = shards.columns("train", 0, shards.rows("train"), ("source_index", "synthetic", "group"))
            return arrays | {"parent_folds": parent_folds(train, shards.classes, config, whole)}
        lengths = arrays["lengths_train"][real] if "lengths_train" in arrays else None
        storage, categories = shards.layout.storage, tuple(shards.index.get("categories", ()))
        x, y = train.x[real], arrays["y_train"][real]
        groups = None if train.group is None else np.asarray(train.group, dtype=np.int64)[real]
        masks = len((shards.index.get("standardization") or {}).get("mask", ()))
        folds = balanced_folds(x, y, shards.classes, config, storage, categories, lengths, groups, masks)
        return arrays | {f"{name}.{fold}": part[name] for fold, part in enumerate(folds) for name in part}

    def read() -> dict[str, NDArray[Any]]:
        arrays = samples()
        if extracted is None:
            return arrays
        digest = _whole(arrays, classes, numbers).fingerprint()
        _extract(arrays, extracted)
        return arrays | {"digest": np.frombuffer(digest.encode(), dtype=np.uint8)}

    arrays = agree(comm, lambda: comm.share_arrays(read))
    features = None if extracted is None else extracted.source.feature_shape
    return _whole(arrays, classes, numbers, features).named(tuple(shards.classes))


def _whole(
    arrays: dict[str, NDArray[Any]], classes: int, numbers: Iterable[int], features: FeatureShape | None = None
) -> FitnessData:
    """Return all rows, with their folds."""
    folds = tuple(_data(arrays, f".{fold}", classes, features=features) for fold in numbers)
    return _data(arrays, "", classes, folds, features)


def _extract(
    arrays: dict[str, NDArray[Any]], compute: Callable[[NDArray[Any], NDArray[np.int64] | None], NDArray[Any]]
) -> None:
    """Replace the samples of a fitness by their features; lengths are removed.

    Parameters
    ----------
    arrays : dict of ndarray
        Changed in place. The features of a row that is repeated in folds are computed once.
    compute : callable
        Returns the features of samples and their lengths.
    """
    originals: NDArray[Any] | None = None
    # The rows themselves come first; those of folds have a suffix.
    for name in sorted((one for one in arrays if one.startswith("x_")), key=lambda one: ("." in one, one)):
        part = name.removeprefix("x_")
        x, lengths = arrays[name], arrays.pop(f"lengths_{part}", None)
        origin = arrays.get(f"origin_{part}")
        if origin is None or originals is None:
            arrays[name] = compute(x, lengths)
            if part == "train":
                originals = arrays[name][~arrays["synthetic"]]
            continue
        is_original = origin >= 0
        features = np.empty((len(x), *originals.shape[1:]), dtype=originals.dtype)
        features[is_original] = originals[origin[is_original]]
        if not is_original.all():
            steps = None if lengths is None else lengths[~is_original]
            features[~is_original] = compute(x[~is_original], steps)
        arrays[name] = features


def _columns(rows: Rows, part: Part) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {f"x_{part}": rows.x, f"y_{part}": np.asarray(rows.y, dtype=np.int64)}
    if rows.length is not None:
        columns[f"lengths_{part}"] = np.asarray(rows.length, dtype=np.int64)
    return columns


def _data(
    arrays: dict[str, NDArray[Any]],
    suffix: str,
    classes: int,
    folds: tuple[FitnessData, ...] = (),
    features: FeatureShape | None = None,
) -> FitnessData:
    x_train, y_train, x_val, y_val = (arrays[name + suffix] for name in ("x_train", "y_train", "x_val", "y_val"))
    names = ("lengths_train", "lengths_val", "synthetic", "origin_train", "origin_val", "parent_folds")
    optional: dict[str, Any] = {name: arrays.get(name + suffix) for name in names}
    digest = bytes(arrays["digest"]).decode() if "digest" in arrays else ""
    return FitnessData(x_train, y_train, x_val, y_val, classes, folds, **optional, features=features, digest=digest)

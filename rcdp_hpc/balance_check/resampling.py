"""The rows that balancing gives a training part, as multiplicities of original rows and as synthetic rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.choices import balancing_choice
from rcdp_hpc.data.balancing.methods import balanced_rows
from rcdp_hpc.data.balancing.row_numbers import class_seed, sampled_rows
from rcdp_hpc.data.balancing.targets import class_targets
from rcdp_hpc.data.rows import RowTable, synthetic_rows
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.data.sources import Source
from rcdp_hpc.errors import InputError

COLUMNS = ("y", "source", "neighbour", "step")


@dataclass(frozen=True, eq=False)
class Resampling:
    """Rows of a balanced training part.

    Attributes
    ----------
    multiplicity : ndarray of int64, shape (rows,)
        How often each original row occurs, copies included; 0 for a row that is left out.
    synthetic : RowTable
        Rows between two original rows.
    """

    multiplicity: NDArray[np.int64]
    synthetic: RowTable

    @property
    def rows(self) -> int:
        """Rows of the balanced training part."""
        return int(self.multiplicity.sum()) + len(self.synthetic)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays of the rows, by name; none of them is empty."""
        columns = {name: getattr(self.synthetic, name) for name in COLUMNS}
        return {"multiplicity": self.multiplicity, **(columns if len(self.synthetic) else {})}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Resampling:
        """Return the rows that `to_arrays` gave."""
        multiplicity = np.asarray(arrays["multiplicity"], np.int64)
        if COLUMNS[0] not in arrays:
            return cls(multiplicity, no_synthetic_rows())
        columns: list[Any] = [arrays[name] for name in COLUMNS]
        values = np.empty((len(columns[0]), 0), np.float32)
        return cls(multiplicity, RowTable(columns[0], columns[1], columns[2], columns[3], values))


def drawn_by_fold(
    labels: NDArray[np.int64], folds: NDArray[np.int64], targets: Sequence[int], sampler: Any, seed: int
) -> NDArray[np.int64]:
    """Return how often each row occurs if the rows of every class are drawn at random, from each fold its share.

    Without regard to folds, a training part of few rows would be uneven by chance, which it is not if it is balanced by
    itself.

    Parameters
    ----------
    labels, folds : ndarray, shape (rows,), int64
    targets : sequence of int
        Rows that each class should have.
    sampler : class
        Of imbalanced-learn: it selects rows.
    seed : int
    """
    multiplicity = np.zeros(len(labels), np.int64)
    for label, target in enumerate(targets):
        members = np.flatnonzero(labels == label)
        parts = [members[folds[members] == fold] for fold in range(int(folds.max()) + 1)]
        for fold, (rows, share) in enumerate(zip(parts, shares_of(target, [len(part) for part in parts]), strict=True)):
            if share == len(rows):
                multiplicity[rows] = 1
            elif share:
                drawn = sampled_rows(sampler, len(rows), share, class_seed(class_seed(seed, label), fold))
                multiplicity[rows] = np.bincount(drawn, minlength=len(rows))
    return multiplicity


def shares_of(target: int, counts: Sequence[int]) -> list[int]:
    """Return whole numbers that add up to a target, in proportion to counts (largest remainders, then the first)."""
    total = max(1, sum(counts))
    shares = [target * count // total for count in counts]
    order = sorted(range(len(counts)), key=lambda place: (-(target * counts[place] % total), place))
    for place in order[: target - sum(shares)]:
        shares[place] += 1
    return shares


def _sampler(balance: str) -> Any:
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.under_sampling import RandomUnderSampler

    return {"random_over": RandomOverSampler, "random_under": RandomUnderSampler}.get(balance)


def resampled(
    source: Source, data: DataSection, folds: NDArray[np.int64], balance: str, seed: int, storage: Storage
) -> Resampling:
    """Return the rows of a source balanced as ``data.balance = balance`` does.

    Parameters
    ----------
    source : Source
        Its training samples are the rows.
    data : DataSection
        ``balance_ratio``, ``smote_neighbours`` and ``memory_budget`` are used; ``balance_counts`` is for the rows of a
        training part and does not fit these.
    folds : ndarray of int64, shape (rows,)
        The fold of each row. With folds, SMOTE repeats the row of a class that has only one.
    balance : str
    seed : int
    storage : Storage

    Raises
    ------
    InputError
        If the method does not suit these samples.
    """
    labels, sampler = source.train.y, _sampler(balance)
    if sampler is not None:
        counts = np.bincount(labels, minlength=len(source.classes)).tolist()
        targets = class_targets(counts, source.classes, balancing_choice(balance), data.balance_ratio)
        return Resampling(drawn_by_fold(labels, folds, targets, sampler, seed), no_synthetic_rows())
    changes = {"balance": balance, "folds": int(folds.max()) + 1, "balance_counts": [], "reserve": 0.0}
    rows = np.arange(len(source.train), dtype=np.int64)
    table = balanced_rows(source, rows, data.model_copy(update=changes), seed, storage)
    if table.values.shape[1]:
        raise InputError(f"{balance} makes values that do not follow from two rows")
    is_copy = table.source == table.neighbour
    kept = table.part(np.flatnonzero(~table.synthetic | is_copy))
    between = table.part(np.flatnonzero(table.synthetic & ~is_copy))
    return Resampling(np.bincount(kept.source, minlength=len(rows)), between)


def _refuse_empty_part(rows: Resampling, folds: NDArray[np.int64]) -> None:
    """Raise an `InputError` if a fold holds out all rows: those of a class with one row, and as few of the others."""
    held_out = np.bincount(folds, rows.multiplicity)
    if held_out.max() == rows.multiplicity.sum():
        raise InputError(
            f"the smallest class has so few rows that fold {int(held_out.argmax()) + 1} holds out all that are left"
        )


def no_synthetic_rows() -> RowTable:
    """Return a table without rows."""
    none = np.empty(0, np.int64)
    return synthetic_rows(0, none, none, np.empty(0, np.float32))


def resampled_or_reason(
    source: Source, data: DataSection, folds: NDArray[np.int64], balances: Sequence[str], seed: int, storage: Storage
) -> tuple[dict[str, Resampling], dict[str, str]]:
    """Return the rows of each balancing method, and why methods that do not suit the samples are left out."""
    found: dict[str, Resampling] = {}
    left_out: dict[str, str] = {}
    for balance in balances:
        try:
            if balance == "smote" and source.categories:
                raise InputError(
                    "the data have columns of categories, and their values in a synthetic row follow from more rows "
                    "than two, some of which a fold holds out"
                )
            rows = resampled(source, data, folds, balance, seed, storage)
            _refuse_empty_part(rows, folds)
            found[balance] = rows
        except InputError as error:
            left_out[balance] = str(error).rstrip(".")
    return found, left_out

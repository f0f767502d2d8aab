"""Cross-validation within the fitness: folds of real rows, each balanced by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.data.lengths import stretched
from rcdp_hpc.data.rows import on_segment
from rcdp_hpc.errors import InputError

if TYPE_CHECKING:
    from rcdp_hpc.data.balance import SyntheticPlan

Arrays = dict[str, NDArray[Any]]


def fold_numbers(y: NDArray[np.int64], classes: Sequence[str], folds: int, seed: int) -> NDArray[np.int64]:
    """Deal rows to folds so that every fold has the class proportions of the whole and sizes differ by at most one.

    Parameters
    ----------
    y : ndarray, shape (rows,)
        Class numbers.
    classes : sequence of str
    folds, seed : int

    Returns
    -------
    ndarray, shape (rows,), int64
        From 0.

    Raises
    ------
    InputError
        If a class has fewer rows than there are folds.
    """
    counts = np.bincount(y, minlength=len(classes))
    poor = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < folds]
    if poor:
        raise InputError(
            f"search.folds = {folds}: the rows of the fitness hold fewer samples than folds of {', '.join(poor)}; "
            "lower search.folds or raise search.train_rows"
        )
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, folds])))
    order = np.concatenate([generator.permutation(np.flatnonzero(y == label)) for label in range(len(classes))])
    found = np.empty(len(y), dtype=np.int64)
    found[order] = np.arange(len(y)) % folds
    return found


def balanced_folds(
    x: NDArray[Any],
    y: NDArray[np.int64],
    classes: Sequence[str],
    config: Config,
    lengths: NDArray[np.int64] | None = None,
) -> list[Arrays]:
    """Return x_train, y_train, x_val and y_val of every fold; only the training part of each is balanced.

    Sequences of unequal length have lengths_train and lengths_val with them.

    Parameters
    ----------
    x, y : ndarray
        Real rows alone: synthetic ones could have been made of rows that a fold holds out.
    classes : sequence of str
    config : Config
        Of it are used: ``search.folds``, ``data.balance``, ``data.smote_neighbours`` and ``run.seed``.
    lengths : ndarray, shape (rows,), int64, optional
        Steps of each padded sample that hold data.
    """
    if config.data.balance not in ("smote", "none"):
        raise InputError(
            f"search.folds = {config.search.folds}: inside a fold the rows can be balanced by data.balance = 'smote' "
            f"to equal classes, or not at all ('none'), but not by {config.data.balance!r}; set search.folds = 1"
        )
    numbers = fold_numbers(y, classes, config.search.folds, config.run.seed)
    found = []
    for fold in range(config.search.folds):
        train, held_out = np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)
        part = {"x": x[train], "y": y[train]} | ({} if lengths is None else {"lengths": lengths[train]})
        if config.data.balance == "smote":
            part = _with_synthetic(part, classes, config)
        arrays = {f"{name}_train": array for name, array in part.items()}
        arrays |= {"x_val": x[held_out], "y_val": y[held_out]}
        found.append(arrays | ({} if lengths is None else {"lengths_val": lengths[held_out]}))
    return found


def _with_synthetic(part: Arrays, classes: Sequence[str], config: Config) -> Arrays:
    """Add the rows that SMOTE makes, a neighbour of another length resampled to the length of its seed."""
    from rcdp_hpc.data.balance import plan_smote

    x, y, lengths = part["x"], part["y"], part.get("lengths")

    def comparable(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        found = np.asarray(x[rows], np.float32)
        return found if lengths is None else stretched(found, lengths[rows], x.shape[1])

    def ends(plan: SyntheticPlan) -> NDArray[Any]:
        found = x[plan.neighbour]
        return found if lengths is None else stretched(found, lengths[plan.neighbour], lengths[plan.source])

    members = [np.flatnonzero(y == label) for label in range(len(classes))]
    plans = plan_smote(comparable, members, classes, config.data.smote_neighbours, config.run.seed)
    made = [on_segment(x[plan.source], ends(plan), plan.step) for plan in plans]
    labels = [np.full(len(plan.source), plan.label, dtype=np.int64) for plan in plans]
    result: Arrays = {"x": np.concatenate([x, *made]).astype(x.dtype), "y": np.concatenate([y, *labels])}
    if lengths is not None:
        result["lengths"] = np.concatenate([lengths, *(lengths[plan.source] for plan in plans)])
    return result

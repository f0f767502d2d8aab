"""Cross-validation within the fitness: folds of real rows, each balanced by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError

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


def balanced_folds(x: NDArray[Any], y: NDArray[np.int64], classes: Sequence[str], config: Config) -> list[Arrays]:
    """Return x_train, y_train, x_val and y_val of every fold; only the training part of each is balanced.

    Parameters
    ----------
    x, y : ndarray
        Real rows alone: synthetic ones could have been made of rows that a fold holds out.
    classes : sequence of str
    config : Config
        Of it are used: ``search.folds``, ``data.balance``, ``data.smote_neighbours`` and ``run.seed``.
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
        x_train, y_train = x[train], y[train]
        if config.data.balance == "smote":
            x_train, y_train = _with_synthetic(x_train, y_train, classes, config)
        found.append({"x_train": x_train, "y_train": y_train, "x_val": x[held_out], "y_val": y[held_out]})
    return found


def _with_synthetic(
    x: NDArray[Any], y: NDArray[np.int64], classes: Sequence[str], config: Config
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    from rcdp_hpc.data.balance import plan_smote

    members = [np.flatnonzero(y == label) for label in range(len(classes))]
    seed, neighbours = config.run.seed, config.data.smote_neighbours
    plans = plan_smote(lambda rows: np.asarray(x[rows], np.float32), members, classes, neighbours, seed)
    steps = [plan.step.reshape(-1, *[1] * (x.ndim - 1)) for plan in plans]
    made = [
        x[plan.source] + step * (x[plan.neighbour] - x[plan.source]) for plan, step in zip(plans, steps, strict=True)
    ]
    labels = [np.full(len(plan.source), plan.label, dtype=np.int64) for plan in plans]
    return np.concatenate([x, *made]).astype(x.dtype), np.concatenate([y, *labels])

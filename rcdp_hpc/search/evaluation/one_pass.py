"""Ridge readouts of all folds of a fitness, from one pass over its training rows.

The states of every training row are computed once and added to sums per fold (`rcdp_hpc.reservoir.fold_sums`). A
synthetic row counts where neither of its two original rows is held out. The held-out rows of the first fold choose the
penalty, as validation rows do without folds, and all folds have it: with a penalty of its own, each fold would need
several times the solutions. With fewer rows than features the dual form needs no sums
(`rcdp_hpc.reservoir.dual_folds`).

If rows are few, the penalty is chosen by leave-one-out of the original rows, and the scores without each fold follow
from the same decomposition; as in the training, weights of the original rows then replace the synthetic rows, of which
no states are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.device_sums import DeviceSums, sums_device
from rcdp_hpc.reservoir.dual_folds import DualParts
from rcdp_hpc.reservoir.fold_sums import FoldSums, fold_sums_bytes, sums_bytes_of, synthetic_weights
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.left_out import left_out
from rcdp_hpc.reservoir.ridge import best_by, best_of_all, one_hot, scaled_error, scaling_sums, solve
from rcdp_hpc.search.evaluation.rank_group import row_blocks
from rcdp_hpc.search.evaluation.ridge import empty_sums, row_weights
from rcdp_hpc.search.evaluation.rows import FitnessData
from rcdp_hpc.training.solve.penalty_choice import penalty_worth
from rcdp_hpc.training.solve.ridge_fit import replacement_weights, weights_of

Sums = GramSums | DeviceSums
# Rows that are added to the sums at a time: enough of every pair of folds for products at full speed.
ROWS_AT_ONCE = 8192
# Largest sums per fold and pair of folds. Larger ones are summed again for each fold, so as not to hold all of them.
MOST_BYTES = 2**30
# Fewer rows are summed for each fold in less time than the sums of all pairs of folds are added up.
FEWEST_ROWS = 5000


def left_out_fold_scores(config: Config, states: torch.Tensor, data: FitnessData) -> NDArray[np.float64]:
    """Return the scores of the original rows by readouts without their folds, shape (rows, classes), for few rows.

    Parameters
    ----------
    config : Config
    states : torch.Tensor, shape (rows, features)
        States of ``data.originals``.
    data : FitnessData
        With `parent_folds`.
    """
    labels = data.originals.y
    weights = replacement_weights(labels, data.y_train, data.classes, row_weights(config, data))
    penalties, worth = config.readout.ridge_penalties, penalty_worth(config, data.class_names, labels)
    solution = left_out(states, labels, data.classes, penalties, weights, folds=data.original_folds, worth=worth)
    if solution.fold_scores is None:
        raise AssertionError("left_out was given folds")
    return solution.fold_scores


def fold_scores(config: Config, states: torch.Tensor, held_out: torch.Tensor, data: FitnessData) -> NDArray[np.float32]:
    """Return the scores of the original rows by readouts without their folds, shape (rows, classes).

    Parameters
    ----------
    config : Config
    states : torch.Tensor, shape (rows, features)
        States of all training rows.
    held_out : torch.Tensor, shape (original rows, features)
        States of ``data.originals``.
    data : FitnessData
        With `parent_folds`.
    """
    parts = solvable_parts(config, states, held_out, data)
    labels, places = data.originals.y, places_of_folds(data)
    first, scores = places[0], np.empty((len(labels), data.classes), dtype=np.float32)
    targets, weights = one_hot(labels[first], data.classes), weights_of(labels[first], row_weights(config, data))
    tried: dict[float, NDArray[np.floating]] = {}

    def error_of(penalty: float) -> float:
        tried[penalty] = parts.scores(0, penalty)
        return scaled_error(*scaling_sums(tried[penalty], targets, parts.shares(0), weights).tolist())

    worth = penalty_worth(config, data.class_names, labels[first])
    if worth is None:
        penalty, _ = best_by(error_of, config.readout.ridge_penalties)
    else:
        penalty, _ = best_of_all(error_of, lambda one: worth(tried[one]), config.readout.ridge_penalties)
    # Another fold may need a larger penalty for its rounding errors.
    larger = sorted(one for one in config.readout.ridge_penalties if one >= penalty)
    for one in larger:
        try:
            for fold, rows in enumerate(places):
                scores[rows] = tried[one] if fold == 0 and one in tried else parts.scores(fold, one)
            break
        except CandidateError:
            if one == larger[-1]:
                raise
    return scores


class SolvableParts(Protocol):
    """The training parts of all folds."""

    def shares(self, fold: int) -> NDArray[np.float64]:
        """Return the mean targets of the training part of a fold, shape (classes,)."""

    def scores(self, fold: int, penalty: float) -> NDArray[np.floating]:
        """Return the scores of the held-out rows of a fold, shape (rows, classes)."""


class SummedParts:
    """Training parts of which there are sums.

    Parameters
    ----------
    sums : sequence of GramSums or DeviceSums
        Of the training part of each fold.
    held_out : sequence of torch.Tensor, shape (rows, features)
        States of the held-out rows of each fold.
    """

    def __init__(self, sums: Sequence[Sums], held_out: Sequence[torch.Tensor]) -> None:
        self._sums = sums
        self._held_out = held_out

    def shares(self, fold: int) -> NDArray[np.float64]:
        """See `SolvableParts`."""
        return np.asarray(self._sums[fold].y / self._sums[fold].count)

    def scores(self, fold: int, penalty: float) -> NDArray[np.floating]:
        """See `SolvableParts`."""
        return solve(self._sums[fold], penalty).predict(self._held_out[fold])


class UnsummedParts:
    """Training parts with fewer rows than features, in the dual form; parameters as of `fold_scores`."""

    def __init__(self, config: Config, states: torch.Tensor, data: FitnessData) -> None:
        self._dual = DualParts(states, data.y_train, data.classes, pass_weights(config, data))
        pairs, real = parents(data), original_places(data)
        self._kept = [np.flatnonzero((pairs != fold).all(axis=1)) for fold in range(config.search.folds)]
        self._held_out = [real[rows] for rows in places_of_folds(data)]

    def shares(self, fold: int) -> NDArray[np.float64]:
        """See `SolvableParts`."""
        return self._dual.shares(self._kept[fold])

    def scores(self, fold: int, penalty: float) -> NDArray[np.floating]:
        """See `SolvableParts`."""
        return self._dual.scores(self._kept[fold], self._held_out[fold], penalty)


def solvable_parts(config: Config, states: torch.Tensor, held_out: torch.Tensor, data: FitnessData) -> SolvableParts:
    """Return the training parts in the form that needs less work; parameters as of `fold_scores`."""
    # A device multiplies large matrices fast; with noise, held-out rows have states of their own.
    if uses_dual(config, *states.shape) and sums_device(states.device) is None:
        return UnsummedParts(config, states, data)
    rows = [_taken(held_out, places) for places in places_of_folds(data)]
    return SummedParts(training_parts(config, states, data), rows)


def uses_dual(config: Config, rows: int, features: int) -> bool:
    """Return whether the dual form needs less work than sums for this many training rows."""
    return rows < features and not config.reservoir.noise


def original_places(data: FitnessData) -> NDArray[np.int64]:
    """Return the indices of the original rows among the training rows."""
    return np.arange(len(data.y_train)) if data.synthetic is None else np.flatnonzero(~data.synthetic)


def places_of_folds(data: FitnessData) -> list[NDArray[np.int64]]:
    """Return the indices of the rows of each fold among the original rows."""
    return [np.flatnonzero(data.original_folds == fold) for fold in range(int(data.original_folds.max()) + 1)]


def training_parts(config: Config, states: torch.Tensor, data: FitnessData) -> list[Sums]:
    """Return the sums of the training part of every fold; `states`: of all training rows, shape (rows, features)."""
    folds, weights = config.search.folds, pass_weights(config, data)
    pairs = parents(data)
    if not kept_per_fold(len(states), states.shape[1], data.classes, folds):
        return [_sums_without(fold, states, pairs, weights, data) for fold in range(folds)]
    sums = FoldSums(states.shape[1], data.classes, folds, device=sums_device(states.device))
    # A synthetic row between two rows of one fold counts as an original row of that fold.
    is_mixed = pairs[:, 0] != pairs[:, 1]
    for block in row_blocks(len(states), ROWS_AT_ONCE):
        rows = np.arange(block.start, block.stop)
        single, mixed = rows[~is_mixed[block]], rows[is_mixed[block]]
        own, shared = _taken_weights(weights, single), _taken_weights(weights, mixed)
        sums.add(_taken(states, single), data.y_train[single], pairs[single, 0], own)
        sums.add_synthetic(_taken(states, mixed), data.y_train[mixed], pairs[mixed, 0], pairs[mixed, 1], shared)
    return [sums.training(fold) for fold in range(folds)]


def kept_per_fold(rows: int, features: int, classes: int, folds: int) -> bool:
    """Return whether sums are kept per fold and pair of folds. It depends on sizes only, as the last digits do."""
    return rows >= FEWEST_ROWS and fold_sums_bytes(features, classes, folds) <= MOST_BYTES


def pass_bytes(rows: int, features: int, classes: int, folds: int) -> int:
    """Return the most bytes of the sums of all folds, for at most this many rows."""
    kept = fold_sums_bytes(features, classes, folds) if kept_per_fold(rows, features, classes, folds) else 0
    return kept + folds * sums_bytes_of(features, classes)


def parents(data: FitnessData) -> NDArray[np.int64]:
    """Return the `parent_folds` of rows that have them."""
    if data.parent_folds is None:
        raise AssertionError("these rows have no folds from one pass")
    return data.parent_folds


def pass_weights(config: Config, data: FitnessData) -> NDArray[np.float64] | None:
    """Return the weight of each training row in the training parts in which it counts; None if all weights are 1."""
    pairs = parents(data)
    weights = synthetic_weights(pairs[:, 0], pairs[:, 1], config.search.folds)
    of_classes = row_weights(config, data)
    if of_classes is not None:
        weights = weights * of_classes[data.y_train]
    return None if (weights == 1).all() else weights


def _sums_without(
    fold: int,
    states: torch.Tensor,
    pairs: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    data: FitnessData,
) -> Sums:
    sums = empty_sums(states.shape[1], data.classes, states.device)
    rows = np.flatnonzero((pairs != fold).all(axis=1))
    for block in row_blocks(len(rows), ROWS_AT_ONCE):
        chosen = rows[block]
        targets = one_hot(data.y_train[chosen], data.classes)
        sums.add(_taken(states, chosen), targets, _taken_weights(weights, chosen))
    return sums


def _taken(states: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
    """Return the states of some rows."""
    return states[torch.from_numpy(rows).to(states.device)]


def _taken_weights(weights: NDArray[np.float64] | None, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
    return None if weights is None else weights[rows]

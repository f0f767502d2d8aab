"""Ridge readouts of all folds of a fitness, from one pass over its training rows.

The states of every training row are computed once and added to sums per fold (`rcdp_hpc.reservoir.fold_sums`). A
synthetic row counts where neither of its two original rows is held out. All folds have the penalty that has the least
error over all held-out rows. If rows are few, the penalty is chosen by leave-one-out of the original rows, and the
scores without each fold follow from the same decomposition; as in the training, weights of the original rows then
replace the synthetic rows, of which no states are needed.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.reservoir.device_sums import DeviceSums, sums_device
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
    penalties, worth = (
        config.readout.ridge_penalties,
        penalty_worth(config, data.class_names, labels),
    )
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
    parts = training_parts(config, states, data)
    places = [np.flatnonzero(data.original_folds == fold) for fold in range(len(parts))]
    rows = [_taken(held_out, one) for one in places]
    labels = data.originals.y
    targets, weights = one_hot(labels, data.classes), weights_of(labels, row_weights(config, data))
    scores: dict[float, NDArray[np.float32]] = {}

    def error_of(penalty: float) -> float:
        found = np.empty((len(labels), data.classes), dtype=np.float32)
        totals = np.zeros(3)
        for sums, place, left in zip(parts, places, rows, strict=True):
            found[place] = solve(sums, penalty).predict(left)
            shares = sums.y / sums.count
            totals += scaling_sums(found[place], targets[place], shares, _taken_weights(weights, place))
        scores[penalty] = found
        return scaled_error(*totals.tolist())

    worth = penalty_worth(config, data.class_names, labels)
    if worth is None:
        penalty, _ = best_by(error_of, config.readout.ridge_penalties)
    else:
        penalty, _ = best_of_all(error_of, lambda one: worth(scores[one]), config.readout.ridge_penalties)
    return scores[penalty]


def training_parts(config: Config, states: torch.Tensor, data: FitnessData) -> list[Sums]:
    """Return the sums of the training part of every fold; `states`: of all training rows, shape (rows, features)."""
    folds, weights = config.search.folds, pass_weights(config, data)
    pairs = parents(data)
    if not kept_per_fold(states.shape[1], data.classes, folds):
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


def kept_per_fold(features: int, classes: int, folds: int) -> bool:
    """Return whether sums are kept per fold and pair of folds. It depends on sizes only, as the last digits do."""
    return fold_sums_bytes(features, classes, folds) <= MOST_BYTES


def pass_bytes(features: int, classes: int, folds: int) -> int:
    """Return the most bytes of the sums of all folds."""
    kept = fold_sums_bytes(features, classes, folds) if kept_per_fold(features, classes, folds) else 0
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

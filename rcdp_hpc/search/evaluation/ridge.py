"""Candidates evaluated by a ridge readout of their states, with a penalty chosen for each candidate.

The code of the training chooses the penalty (`rcdp_hpc.reservoir.left_out`, `rcdp_hpc.reservoir.ridge.best_by`). One
penalty for all candidates would favour candidates whose states it happens to suit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.model.criteria import Criterion
from rcdp_hpc.reservoir.device_sums import DeviceSums, make_sums, sums_device
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.left_out import left_out, solve_rows
from rcdp_hpc.reservoir.ridge import RidgeReadout, best_by, best_of_all, one_hot, scaled_error, scaling_sums, solve
from rcdp_hpc.reservoir.states import DEFAULT_BATCH_ROWS
from rcdp_hpc.search.evaluation.candidate import Measured
from rcdp_hpc.search.evaluation.measured import evaluated, evaluated_fold
from rcdp_hpc.search.evaluation.rows import FitnessData
from rcdp_hpc.training.solve.penalty_choice import penalty_worth
from rcdp_hpc.training.solve.ridge_fit import left_out_suits, replacement_weights, row_class_weights, weights_of

# Rows or features up to which leave-one-out is used: its eigendecomposition takes less than a second.
LEFT_OUT_LIMIT = 1000


def uses_left_out(config: Config, rows: int, width: int) -> bool:
    """Return whether candidates with this many original rows and features are evaluated by leave-one-out."""
    return left_out_suits(config, rows, width, LEFT_OUT_LIMIT)


def row_weights(config: Config, data: FitnessData) -> NDArray[np.float64] | None:
    """Return the weight of the rows of each class in the fit, shape (classes,); None if all are equal."""
    return row_class_weights(config, np.bincount(data.y_train, minlength=data.classes))


def evaluate_left_out(config: Config, states: torch.Tensor, data: FitnessData, by: Criterion | None = None) -> Measured:
    """Evaluate on all original rows, each left out of the fit.

    Parameters
    ----------
    config : Config
    states : torch.Tensor, shape (rows, features)
        States of ``data.left_out_rows``.
    data : FitnessData
    by : Criterion, optional
        What `rcdp_hpc.search.evaluation.measured.fitness_criterion` returns.
    """
    labels = data.left_out_rows.y
    weights = row_weights(config, data)
    stand_in = replacement_weights(labels, np.concatenate([data.y_train, data.y_val]), data.classes, weights)
    worth = penalty_worth(config, data.class_names, labels)
    solution = left_out(states, labels, data.classes, config.readout.ridge_penalties, stand_in, worth=worth)
    return evaluated(solution.scores, labels, by)


def evaluate_on_validation(
    config: Config, sums: GramSums | DeviceSums, states: torch.Tensor, data: FitnessData, by: Criterion | None = None
) -> Measured:
    """Evaluate on the validation rows, which also choose the penalty.

    Parameters
    ----------
    config : Config
    sums : GramSums or DeviceSums
        Sums of the training rows.
    states : torch.Tensor, shape (rows, features)
        States of the validation rows.
    data : FitnessData
    by : Criterion, optional
        As of `evaluate_left_out`.
    """
    return evaluated(best_on_validation(config, sums, states, data), data.y_val, by)


def best_on_validation(
    config: Config, sums: GramSums | DeviceSums, states: torch.Tensor, data: FitnessData
) -> NDArray[np.float32]:
    """Return the scores of the validation rows, shape (rows, classes), with the penalty that they choose.

    Parameters are those of `evaluate_on_validation`.
    """
    readouts: dict[float, NDArray[np.float32]] = {}
    weights, targets = weights_of(data.y_val, row_weights(config, data)), one_hot(data.y_val, data.classes)

    def error_of(penalty: float) -> float:
        scores = readouts[penalty] = solve(sums, penalty).predict(states)
        return scaled_error(*scaling_sums(scores, targets, sums.y / sums.count, weights).tolist())

    worth = penalty_worth(config, data.class_names, data.y_val)
    if worth is None:
        penalty, _ = best_by(error_of, config.readout.ridge_penalties)
    else:
        penalty, _ = best_of_all(error_of, lambda one: worth(readouts[one]), config.readout.ridge_penalties)
    return readouts[penalty]


def penalty_of_folds(config: Config, states: torch.Tensor, data: FitnessData) -> float | None:
    """Return the penalty for all folds by leave-one-out of the original rows; None if each fold chooses its own.

    Parameters
    ----------
    config : Config
    states : torch.Tensor, shape (rows, features)
        States of ``data.originals``.
    data : FitnessData
        With folds.
    """
    labels = data.originals.y
    if not uses_left_out(config, len(labels), states.shape[1]):
        return None
    weights = row_weights(config, data)
    fitted_labels = np.concatenate([fold.y_train for fold in data.folds])
    stand_in = replacement_weights(labels, fitted_labels, data.classes, weights)
    worth = penalty_worth(config, data.class_names, labels)
    return left_out(states, labels, data.classes, config.readout.ridge_penalties, stand_in, worth=worth).penalty


def evaluate_fold(
    config: Config,
    penalty: float | None,
    train_states: torch.Tensor,
    val_states: torch.Tensor,
    fold: FitnessData,
    by: Criterion | None = None,
) -> Measured:
    """Evaluate on the held-out rows of a fold, for `rcdp_hpc.search.evaluation.measured.over_folds`.

    Parameters
    ----------
    config : Config
    penalty : float or None
        None if the held-out rows choose it.
    train_states, val_states : torch.Tensor, shape (rows, features)
        States of the training rows of the fold, synthetic rows included, and of its held-out rows.
    fold : FitnessData
    by : Criterion, optional
        As of `evaluate_left_out`.
    """
    weights = row_weights(config, fold)
    if penalty is None:
        batch_rows = config.reservoir.batch_rows or DEFAULT_BATCH_ROWS
        sums = gram_sums(train_states, fold.y_train, fold, weights, batch_rows)
        return evaluated_fold(best_on_validation(config, sums, val_states, fold), fold.y_val, by)
    readout: RidgeReadout = solve_rows(
        train_states, fold.y_train, fold.classes, penalty, weights_of(fold.y_train, weights)
    )
    return evaluated_fold(readout.predict(val_states), fold.y_val, by)


def gram_sums(
    states: torch.Tensor,
    labels: NDArray[np.int64],
    data: FitnessData,
    weights: NDArray[np.float64] | None,
    batch_rows: int,
) -> GramSums | DeviceSums:
    """Return the Gram sums of states, shape (rows, features), added in blocks of `batch_rows`."""
    sums = empty_sums(states.shape[1], data.classes, states.device)
    for start in range(0, len(states), batch_rows):
        rows = slice(start, start + batch_rows)
        add_rows(sums, states[rows], labels[rows], data.classes, weights)
    return sums


def empty_sums(features: int, classes: int, device: torch.device) -> GramSums | DeviceSums:
    """Return the sums of no rows, for states on a device."""
    return make_sums(features, classes, device=sums_device(device))


def add_rows(
    sums: GramSums | DeviceSums,
    states: Any,
    labels: NDArray[np.int64],
    classes: int,
    weights: NDArray[np.float64] | None,
) -> None:
    """Add a block of states, shape (rows, features), and its labels to the sums."""
    sums.add(states, one_hot(labels, classes), weights_of(labels, weights))

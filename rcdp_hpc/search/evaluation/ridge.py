"""Candidates judged by a ridge readout of their states: the penalty is chosen first, for each candidate by itself.

The same code as in the training chooses it (`rcdp_hpc.reservoir.left_out`, `rcdp_hpc.reservoir.ridge.best_by`). A
penalty that suits one candidate's states would favour candidates that are like it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.left_out import left_out, solve_rows
from rcdp_hpc.reservoir.ridge import RidgeReadout, best_by, one_hot, scaled_error, scaling_sums, solve
from rcdp_hpc.search.evaluation.rows import FitnessData
from rcdp_hpc.training.solve.ridge_fit import class_weights, left_out_suits, stand_in_weights, weights_of

# Rows or features up to which a candidate is judged by leave-one-out: one eigendecomposition takes below a second.
LEFT_OUT_AT_MOST = 1000
Judged = tuple[float, float]


def judge_scores(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> Judged:
    """Return the mean squared error against one-hot targets, and the accuracy.

    Parameters
    ----------
    scores : ndarray, shape (rows, classes)
    labels : ndarray, shape (rows,)
        Class numbers.
    """
    difference = scores.astype(np.float64) - one_hot(labels, scores.shape[1])
    return float(np.mean(np.square(difference))), float(np.mean(scores.argmax(axis=1) == labels))


def judged_by_left_out(config: Config, rows: int, width: int) -> bool:
    """Tell whether candidates with this many original rows and features are judged by leave-one-out."""
    return left_out_suits(config, rows, width, LEFT_OUT_AT_MOST)


def row_weights(config: Config, data: FitnessData) -> NDArray[np.float64] | None:
    """Return the weight of a row of each class in the fit; None if all weigh the same."""
    return class_weights(config, np.bincount(data.y_train, minlength=data.classes))


def judge_left_out(config: Config, states: torch.Tensor, data: FitnessData) -> Judged:
    """Judge by all original rows, each left out of the fit.

    Parameters
    ----------
    config : Config
    states : torch.Tensor, shape (rows, features)
        Of ``data.judging``.
    data : FitnessData
    """
    labels = data.judging.y
    weights = row_weights(config, data)
    stand_in = stand_in_weights(labels, np.concatenate([data.y_train, data.y_val]), data.classes, weights)
    found = left_out(states, labels, data.classes, config.readout.ridge_penalties, stand_in)
    return judge_scores(found.scores, labels)


def judge_on_validation(config: Config, sums: GramSums, states: torch.Tensor, data: FitnessData) -> Judged:
    """Judge by validation rows, which choose the penalty as well.

    Parameters
    ----------
    config : Config
    sums : GramSums
        Of the training rows.
    states : torch.Tensor, shape (rows, features)
        Of the validation rows.
    data : FitnessData
    """
    readouts: dict[float, NDArray[np.float32]] = {}
    weights, targets = weights_of(data.y_val, row_weights(config, data)), one_hot(data.y_val, data.classes)

    def error_of(penalty: float) -> float:
        scores = readouts[penalty] = solve(sums, penalty).predict(states)
        return scaled_error(*scaling_sums(scores, targets, sums.y / sums.count, weights).tolist())

    penalty, _ = best_by(error_of, config.readout.ridge_penalties)
    return judge_scores(readouts[penalty], data.y_val)


def penalty_of_folds(config: Config, states: torch.Tensor, data: FitnessData) -> float | None:
    """Return the penalty for all folds by leave-one-out of the original rows; None if each fold's held-out rows judge.

    Parameters
    ----------
    config : Config
    states : torch.Tensor, shape (rows, features)
        Of ``data.originals``.
    data : FitnessData
        With folds.
    """
    labels = data.originals.y
    if not judged_by_left_out(config, len(labels), states.shape[1]):
        return None
    weights = row_weights(config, data)
    fitted = np.concatenate([fold.y_train for fold in data.folds])
    stand_in = stand_in_weights(labels, fitted, data.classes, weights)
    return left_out(states, labels, data.classes, config.readout.ridge_penalties, stand_in).penalty


def judge_fold(
    config: Config, penalty: float | None, fitted: torch.Tensor, held_out: torch.Tensor, fold: FitnessData
) -> Judged:
    """Judge by the rows that a fold holds out.

    Parameters
    ----------
    config : Config
    penalty : float or None
        None: the held-out rows choose it.
    fitted, held_out : torch.Tensor, shape (rows, features)
        States of the fold's training rows, synthetic ones included, and of the rows it holds out.
    fold : FitnessData
    """
    weights = row_weights(config, fold)
    if penalty is None:
        sums = summed(fitted, fold.y_train, fold, weights, config.reservoir.batch_rows)
        return judge_on_validation(config, sums, held_out, fold)
    readout: RidgeReadout = solve_rows(fitted, fold.y_train, fold.classes, penalty, weights_of(fold.y_train, weights))
    return judge_scores(readout.predict(held_out), fold.y_val)


def summed(
    states: torch.Tensor,
    labels: NDArray[np.int64],
    data: FitnessData,
    weights: NDArray[np.float64] | None,
    batch_rows: int,
) -> GramSums:
    """Return the sums of states in memory, in fixed blocks."""
    sums = GramSums(states.shape[1], data.classes)
    for start in range(0, len(states), batch_rows):
        rows = slice(start, start + batch_rows)
        add_rows(sums, states[rows], labels[rows], data.classes, weights)
    return sums


def add_rows(
    sums: GramSums, states: Any, labels: NDArray[np.int64], classes: int, weights: NDArray[np.float64] | None
) -> None:
    """Add a block of states to the sums."""
    sums.add(states, one_hot(labels, classes), weights_of(labels, weights))

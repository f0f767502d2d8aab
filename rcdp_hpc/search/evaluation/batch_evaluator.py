"""The evaluation of a batch of reservoirs: leave-one-out, validation rows or folds, as for a single candidate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.config import Config
from rcdp_hpc.reservoir.stacked import StackedReservoirs
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.search.evaluation.batched_data import DeviceRows
from rcdp_hpc.search.evaluation.batched_left_out import BatchedRows
from rcdp_hpc.search.evaluation.batched_ridge import (
    BatchedReadouts,
    BatchedSums,
    FoldReadouts,
    best_scores,
    errors_and_accuracies,
)
from rcdp_hpc.search.evaluation.one_pass import left_out_fold_scores
from rcdp_hpc.search.evaluation.rank_group import attempt, row_blocks
from rcdp_hpc.search.evaluation.ridge import (
    ErrorAccuracy,
    error_and_accuracy,
    evaluate_left_out,
    penalty_of_folds,
    uses_left_out,
)
from rcdp_hpc.search.evaluation.rows import FitnessData

FAILED: ErrorAccuracy = (math.nan, math.nan)


class BatchEvaluator:
    """Evaluates the reservoirs of stacks by ridge readouts of their states.

    Parameters
    ----------
    config : Config
    like : Reservoir
        A reservoir of any candidate.
    lapack : bool
        Whether leave-one-out is that of single candidates, one after the other, on the host.
    """

    def __init__(self, config: Config, like: Reservoir, lapack: bool) -> None:
        self.config = config
        self.like = like
        self._lapack = lapack

    def results(self, stack: StackedReservoirs, rows: DeviceRows) -> Tensor:
        """Return errors and accuracies, shape (2, candidates), float64; not finite for a candidate that fails."""
        data = rows.data
        if data.folds:
            return self._on_folds(stack, rows)
        if data.parent_folds is not None:
            return self._one_pass(stack, rows)
        count = len(data.originals.y) + len(data.y_val)
        if not uses_left_out(self.config, count, self.like.width):
            return self._on_validation(stack, rows)
        chosen = data.left_out_rows
        targets = rows.targets("left out", chosen.y)
        weights = rows.stand_in_weights(chosen.y, np.concatenate([data.y_train, data.y_val]))
        states = _gathered(stack, rows.sequences("left out", chosen.x))
        if self._lapack:
            results = [attempt(partial(evaluate_left_out, self.config, one, data))[0] for one in states]
            return torch.tensor([one or FAILED for one in results], dtype=torch.float64).T
        _, scores = BatchedRows(states, targets, weights).left_out(self.config.readout.ridge_penalties)
        return errors_and_accuracies(scores, targets)

    def _on_validation(self, stack: StackedReservoirs, rows: DeviceRows) -> Tensor:
        data = rows.data
        sums = self._sums(stack, data)
        targets, weights = rows.targets("train", data.y_train), rows.weights("train", data.y_train)
        roots = None if weights is None else weights.sqrt()
        for block, states in _states(stack, rows.sequences("train", data.x_train)):
            sums.add(states, targets[block], None if roots is None else roots[block])
        return self._on_held_out(sums, _gathered(stack, rows.sequences("val", data.x_val)), rows)

    def _sums(self, stack: StackedReservoirs, data: FitnessData) -> BatchedSums:
        return BatchedSums(stack.count, self.like.width, data.classes, self.like.device)

    def _on_held_out(self, sums: BatchedSums, states: Tensor, rows: DeviceRows) -> Tensor:
        """Return the results on held-out rows, which also choose the penalty."""
        labels, penalties = rows.data.y_val, self.config.readout.ridge_penalties
        targets = rows.targets("val", labels)
        scores = best_scores(BatchedReadouts(sums), states, targets, rows.weights("val", labels), penalties)
        return errors_and_accuracies(scores, targets)

    def _one_pass(self, stack: StackedReservoirs, rows: DeviceRows) -> Tensor:
        """Return the results on the held-out rows of all folds; see `rcdp_hpc.search.evaluation.one_pass`."""
        data = rows.data
        originals, penalties = data.originals, self.config.readout.ridge_penalties
        targets = rows.targets("originals", originals.y)
        if not uses_left_out(self.config, len(originals.y), self.like.width):
            states = _gathered(stack, rows.sequences("train", data.x_train))
            return errors_and_accuracies(self._fold_scores(stack, states, targets, rows), targets)
        states = _gathered(stack, rows.sequences("originals", originals.x))
        if self._lapack:
            found = [attempt(partial(left_out_fold_scores, self.config, one, data))[0] for one in states]
            results = [FAILED if one is None else error_and_accuracy(one, originals.y) for one in found]
            return torch.tensor(results, dtype=torch.float64).T
        problem = BatchedRows(states, targets, rows.stand_in_weights(originals.y, data.y_train))
        return errors_and_accuracies(problem.fold_scores(problem.left_out(penalties)[0], rows.fold_places), targets)

    def _fold_scores(self, stack: StackedReservoirs, states: Tensor, targets: Tensor, rows: DeviceRows) -> Tensor:
        """Return the scores of the original rows by readouts without their folds; `states`: of all training rows."""
        data, weights = rows.data, rows.pass_weights()
        roots = None if weights is None else weights.sqrt()
        all_targets = rows.targets("train", data.y_train)
        folds = [self._sums(stack, data) for _ in rows.fold_places]
        for pair, places in rows.pairs:
            sums = self._sums(stack, data)
            own = None if roots is None else roots[places]
            sums.add(states.index_select(1, places), all_targets[places], own)
            for fold, training in enumerate(folds):
                if fold not in pair:
                    training.total += sums.total
        readouts = FoldReadouts([BatchedReadouts(sums) for sums in folds], rows.fold_places)
        held_out, in_error = states.index_select(1, rows.original_places), rows.weights("originals", data.originals.y)
        return best_scores(readouts, held_out, targets, in_error, self.config.readout.ridge_penalties)

    def _on_folds(self, stack: StackedReservoirs, rows: DeviceRows) -> Tensor:
        data = rows.data
        originals = data.originals
        states = _gathered(stack, rows.sequences("originals", originals.x))
        penalties = None
        if uses_left_out(self.config, len(originals.y), self.like.width):
            penalties = self._penalties_of_folds(states, rows)
        total = sum(len(fold.y_val) for fold in data.folds)
        results = [
            self._on_fold(stack, fold, states, penalties) * (len(fold.data.y_val) / total) for fold in rows.folds
        ]
        return torch.stack(results).sum(0)

    def _penalties_of_folds(self, states: Tensor, rows: DeviceRows) -> Tensor:
        """Return the penalty of each candidate for all folds, by leave-one-out; `states` are of the original rows."""
        data = rows.data
        if self._lapack:
            chosen = [attempt(partial(penalty_of_folds, self.config, one, data))[0] for one in states]
            return torch.tensor([one or math.nan for one in chosen], dtype=torch.float64)
        originals = data.originals
        weights = rows.stand_in_weights(originals.y, np.concatenate([fold.y_train for fold in data.folds]))
        problem = BatchedRows(states, rows.targets("originals", originals.y), weights)
        return problem.left_out(self.config.readout.ridge_penalties)[0]

    def _on_fold(
        self, stack: StackedReservoirs, rows: DeviceRows, originals: Tensor, penalties: Tensor | None
    ) -> Tensor:
        fold = rows.data
        train = _states_of_fold(stack, rows, "train", fold.x_train, fold.origin_train, originals)
        val = _states_of_fold(stack, rows, "val", fold.x_val, fold.origin_val, originals)
        targets, weights = rows.targets("train", fold.y_train), rows.weights("train", fold.y_train)
        if penalties is None:
            sums = self._sums(stack, fold)
            sums.add(train, targets, None if weights is None else weights.sqrt())
            return self._on_held_out(sums, val, rows)
        readout, intercepts = BatchedRows(train, targets, weights).solved(penalties)
        scores = torch.baddbmm(intercepts[:, None].float(), val.float(), readout.float())
        return errors_and_accuracies(scores, rows.targets("val", fold.y_val))


def _states(stack: StackedReservoirs, u: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows and the states of all candidates, shape (candidates, rows, width), in fixed blocks."""
    for rows in row_blocks(len(u), stack.batch_rows):
        yield rows, stack.drive(u[rows])


def _gathered(stack: StackedReservoirs, u: Tensor) -> Tensor:
    """Return the states of all rows, shape (candidates, rows, width)."""
    blocks = [states for _, states in _states(stack, u)]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)


def _states_of_fold(
    stack: StackedReservoirs,
    rows: DeviceRows,
    part: str,
    x: NDArray[np.float32],
    origins: NDArray[np.int64] | None,
    originals: Tensor,
) -> Tensor:
    """Return the states of a part of a fold; `originals` are those of the original rows."""
    if origins is None:
        return _gathered(stack, rows.sequences(part, x))
    places = rows.places(part, origins, originals.shape[1])
    if (origins < 0).any():
        synthetic = _gathered(stack, rows.sequences(part, x[origins < 0]))
        originals = torch.cat([originals, synthetic], dim=1)
    return originals.index_select(1, places)

"""The evaluation of a batch of reservoirs: leave-one-out, validation rows or folds, as for a single candidate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import repeat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.config import Config
from rcdp_hpc.model.criteria import Criterion
from rcdp_hpc.reservoir.stacked import StackedReservoirs
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.search.evaluation.batched_data import DeviceRows
from rcdp_hpc.search.evaluation.batched_left_out import BatchedRows
from rcdp_hpc.search.evaluation.batched_ridge import (
    BatchedReadouts,
    BatchedSums,
    Worths,
    best_scores,
    errors_and_accuracies,
)
from rcdp_hpc.search.evaluation.candidate import Measured
from rcdp_hpc.search.evaluation.measured import evaluated
from rcdp_hpc.search.evaluation.one_pass import left_out_fold_scores
from rcdp_hpc.search.evaluation.rank_group import attempt, row_blocks
from rcdp_hpc.search.evaluation.ridge import evaluate_left_out, penalty_of_folds, uses_left_out
from rcdp_hpc.search.evaluation.rows import FitnessData
from rcdp_hpc.training.solve.penalty_choice import penalty_criterion

FAILED = Measured(math.nan, math.nan)


class BatchEvaluator:
    """Evaluates the reservoirs of stacks by ridge readouts of their states.

    Parameters
    ----------
    config : Config
    like : Reservoir
        A reservoir of any candidate.
    lapack : bool
        Whether leave-one-out is that of single candidates, one after the other, on the host.
    criterion : Criterion, optional
        What `rcdp_hpc.search.evaluation.measured.fitness_criterion` returns.
    """

    def __init__(self, config: Config, like: Reservoir, lapack: bool, criterion: Criterion | None = None) -> None:
        self.config = config
        self.like = like
        self.criterion = criterion
        self._lapack = lapack

    def results(self, stack: StackedReservoirs, rows: DeviceRows) -> list[Measured]:
        """Return what is measured of each candidate; not finite for a candidate that fails."""
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
            results = [attempt(partial(evaluate_left_out, self.config, one, data, self.criterion))[0] for one in states]
            return [one or FAILED for one in results]
        problem = BatchedRows(states, targets, weights)
        _, scores = problem.left_out(self.config.readout.ridge_penalties, self._worths(chosen.y, data))
        return self._measured(scores, targets, chosen.y)

    def _measured(self, scores: Tensor, targets: Tensor, labels: NDArray[np.int64]) -> list[Measured]:
        """Return what is measured of the scores of each candidate, shape (candidates, rows, classes)."""
        return measured(errors_and_accuracies(scores, targets), fitness_of_each(self.criterion, labels, scores))

    def _worths(self, labels: NDArray[np.int64], data: FitnessData) -> Worths | None:
        """Return what chooses the penalties of candidates by scores of rows with these labels; None for the error."""
        by = penalty_criterion(self.config, data.class_names)
        if by is None:
            return None
        return lambda scores: torch.tensor(fitness_of_each(by, labels, scores), dtype=torch.float64)

    def _on_validation(self, stack: StackedReservoirs, rows: DeviceRows) -> list[Measured]:
        data = rows.data
        sums = self._sums(stack, data)
        targets, weights = rows.targets("train", data.y_train), rows.weights("train", data.y_train)
        roots = None if weights is None else weights.sqrt()
        for block, states in _states(stack, rows.sequences("train", data.x_train)):
            sums.add(states, targets[block], None if roots is None else roots[block])
        scores = self._best_scores(sums, _gathered(stack, rows.sequences("val", data.x_val)), rows)
        return self._measured(scores, rows.targets("val", data.y_val), data.y_val)

    def _sums(self, stack: StackedReservoirs, data: FitnessData) -> BatchedSums:
        return BatchedSums(stack.count, self.like.width, data.classes, self.like.device)

    def _best_scores(self, sums: BatchedSums, states: Tensor, rows: DeviceRows) -> Tensor:
        """Return the scores of held-out rows, which also choose the penalty."""
        labels, penalties = rows.data.y_val, self.config.readout.ridge_penalties
        targets = rows.targets("val", labels)
        weights, worths = rows.weights("val", labels), self._worths(labels, rows.data)
        return best_scores(BatchedReadouts(sums), states, targets, weights, penalties, worths)[1]

    def _one_pass(self, stack: StackedReservoirs, rows: DeviceRows) -> list[Measured]:
        """Return what is measured on the held-out rows of all folds; see `rcdp_hpc.search.evaluation.one_pass`."""
        data, labels = rows.data, rows.data.originals.y
        originals, penalties = data.originals, self.config.readout.ridge_penalties
        targets = rows.targets("originals", labels)
        if not uses_left_out(self.config, len(labels), self.like.width):
            states = _gathered(stack, rows.sequences("train", data.x_train))
            return self._measured(self._fold_scores(stack, states, targets, rows), targets, labels)
        states = _gathered(stack, rows.sequences("originals", originals.x))
        if self._lapack:
            found = [attempt(partial(left_out_fold_scores, self.config, one, data))[0] for one in states]
            return [FAILED if one is None else evaluated(one, labels, self.criterion) for one in found]
        problem = BatchedRows(states, targets, rows.stand_in_weights(labels, data.y_train))
        chosen, _ = problem.left_out(penalties, self._worths(labels, data))
        return self._measured(problem.fold_scores(chosen, rows.fold_places), targets, labels)

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
        return self._scores_by_first_fold([BatchedReadouts(sums) for sums in folds], states, targets, rows)

    def _scores_by_first_fold(
        self, readouts: list[BatchedReadouts], states: Tensor, targets: Tensor, rows: DeviceRows
    ) -> Tensor:
        """Return the scores of the original rows with the penalty that the held-out rows of the first fold choose."""
        labels, held_out = rows.data.originals.y, states.index_select(1, rows.original_places)
        first, weights = rows.fold_places[0], rows.weights("originals", labels)
        penalties, own = best_scores(
            readouts[0],
            held_out.index_select(1, first),
            targets[first],
            None if weights is None else weights[first],
            self.config.readout.ridge_penalties,
            self._worths(labels[rows.data.original_folds == 0], rows.data),
        )
        scores = own.new_empty((len(own), *targets.shape))
        scores[:, first] = own
        for readout, places in zip(readouts[1:], rows.fold_places[1:], strict=True):
            scores[:, places] = readout.scores(penalties, held_out.index_select(1, places))
        return scores

    def _on_folds(self, stack: StackedReservoirs, rows: DeviceRows) -> list[Measured]:
        data = rows.data
        originals = data.originals
        states = _gathered(stack, rows.sequences("originals", originals.x))
        penalties = None
        if uses_left_out(self.config, len(originals.y), self.like.width):
            penalties = self._penalties_of_folds(states, rows)
        total = sum(len(fold.y_val) for fold in data.folds)
        results, kept = [], []
        for fold in rows.folds:
            labels = fold.data.y_val
            scores = self._on_fold(stack, fold, states, penalties)
            results.append(errors_and_accuracies(scores, fold.targets("val", labels)) * (len(labels) / total))
            if self.criterion is not None:
                kept.append(scores)
        labels = np.concatenate([fold.y_val for fold in data.folds])
        values = fitness_of_each(self.criterion, labels, torch.cat(kept, 1) if kept else None)
        return measured(torch.stack(results).sum(0), values)

    def _penalties_of_folds(self, states: Tensor, rows: DeviceRows) -> Tensor:
        """Return the penalty of each candidate for all folds, by leave-one-out; `states` are of the original rows."""
        data = rows.data
        if self._lapack:
            chosen = [attempt(partial(penalty_of_folds, self.config, one, data))[0] for one in states]
            return torch.tensor([one or math.nan for one in chosen], dtype=torch.float64)
        originals = data.originals
        weights = rows.stand_in_weights(originals.y, np.concatenate([fold.y_train for fold in data.folds]))
        problem = BatchedRows(states, rows.targets("originals", originals.y), weights)
        worths = self._worths(originals.y, data)
        return problem.left_out(self.config.readout.ridge_penalties, worths)[0]

    def _on_fold(
        self, stack: StackedReservoirs, rows: DeviceRows, originals: Tensor, penalties: Tensor | None
    ) -> Tensor:
        """Return the scores of the held-out rows of a fold, shape (candidates, rows, classes)."""
        fold = rows.data
        train = _states_of_fold(stack, rows, "train", fold.x_train, fold.origin_train, originals)
        val = _states_of_fold(stack, rows, "val", fold.x_val, fold.origin_val, originals)
        targets, weights = rows.targets("train", fold.y_train), rows.weights("train", fold.y_train)
        if penalties is None:
            sums = self._sums(stack, fold)
            sums.add(train, targets, None if weights is None else weights.sqrt())
            return self._best_scores(sums, val, rows)
        readout, intercepts = BatchedRows(train, targets, weights).solved(penalties)
        return torch.baddbmm(intercepts[:, None].float(), val.float(), readout.float())


def measured(results: Tensor, values: list[float] | None) -> list[Measured]:
    """Return what is measured of each candidate.

    Parameters
    ----------
    results : torch.Tensor, shape (2, candidates), float64
        Errors and accuracies.
    values : list of float or None
        The criterion of each candidate, if there is one.
    """
    errors, accuracies = results.tolist()
    return list(map(Measured, errors, accuracies, repeat(None) if values is None else values))


def fitness_of_each(by: Criterion | None, labels: NDArray[np.int64], scores: Tensor | None) -> list[float] | None:
    """Return a criterion of the scores of each candidate, negative if lower is better; None without a criterion.

    One copy is read back: the predicted classes, or the scores if the criterion needs them.

    Parameters
    ----------
    by : Criterion or None
    labels : ndarray, shape (rows,)
    scores : torch.Tensor, shape (candidates, rows, classes), or None
    """
    if by is None or scores is None:
        return None
    if by.needs == "labels":
        return [by.fitness(labels, predicted) for predicted in scores.argmax(2).cpu().numpy()]
    return [by.fitness(labels, one.argmax(1), one) for one in scores.cpu().numpy()]


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

"""Several candidates at once: their states are computed in common products, the rest one candidate after the other."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.sequence_checks import check_states
from rcdp_hpc.reservoir.stacked import StackedReservoirs
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.search.checks import check_lengths
from rcdp_hpc.search.evaluation.base import Fitness
from rcdp_hpc.search.evaluation.candidate import Evaluation, evaluate_candidate
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness, assembled_states, mean_over_folds
from rcdp_hpc.search.evaluation.rank_group import attempt, row_blocks
from rcdp_hpc.search.evaluation.ridge import (
    ErrorAccuracy,
    add_rows,
    evaluate_fold,
    evaluate_left_out,
    evaluate_on_validation,
    penalty_of_folds,
    row_weights,
    uses_left_out,
)
from rcdp_hpc.search.evaluation.rows import FitnessData
from rcdp_hpc.search.space import Values, with_values

T = TypeVar("T")
U = TypeVar("U")


class BatchedFitness(Fitness):
    """The fitness of `ReservoirFitness`, by ridge, for ``search.candidates_at_once`` candidates at once.

    The result of a candidate does not depend on the others in its batch: a batch that is not full is filled up. It may
    differ from that of `ReservoirFitness` in the last digits.

    Parameters
    ----------
    config, data : Config, FitnessData
        As in `ReservoirFitness`.
    memory : int, optional
        Most bytes that all candidates of a batch may need by estimate; unlimited by default.

    Raises
    ------
    InputError
        As in `ReservoirFitness`, and if samples have different numbers of steps.
    """

    def __init__(self, config: Config, data: FitnessData, memory: int = sys.maxsize) -> None:
        self.candidates_at_once = config.search.candidates_at_once
        unequal = any(data.samples(part)[1] is not None for part in ("train", "val"))
        check_lengths(config, unequal)
        self.config = config
        self.single = ReservoirFitness(config, data, memory // self.candidates_at_once)

    def set_share(self, share: float) -> BatchedFitness:
        """Evaluate the next candidates on the first rows, this share of all; return this object."""
        self.single.set_share(share)
        return self

    def __call__(self, values: Values) -> Evaluation:
        """Evaluate the candidate with these values, in a batch without others."""
        return self.evaluate([values])[0]

    def evaluate(self, candidates: list[Values]) -> list[Evaluation]:
        """Evaluate at most `candidates_at_once` candidates; each has an equal share of the seconds."""
        started = time.perf_counter()
        reservoirs = [_attempt(partial(self._reservoir, values)) for values in candidates]
        measured = iter(self._measure([one for one in reservoirs if isinstance(one, Reservoir)]))
        results = [next(measured) if isinstance(one, Reservoir) else one for one in reservoirs]
        evaluations = [
            evaluate_candidate(partial(_result, result), values, self.config.search)
            for result, values in zip(results, candidates, strict=True)
        ]
        seconds = (time.perf_counter() - started) / len(candidates)
        return [replace(one, seconds=seconds) for one in evaluations]

    def _reservoir(self, values: Values) -> Reservoir:
        source = self.single.source(with_values(self.config, values))
        if not isinstance(source, Reservoir):  # a rule of the configuration refuses this
            raise AssertionError(f"reservoir.kind = {self.config.reservoir.kind!r} has no reservoirs to stack")
        return source

    def _measure(self, reservoirs: list[Reservoir]) -> list[ErrorAccuracy | Exception]:
        if not reservoirs:
            return []
        stack = StackedReservoirs(reservoirs, self.candidates_at_once)
        data = self.single.rows
        if data.folds:
            return self._on_folds(stack, data)
        count = len(data.originals.y) + len(data.y_val)
        if uses_left_out(self.config, count, stack.first.width):
            states = _gathered(stack, data.left_out_rows.x)
            return [_then(one, lambda states: evaluate_left_out(self.config, states, data)) for one in states]
        return self._on_validation(stack, data)

    def _on_validation(self, stack: StackedReservoirs, data: FitnessData) -> list[ErrorAccuracy | Exception]:
        weights = row_weights(self.config, data)
        sums: list[GramSums | Exception] = [GramSums(stack.first.width, data.classes) for _ in range(stack.count)]
        for rows, blocks in _states(stack, data.x_train):
            labels = data.y_train[rows]
            sums = [
                _then(one, partial(_with_rows, block, labels, weights, data.classes))
                for one, block in zip(sums, blocks, strict=True)
            ]
        val_states = _gathered(stack, data.x_val)
        return [
            _then(one, partial(self._evaluate_sums, states, data)) for one, states in zip(sums, val_states, strict=True)
        ]

    def _evaluate_sums(self, states: torch.Tensor | Exception, data: FitnessData, sums: GramSums) -> ErrorAccuracy:
        return evaluate_on_validation(self.config, sums, _value(states), data)

    def _on_folds(self, stack: StackedReservoirs, data: FitnessData) -> list[ErrorAccuracy | Exception]:
        originals = _gathered(stack, data.originals.x)
        penalties = [_then(one, lambda states: penalty_of_folds(self.config, states, data)) for one in originals]
        results = []
        for fold in data.folds:
            train_states = _states_of_fold(stack, fold.x_train, fold.origin_train, originals)
            val_states = _states_of_fold(stack, fold.x_val, fold.origin_val, originals)
            results.append([
                _attempt(partial(self._on_fold, penalty, train, val, fold))
                for penalty, train, val in zip(penalties, train_states, val_states, strict=True)
            ])  # fmt: skip
        return [
            _attempt(partial(_mean_over_folds, list(of_folds), data.folds)) for of_folds in zip(*results, strict=True)
        ]

    def _on_fold(
        self,
        penalty: float | Exception | None,
        train_states: torch.Tensor | Exception,
        val_states: torch.Tensor | Exception,
        fold: FitnessData,
    ) -> ErrorAccuracy:
        return evaluate_fold(self.config, _value(penalty), _value(train_states), _value(val_states), fold)


def _states(stack: StackedReservoirs, x: NDArray[Any]) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield rows and the states of all candidates, shape (candidates, rows, width), in fixed blocks."""
    for rows in row_blocks(len(x), stack.first.batch_rows):
        yield rows, stack.drive(x[rows].copy()).cpu()  # the shared rows are read-only, which torch does not support


def _gathered(stack: StackedReservoirs, x: NDArray[Any]) -> list[torch.Tensor | Exception]:
    """Return the states of all rows for each candidate, shape (rows, width)."""
    states: torch.Tensor | None = None
    for rows, blocks in _states(stack, x):
        if states is None:
            states = torch.empty((stack.count, len(x), stack.first.width), dtype=blocks.dtype)
        states[:, rows] = blocks
    return [] if states is None else [_attempt(partial(_checked, one)) for one in states]


def _states_of_fold(
    stack: StackedReservoirs,
    x: NDArray[Any],
    origins: NDArray[np.int64] | None,
    originals: list[torch.Tensor | Exception],
) -> list[torch.Tensor | Exception]:
    """Return the states of a part of a fold for each candidate; `originals` are those of the original rows."""
    if origins is None:
        return _gathered(stack, x)
    if not (origins < 0).any():
        return [_then(one, lambda states: assembled_states(origins, states, None)) for one in originals]
    synthetic = _gathered(stack, x[origins < 0])
    return [
        _then(one, lambda states, other=other: assembled_states(origins, states, _value(other)))  # type: ignore[misc]
        for one, other in zip(originals, synthetic, strict=True)
    ]


def _checked(states: torch.Tensor) -> torch.Tensor:
    check_states(states)
    return states


def _with_rows(
    states: torch.Tensor, labels: NDArray[np.int64], weights: NDArray[np.float64] | None, classes: int, sums: GramSums
) -> GramSums:
    add_rows(sums, _checked(states), labels, classes, weights)
    return sums


def _mean_over_folds(results: list[ErrorAccuracy | Exception], folds: tuple[FitnessData, ...]) -> ErrorAccuracy:
    return mean_over_folds([_value(one) for one in results], folds)


def _value(result: T | Exception) -> T:
    """Return a result, or raise the failure in its place."""
    if isinstance(result, Exception):
        raise result
    return result


def _attempt(work: Callable[[], T]) -> T | Exception:
    """Return the result of `work`, or the failure of the candidate."""
    value, failure = attempt(work)
    return value if failure is None else failure  # type: ignore[return-value]


def _then(result: T | Exception, work: Callable[[T], U]) -> U | Exception:
    """Apply `work` to the result of a candidate; a candidate that failed earlier keeps its failure."""
    return result if isinstance(result, Exception) else _attempt(lambda: work(result))


def _result(result: ErrorAccuracy | Exception, values: Values | None = None) -> ErrorAccuracy:
    """Return error and accuracy of a candidate, or raise its failure; `values` have no effect."""
    return _value(result)

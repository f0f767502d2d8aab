"""Candidates evaluated at once: the states of several in common products, everything else one after the other."""

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
from rcdp_hpc.reservoir.stacked import StackedReservoirs
from rcdp_hpc.reservoir.states import Reservoir, check_states
from rcdp_hpc.search.checks import check_lengths
from rcdp_hpc.search.evaluation.candidate import Evaluation, judge
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness, assembled, over_parts
from rcdp_hpc.search.evaluation.rank_group import attempt, row_blocks
from rcdp_hpc.search.evaluation.ridge import (
    Judged,
    add_rows,
    judge_fold,
    judge_left_out,
    judge_on_validation,
    judged_by_left_out,
    penalty_of_folds,
    row_weights,
)
from rcdp_hpc.search.evaluation.rows import FitnessData
from rcdp_hpc.search.space import Values, with_values

T = TypeVar("T")
U = TypeVar("U")


class BatchedFitness:
    """The fitness of `ReservoirFitness`, by ridge, for ``search.candidates_at_once`` candidates at a time.

    A candidate's answer does not depend on its companions: a batch that is not full is filled up. It may differ in the
    last digits from what `ReservoirFitness` finds.

    Parameters
    ----------
    config, data, memory
        As `ReservoirFitness`; `memory` is that of all candidates of a batch.

    Attributes
    ----------
    at_once : int
        Candidates in a batch.

    Raises
    ------
    InputError
        As `ReservoirFitness`, and if candidates like these cannot be evaluated at once.
    """

    def __init__(self, config: Config, data: FitnessData, memory: int = sys.maxsize) -> None:
        self.at_once = config.search.candidates_at_once
        unequal = any(data.samples(part)[1] is not None for part in ("train", "val"))
        check_lengths(config, unequal)
        self.config, self.single = config, ReservoirFitness(config, data, memory // self.at_once)

    def on_share(self, share: float) -> BatchedFitness:
        """Judge the next candidates by the first rows, this share of all; return this object."""
        self.single.on_share(share)
        return self

    def __call__(self, values: Values) -> Evaluation:
        """Evaluate the candidate with these values, in a batch of its own."""
        return self.evaluate([values])[0]

    def evaluate(self, candidates: list[Values]) -> list[Evaluation]:
        """Evaluate at most `at_once` candidates; each counts with an equal share of the seconds."""
        started = time.perf_counter()
        build = [partial(self.single.reservoir, with_values(self.config, values)) for values in candidates]
        reservoirs = [_attempt(one) for one in build]
        measured = iter(self._measured([one for one in reservoirs if isinstance(one, Reservoir)]))
        outcomes = [next(measured) if isinstance(one, Reservoir) else one for one in reservoirs]
        found = [
            judge(partial(_outcome, outcome), values, self.config.search, self.single.density(values))
            for outcome, values in zip(outcomes, candidates, strict=True)
        ]
        seconds = (time.perf_counter() - started) / len(candidates)
        return [replace(one, seconds=seconds) for one in found]

    def _measured(self, reservoirs: list[Reservoir]) -> list[Judged | Exception]:
        if not reservoirs:
            return []
        stack, data = StackedReservoirs(reservoirs, self.at_once), self.single.due
        if data.folds:
            return self._by_folds(stack, data)
        judging = len(data.originals.y) + len(data.y_val)
        if judged_by_left_out(self.config, judging, stack.first.width):
            states = _gathered(stack, data.judging.x)
            return [_then(one, lambda own: judge_left_out(self.config, own, data)) for one in states]
        return self._on_validation(stack, data)

    def _on_validation(self, stack: StackedReservoirs, data: FitnessData) -> list[Judged | Exception]:
        weights = row_weights(self.config, data)
        sums: list[GramSums | Exception] = [GramSums(stack.first.width, data.classes) for _ in range(stack.count)]
        for rows, blocks in _states(stack, data.x_train):
            labels = data.y_train[rows]
            sums = [
                _then(one, partial(_added, block, labels, weights, data.classes))
                for one, block in zip(sums, blocks, strict=True)
            ]
        found = _gathered(stack, data.x_val)
        return [_then(one, partial(self._judged, own, data)) for one, own in zip(sums, found, strict=True)]

    def _judged(self, states: torch.Tensor | Exception, data: FitnessData, sums: GramSums) -> Judged:
        if isinstance(states, Exception):
            raise states
        return judge_on_validation(self.config, sums, states, data)

    def _by_folds(self, stack: StackedReservoirs, data: FitnessData) -> list[Judged | Exception]:
        known = _gathered(stack, data.originals.x)
        penalties = [_then(one, lambda own: penalty_of_folds(self.config, own, data)) for one in known]
        judged = []
        for fold in data.folds:
            fitted = _of_fold(stack, fold.x_train, fold.origin_train, known)
            held_out = _of_fold(stack, fold.x_val, fold.origin_val, known)
            judged.append([
                _attempt(partial(self._of_one_fold, penalty, own, other, fold))
                for penalty, own, other in zip(penalties, fitted, held_out, strict=True)
            ])  # fmt: skip
        return [_attempt(partial(_over_parts, list(found), data.folds)) for found in zip(*judged, strict=True)]

    def _of_one_fold(
        self,
        penalty: float | Exception | None,
        fitted: torch.Tensor | Exception,
        held_out: torch.Tensor | Exception,
        fold: FitnessData,
    ) -> Judged:
        return judge_fold(self.config, _sound(penalty), _sound(fitted), _sound(held_out), fold)


def _states(stack: StackedReservoirs, x: NDArray[Any]) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield rows and all candidates' states of them, shape (candidates, rows, width), in fixed blocks."""
    for rows in row_blocks(len(x), stack.first.batch_rows):
        yield rows, stack.drive(x[rows].copy()).cpu()  # the shared rows are read-only, which torch has no notion of


def _gathered(stack: StackedReservoirs, x: NDArray[Any]) -> list[torch.Tensor | Exception]:
    """Return each candidate's states of all rows, shape (rows, width)."""
    found: torch.Tensor | None = None
    for rows, blocks in _states(stack, x):
        if found is None:
            found = torch.empty((stack.count, len(x), stack.first.width), dtype=blocks.dtype)
        found[:, rows] = blocks
    return [] if found is None else [_attempt(partial(_checked, own)) for own in found]


def _of_fold(
    stack: StackedReservoirs,
    x: NDArray[Any],
    origins: NDArray[np.int64] | None,
    known: list[torch.Tensor | Exception],
) -> list[torch.Tensor | Exception]:
    """Return each candidate's states of a part of a fold, from those of the original rows."""
    if origins is None:
        return _gathered(stack, x)
    if not (origins < 0).any():
        return [_then(one, lambda own: assembled(origins, own, None)) for one in known]
    made = _gathered(stack, x[origins < 0])
    return [
        _then(one, lambda own, other=other: assembled(origins, own, _sound(other)))  # type: ignore[misc]
        for one, other in zip(known, made, strict=True)
    ]


def _checked(states: torch.Tensor) -> torch.Tensor:
    check_states(states)
    return states


def _added(
    states: torch.Tensor, labels: NDArray[np.int64], weights: NDArray[np.float64] | None, classes: int, sums: GramSums
) -> GramSums:
    add_rows(sums, _checked(states), labels, classes, weights)
    return sums


def _sound(value: T | Exception) -> T:
    """Return a value, or raise why there is none."""
    if isinstance(value, Exception):
        raise value
    return value


def _over_parts(found: list[Judged | Exception], parts: tuple[FitnessData, ...]) -> Judged:
    return over_parts([_sound(one) for one in found], parts)


def _attempt(work: Callable[[], T]) -> T | Exception:
    """Return what `work` gives, or why the candidate fails."""
    value, failure = attempt(work)
    return value if failure is None else failure  # type: ignore[return-value]


def _then(before: T | Exception, work: Callable[[T], U]) -> U | Exception:
    """Go on with a candidate, unless it has failed before."""
    return before if isinstance(before, Exception) else _attempt(lambda: work(before))


def _outcome(outcome: Judged | Exception, values: Values | None = None) -> Judged:
    """Return what was measured, or raise why it could not be."""
    return _sound(outcome)

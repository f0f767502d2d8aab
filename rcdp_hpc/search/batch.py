"""Candidates evaluated at once: the states of several in common products, everything else one after the other."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.reservoir.ridge import GramSums, RidgeReadout, one_hot, solve
from rcdp_hpc.reservoir.stacked import StackedReservoirs
from rcdp_hpc.reservoir.states import Reservoir, check_states
from rcdp_hpc.search.candidate import Evaluation, judge
from rcdp_hpc.search.checks import check_batched
from rcdp_hpc.search.data import FitnessData, Part
from rcdp_hpc.search.fitness import Judged, ReservoirFitness, judge_scores, over_parts
from rcdp_hpc.search.group import attempt, row_blocks
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
        check_batched(config, unequal)
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
            judge(partial(_told, outcome), values, self.config.search, self.single.density(values))
            for outcome, values in zip(outcomes, candidates, strict=True)
        ]
        seconds = (time.perf_counter() - started) / len(candidates)
        return [replace(one, seconds=seconds) for one in found]

    def _measured(self, reservoirs: list[Reservoir]) -> list[Judged | Exception]:
        if not reservoirs:
            return []
        stack, parts = StackedReservoirs(reservoirs, self.at_once), self.single.parts
        judged = zip(*(self._by_ridge(stack, part) for part in parts), strict=True)
        return [_attempt(partial(_over_parts, list(found), parts)) for found in judged]

    def _by_ridge(self, stack: StackedReservoirs, data: FitnessData) -> list[Judged | Exception]:
        sums: list[GramSums | Exception] = [GramSums(stack.first.width, data.classes) for _ in range(stack.count)]
        for rows, blocks in _states(stack, data, "train"):
            targets = one_hot(data.y_train[rows], data.classes)
            sums = [_then(one, partial(_added, block, targets)) for one, block in zip(sums, blocks, strict=True)]
        penalty = self.config.search.ridge_penalty
        readouts = [_then(one, lambda own: solve(own, penalty)) for one in sums]
        scores = np.empty((stack.count, len(data.y_val), data.classes), dtype=np.float32)
        for rows, blocks in _states(stack, data, "val"):
            readouts = [
                _then(one, partial(_predicted, block, own[rows]))
                for one, block, own in zip(readouts, blocks, scores, strict=True)
            ]
        return [
            one if isinstance(one, Exception) else judge_scores(own, data.y_val)
            for one, own in zip(readouts, scores, strict=True)
        ]


def _states(stack: StackedReservoirs, data: FitnessData, part: Part) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield rows and all candidates' states of them, shape (candidates, rows, width), in fixed blocks."""
    x, _ = data.samples(part)
    for rows in row_blocks(len(x), stack.first.batch_rows):
        yield rows, stack.drive(x[rows].copy()).cpu()  # the shared rows are read-only, which torch has no notion of


def _added(states: torch.Tensor, targets: NDArray[np.float32], sums: GramSums) -> GramSums:
    check_states(states)
    sums.add(states, targets)
    return sums


def _predicted(states: torch.Tensor, into: NDArray[np.float32], readout: RidgeReadout) -> RidgeReadout:
    check_states(states)
    into[:] = readout.predict(states)
    return readout


def _over_parts(found: list[Judged | Exception], parts: tuple[FitnessData, ...]) -> Judged:
    return over_parts([_told(one) for one in found], parts)


def _attempt(work: Callable[[], T]) -> T | Exception:
    """Return what `work` gives, or why the candidate fails."""
    value, failure = attempt(work)
    return value if failure is None else failure  # type: ignore[return-value]


def _then(before: T | Exception, work: Callable[[T], U]) -> U | Exception:
    """Go on with a candidate, unless it has failed before."""
    return before if isinstance(before, Exception) else _attempt(lambda: work(before))


def _told(outcome: Judged | Exception, values: Values | None = None) -> Judged:
    """Return what was measured, or raise why it could not be."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome

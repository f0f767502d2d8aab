"""Held-out scores of all methods that have scores of their own, from sums over features or from products of rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.balance_check.conclusion import worth_of
from rcdp_hpc.balance_check.memory import refuse_many_products, sums_by_class
from rcdp_hpc.balance_check.methods.base import Method
from rcdp_hpc.balance_check.row_space import RowSpace
from rcdp_hpc.balance_check.rows import CheckRows
from rcdp_hpc.balance_check.solutions import Evaluated, best_penalties, sums_scores, with_best_penalties
from rcdp_hpc.balance_check.state_pass import (
    ClassWeighting,
    gathered_states,
    local_slabs,
    pass_over_states,
    training_sums,
)
from rcdp_hpc.config import Config
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import run_on_root
from rcdp_hpc.runtime.comm.single import SingleProcess


@dataclass
class Timer:
    """Seconds of the parts of a check, by name."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure a part."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The scores of a check.

    Attributes
    ----------
    by_method : dict of str to Evaluated
        On rank 0; without scores elsewhere.
    sums_by_class : bool or None
        Whether sums were kept by class; None if products of rows were used.
    """

    by_method: dict[str, Evaluated]
    sums_by_class: bool | None


def penalties_of(config: Config) -> list[float]:
    """Return the penalties, ascending."""
    return sorted(set(config.readout.ridge_penalties))


def evaluated_by_sums(
    config: Config,
    rows: CheckRows,
    source: StateSource,
    comm: Communicator,
    methods: Sequence[Method],
    criterion: str,
    timer: Timer,
) -> Evaluation:
    """Return the scores from sums over features, which all ranks make. Collective."""
    weightings = weightings_of(methods)
    by_class = sums_by_class(config, rows, source, len(weightings), comm)
    with timer.part("states"):
        passed = pass_over_states(config, rows, source, by_class, weightings, comm)
    bounds = [(start - passed.first, stop - passed.first) for start, stop in local_slabs(len(rows.labels), comm)]
    local_folds = rows.folds[passed.first : passed.first + len(passed.states)]
    penalties, choose, found = penalties_of(config), _choosing(rows, criterion), {}
    with timer.part("readouts"):
        for one in _with_own_scores(methods):
            sums_of = partial(training_sums, passed, rows, one.name, one.balance, one.class_weights)
            scores = sums_scores(sums_of, rows.fold_count, penalties, passed.states, local_folds, bounds, comm)
            found[one.name] = with_best_penalties(scores, local_folds, penalties, choose, comm)
    return Evaluation(found, by_class)


def evaluated_by_rows(
    config: Config,
    rows: CheckRows,
    source: StateSource,
    comm: Communicator,
    methods: Sequence[Method],
    criterion: str,
    timer: Timer,
) -> Evaluation:
    """Return the scores from products of rows, which rank 0 makes. Collective."""
    run_on_root(comm, lambda: refuse_many_products(rows, source.width))
    with timer.part("states"):
        states = gathered_states(config, rows, source, comm)
    penalties, choose = penalties_of(config), _choosing(rows, criterion)
    own, found = _with_own_scores(methods), {}

    def work() -> None:
        assert states is not None
        space, alone = RowSpace.of(rows, states), SingleProcess()
        for one in own:
            scores = space.scores(one, penalties)
            found[one.name] = with_best_penalties(scores, rows.folds, penalties, choose, alone)

    with timer.part("readouts"):
        run_on_root(comm, work)
    return Evaluation(found, None)


def weightings_of(methods: Sequence[Method]) -> dict[str, ClassWeighting]:
    """Return the class weights of the methods that weigh classes."""
    return {one.name: one.class_weights for one in methods if one.weighs}


def _with_own_scores(methods: Sequence[Method]) -> list[Method]:
    return [one for one in methods if one.scores_of == one.name]


def _choosing(rows: CheckRows, criterion: str) -> Callable[[NDArray[np.int64]], list[int]]:
    """Return the choice of the penalty of each fold from the answers under each penalty."""
    worth = worth_of(criterion, rows.classes)
    return partial(best_penalties, labels=rows.labels, folds=rows.folds, count=rows.fold_count, worth=worth)

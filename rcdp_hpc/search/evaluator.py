"""Candidates spread over ranks: scatter arrays, evaluate, gather arrays. Independent of the optimiser."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.search.cost_model import CostModel
from rcdp_hpc.search.evaluation.base import Fitness
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.records.journal import Journal
from rcdp_hpc.search.scheduling import assign_longest_first, choose_group_ranks, padded_table
from rcdp_hpc.search.space import Space

COLUMNS = ("index", "fitness", "error", "accuracy", "seconds", "rank", "status")
PENDING, EVALUATED, FAILED = 0.0, 1.0, 2.0
# A rank that still runs may take this many times the predicted time of its candidates: predictions are rough.
PATIENCE_FACTOR = 30.0
PADDING = -1.0  # index of a row without a candidate

Reasons = list[tuple[int, str]]


class Round(NamedTuple):
    """One call of the evaluator within a search.

    Attributes
    ----------
    generation : int
        The current generation.
    saved_generation : int
        The last complete generation of the checkpoint on disk, for the journal.
    share : float
        Share of the rows that the candidates are evaluated on.
    """

    generation: int = 0
    saved_generation: int = -1
    share: float = 1.0


class Loads(NamedTuple):
    """Predicted work of each worker.

    Attributes
    ----------
    of_workers : list of float
        Sum of the predicted costs of its candidates, in any unit.
    longest_seconds : float
        Seconds of the worker with most candidates if each took as long as the slowest so far; 0 without measurements.
    """

    of_workers: list[float]
    longest_seconds: float


NO_SEARCH = Round()


class Evaluator:
    """Evaluates candidates on all ranks, rank 0 included.

    Parameters
    ----------
    comm : Communicator
    fitness : Fitness
    space : Space
        Names and types of the values.
    advance : callable, optional
        Called on rank 0 after each of its own candidates, with the estimated number of candidates that all ranks
        together finished in the meantime.
    group_ranks : int
        Ranks that evaluate a candidate together; 0 chooses from measured costs before each generation.
    journal : Journal, optional
        Records every candidate.
    stall_seconds : float
        Least time to wait for a rank that runs and does not return from its candidates; 0 waits without a limit.

    Attributes
    ----------
    cost : CostModel
        Predicts costs, on rank 0.
    workers : int
        Ranks or groups of ranks of the last generation.
    """

    def __init__(
        self,
        comm: Communicator,
        fitness: Fitness,
        space: Space,
        advance: Callable[[int], object] | None = None,
        group_ranks: int = 1,
        journal: Journal | None = None,
        stall_seconds: float = 0.0,
    ) -> None:
        self.comm = comm
        self.fitness = fitness
        self.space = space
        self.advance = advance
        self.group_ranks = group_ranks if fitness.uses_groups else 1
        self.journal = journal
        self.stall_seconds = stall_seconds
        self.cost = CostModel(space)
        self.workers = comm.size
        self._groups: dict[int, Communicator] = {comm.size: SingleProcess()}
        self._group = self._groups[comm.size]
        self._loads = Loads([], 0.0)

    def evaluate(
        self, values: NDArray[np.float64] | None, current: Round = NO_SEARCH
    ) -> list[Evaluation | None] | None:
        """Evaluate candidates. Collective.

        A rank that receives a stop signal does not evaluate its remaining candidates.

        Parameters
        ----------
        values : ndarray, shape (n, d), float64, or None
            On rank 0 the candidates' values, in the order of the space's names; None on other ranks.
        current : Round
            The same on all ranks.

        Returns
        -------
        list of Evaluation or None
            On rank 0, in the order of `values`, None for a candidate that was not evaluated; None on other ranks.

        Raises
        ------
        RcdpError
            An error of any rank, apart from a candidate that fails; raised on all ranks.
        """
        workers = self._choose_workers(values)
        self._form_groups(workers)
        self.fitness.set_share(current.share)
        columns = 1 + len(self.space.dimensions)
        assignment = self.comm.scatter_rows(self._assignments(values, workers), columns)
        # Progress counts candidates: one that is evaluated on a part of the rows is not finished.
        total = None if values is None or current.share < 1 else len(values)
        loads = self.comm.broadcast(self._loads)

        def evaluate_assigned() -> tuple[NDArray[np.float64], Reasons]:
            started = time.monotonic()
            rows, reasons = self._evaluate_assignment(assignment, total, current)
            self.comm.wait_limit = self._patience(rows, time.monotonic() - started, loads)
            return rows, reasons

        with self.comm.limit_waits(0.0):
            rows, reasons = agree(self.comm, evaluate_assigned)
        gathered = self.comm.gather_rows(rows)
        reason_of_index = dict(pair for reasons_of_rank in self.comm.allgather(reasons) for pair in reasons_of_rank)
        if values is None or gathered is None:
            return None
        evaluations = _in_order(gathered, reason_of_index, len(values))
        for row, evaluation in zip(values, evaluations, strict=True):
            if evaluation is not None and evaluation.reason is None and current.share == 1:
                self.cost.observe(row, evaluation.seconds)
        return evaluations

    def _choose_workers(self, values: NDArray[np.float64] | None) -> int:
        """Return the number of groups that the ranks form, the same on all ranks."""
        size = self.comm.size
        if size == 1 or self.group_ranks == 1:
            return size
        group_ranks = self.group_ranks
        if not group_ranks and values is not None:
            group_ranks = choose_group_ranks(len(values), size, self.fitness.parallel_share)
        return int(self.comm.broadcast(max(1, size // max(group_ranks, 1))))

    def _form_groups(self, workers: int) -> None:
        """Split the ranks into groups whose sizes differ by at most one; each split is made once."""
        self.workers = workers
        if workers not in self._groups:
            self._groups[workers] = self.comm.split(self.comm.rank * workers // self.comm.size)
        self._group = self._groups[workers]
        self.fitness.set_group(self._group)

    def _patience(self, rows: NDArray[np.float64], seconds: float, loads: Loads) -> float:
        """Return the seconds to wait for the other ranks' candidates, 0 without a limit.

        The limit follows from the speed of this rank, which is known only if it evaluated all of its candidates.
        """
        load = loads.of_workers[self.comm.rank * self.workers // self.comm.size]
        status = rows[:, COLUMNS.index("status")]
        if not self.stall_seconds or not len(rows) or not load or (status != EVALUATED).any():
            return 0.0
        longest = max(seconds / load * max(loads.of_workers), loads.longest_seconds)
        return PATIENCE_FACTOR * max(self.stall_seconds, longest)

    def _assignments(self, values: NDArray[np.float64] | None, workers: int) -> NDArray[np.float64] | None:
        """Return index and values of the candidates of all ranks, the same number of rows for each rank.

        Only the first rank of a group has candidates, the longest first; other rows are padding.
        """
        if values is None:
            return None
        size = self.comm.size
        leaders = [-(-worker * size // workers) for worker in range(workers)]  # exact ceil(worker * size / workers)
        costs = self.cost.predict(values)
        assignment = assign_longest_first(costs, workers)
        loads = [float(costs[candidates].sum()) for candidates in assignment]
        self._loads = Loads(loads, self.cost.slowest * max(map(len, assignment)))
        table = padded_table(assignment, leaders, size).ravel()
        rows = np.full((len(table), 1 + values.shape[1]), PADDING)
        occupied = table >= 0
        rows[occupied] = np.column_stack([table[occupied].astype(np.float64), values[table[occupied]]])
        return rows

    def _evaluate_assignment(
        self, assignment: NDArray[np.float64], total: int | None, current: Round
    ) -> tuple[NDArray[np.float64], Reasons]:
        """Evaluate the candidates of this rank's group; return rows of `COLUMNS` and the reasons of failures."""
        assignment = self._group.broadcast(assignment[assignment[:, 0] != PADDING])
        is_leader = self._group.is_root
        rows = np.full((len(assignment) if is_leader else 0, len(COLUMNS)), np.nan)
        rows[:, COLUMNS.index("index")] = assignment[: len(rows), 0]
        rows[:, COLUMNS.index("rank")] = self.comm.rank
        rows[:, COLUMNS.index("status")] = PENDING
        reasons: Reasons = []
        self._write_journal(lambda journal: journal.begin(*current))
        self.fitness.prepare([self.space.named(row) for row in assignment[:, 1:]])
        for places in self._batches(assignment[:, 1:]):
            if signals.stop_agreed(self._group):
                break
            evaluations = self._evaluate_together(assignment[places, 1:])
            if not is_leader:
                continue
            for place, one in zip(places, evaluations, strict=True):
                rows[place, 1:5] = one.fitness, one.error, one.accuracy, one.seconds
                rows[place, COLUMNS.index("status")] = EVALUATED if one.reason is None else FAILED
                if one.reason is not None:
                    reasons.append((int(assignment[place, 0]), one.reason))
                if self.advance is not None and total is not None:
                    count = len(assignment)
                    self.advance((place + 1) * total // count - place * total // count)
        return rows, reasons

    def _batches(self, values: NDArray[np.float64]) -> list[list[int]]:
        """Return the places of the candidates, shape (n, d), of each call of the fitness.

        Candidates of a batch that an earlier job did not finish come first, one by one.
        """
        at_once, places = self.fitness.candidates_at_once, range(len(values))
        journal = self.journal if at_once > 1 else None
        alone = [place for place in places if journal is not None and journal.was_in_lost_batch(values[place])]
        rest = [place for place in places if place not in alone]
        return [[place] for place in alone] + [rest[start : start + at_once] for start in range(0, len(rest), at_once)]

    def _evaluate_together(self, values: NDArray[np.float64]) -> list[Evaluation]:
        """Evaluate the candidates of one call of the fitness, shape (n, d), and record them in the journal."""
        if len(values) == 1:
            return [self._evaluate_one(values[0])]
        with nullcontext() if self.journal is None else self.journal.batch(values):
            evaluations = self.fitness.evaluate([self.space.named(row) for row in values])

        def record(journal: Journal) -> None:
            for row, evaluation in zip(values, evaluations, strict=True):
                journal.record(row, evaluation)

        self._write_journal(record)
        return evaluations

    def _evaluate_one(self, values: NDArray[np.float64]) -> Evaluation:
        named = self.space.named(values)
        self._write_journal(lambda journal: journal.announce(values))
        watchdog: AbstractContextManager[None] = nullcontext()
        if self.journal is not None and self._group.is_root:
            watchdog = self.journal.watched(", ".join(f"{name} = {value}" for name, value in named.items()))
        with watchdog:
            evaluation = self.fitness(named)
        self._write_journal(lambda journal: journal.record(values, evaluation))
        return evaluation

    def _write_journal(self, write: Callable[[Journal], object]) -> None:
        """Let the first rank of the group write in its journal; an error is raised on all ranks of the group."""
        journal = self.journal
        if journal is not None:
            agree_on_root(self._group, lambda: write(journal))


def _in_order(gathered: NDArray[np.float64], reasons: dict[int, str], count: int) -> list[Evaluation | None]:
    """Return the gathered rows as evaluations in the order of their index."""
    evaluations: list[Evaluation | None] = [None] * count
    for index, fitness, error, accuracy, seconds, rank, status in gathered.tolist():
        if status != PENDING:
            evaluation = Evaluation(fitness, error, accuracy, seconds, rank=int(rank))
            if status == FAILED:
                evaluation = replace(evaluation, reason=reasons[int(index)])
            evaluations[int(index)] = evaluation
    return evaluations

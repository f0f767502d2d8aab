"""Candidates dealt over ranks: scatter arrays, evaluate, gather arrays. Knows nothing of optimisers."""

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
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.search.evaluation.candidate import Evaluation, Fitness
from rcdp_hpc.search.records.journal import Journal
from rcdp_hpc.search.scheduling import CostModel, assign_longest_first, choose_group_ranks, padded
from rcdp_hpc.search.space import Space

COLUMNS = ("index", "fitness", "error", "accuracy", "seconds", "rank", "status")
PENDING, EVALUATED, FAILED = 0.0, 1.0, 2.0
# A rank that runs may take this many times the time that its candidates should: predictions are rough.
SLOWER = 30.0
NOTHING = -1.0  # index of a row that only fills up a rank's share


class Round(NamedTuple):
    """What candidates are evaluated for.

    Attributes
    ----------
    generation, settled : int
        The present generation, and the last one that a checkpoint holds: for the journal.
    share : float
        The share of the rows that candidates are judged by.
    """

    generation: int = 0
    settled: int = -1
    share: float = 1.0


class Loads(NamedTuple):
    """How much work each worker has.

    Attributes
    ----------
    of_workers : list of float
        The sum of the predicted costs, in any unit.
    longest_seconds : float
        Seconds of the longest hand, were all its candidates as slow as the slowest so far; 0 before there is one.
    """

    of_workers: list[float]
    longest_seconds: float


ALONE = Round()  # of no search


class Evaluator:
    """Evaluates candidates on all ranks, rank 0 included.

    Parameters
    ----------
    comm : Communicator
    fitness : callable
        Returns the `Evaluation` of a candidate's named values. Where it has a method ``in_group``, ranks may
        evaluate a candidate together: they call it at the same time, after ``in_group(communicator)``. With a method
        ``on_share``, candidates may be judged by a share of the rows, after ``on_share(share)``. With an attribute
        ``at_once`` so many candidates are given to its method ``evaluate`` in a list.
    space : Space
        Names and kinds of the values.
    advance : callable, optional
        Called on rank 0 after each of its own candidates with the number of candidates that all ranks together
        will have done by then, were they equally fast.
    group_ranks : int
        Ranks that evaluate a candidate together; 0 chooses from measured costs, generation by generation.
    journal : Journal, optional
        Told of every candidate.
    stall_seconds : float
        The least patience with a rank that runs and does not return from its candidates; 0 waits without a limit.

    Attributes
    ----------
    cost : CostModel
        On rank 0, what candidates are dealt by.
    workers : int
        Ranks or groups of the last generation.
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
        self.stall_seconds = stall_seconds
        self.comm, self.fitness, self.space, self.advance = comm, fitness, space, advance
        self.group_ranks, self.journal = group_ranks if hasattr(fitness, "in_group") else 1, journal
        self.cost = CostModel(space)
        self.workers = comm.size
        self._groups: dict[int, Communicator] = {comm.size: SingleProcess()}
        self._group = self._groups[comm.size]
        self._loads = Loads([], 0.0)

    def evaluate(self, values: NDArray[np.float64] | None, due: Round = ALONE) -> list[Evaluation | None] | None:
        """Evaluate candidates. Collective.

        Once a rank has received a stop signal it leaves its remaining candidates unevaluated.

        Parameters
        ----------
        values : ndarray, shape (n, d), float64, or None
            On rank 0 the candidates' values, in the order of the space's names; None on other ranks.
        due : Round
            The same on all ranks.

        Returns
        -------
        list of Evaluation or None
            On rank 0, in the order of `values`, None for a candidate left unevaluated; None on other ranks.

        Raises
        ------
        RcdpError
            What a rank met apart from a failing candidate, on all ranks alike.
        """
        workers = self._choose_workers(values)
        self._form_groups(workers)
        if due.share < 1 or hasattr(self.fitness, "on_share"):
            self.fitness.on_share(due.share)  # type: ignore[attr-defined]
        columns = 1 + len(self.space.dimensions)
        hand = self.comm.scatter_rows(self._dealt(values, workers), columns)
        # Progress counts candidates: one that is judged by a part of the rows is not done with.
        total = None if values is None or due.share < 1 else len(values)
        loads = self.comm.broadcast(self._loads)

        def evaluate_own() -> tuple[NDArray[np.float64], list[tuple[int, str]]]:
            started = time.monotonic()
            found = self._evaluate_hand(hand, total, due)
            self.comm.wait_limit = self._patience(found[0], time.monotonic() - started, loads)
            return found

        with self.comm.limit_waits(0.0):
            rows, reasons = agree(self.comm, evaluate_own)
        gathered = self.comm.gather_rows(rows)
        reasons_by_index = dict(pair for found in self.comm.allgather(reasons) for pair in found)
        if values is None or gathered is None:
            return None
        found = _in_order(gathered, reasons_by_index, len(values))
        for row, evaluation in zip(values, found, strict=True):
            if evaluation is not None and evaluation.reason is None and due.share == 1:
                self.cost.observe(row, evaluation.seconds)
        return found

    def _choose_workers(self, values: NDArray[np.float64] | None) -> int:
        """Return into how many groups of ranks the candidates go, the same on all ranks."""
        size = self.comm.size
        if size == 1 or self.group_ranks == 1:
            return size
        together = self.group_ranks
        if not together and values is not None:
            together = choose_group_ranks(len(values), size, getattr(self.fitness, "parallel_share", 0.0))
        return int(self.comm.broadcast(max(1, size // max(together, 1))))

    def _form_groups(self, workers: int) -> None:
        """Split the ranks into groups whose sizes differ by at most one; a split is made once and kept."""
        self.workers = workers
        if workers not in self._groups:
            self._groups[workers] = self.comm.split(self.comm.rank * workers // self.comm.size)
        self._group = self._groups[workers]
        in_group = getattr(self.fitness, "in_group", None)
        if in_group is not None:
            in_group(self._group)

    def _patience(self, rows: NDArray[np.float64], seconds: float, loads: Loads) -> float:
        """Return the seconds to wait for the other ranks' candidates, 0 without a limit.

        Only a rank that evaluated all of its candidates knows how fast they are: none is judged by a guess.
        """
        own = loads.of_workers[self.comm.rank * self.workers // self.comm.size]
        status = rows[:, COLUMNS.index("status")]
        if not self.stall_seconds or not len(rows) or not own or (status != EVALUATED).any():
            return 0.0
        longest = max(seconds / own * max(loads.of_workers), loads.longest_seconds)
        return SLOWER * max(self.stall_seconds, longest)

    def _dealt(self, values: NDArray[np.float64] | None, workers: int) -> NDArray[np.float64] | None:
        """Return the rows with their index in front, as many for every rank: longest first, to group leaders alone."""
        if values is None:
            return None
        size = self.comm.size
        leaders = [-(-worker * size // workers) for worker in range(workers)]
        costs = self.cost.predict(values)
        hands = assign_longest_first(costs, workers)
        self._loads = Loads([float(costs[hand].sum()) for hand in hands], self.cost.slowest * max(map(len, hands)))
        table = padded(hands, leaders, size).ravel()
        rows = np.full((len(table), 1 + values.shape[1]), NOTHING)
        taken = table >= 0
        rows[taken] = np.column_stack([table[taken].astype(np.float64), values[table[taken]]])
        return rows

    def _evaluate_hand(
        self, hand: NDArray[np.float64], total: int | None, due: Round
    ) -> tuple[NDArray[np.float64], list[tuple[int, str]]]:
        hand = self._group.broadcast(hand[hand[:, 0] != NOTHING])
        leads = self._group.is_root
        rows = np.full((len(hand) if leads else 0, len(COLUMNS)), np.nan)
        rows[:, COLUMNS.index("index")] = hand[: len(rows), 0]
        rows[:, COLUMNS.index("rank")] = self.comm.rank
        rows[:, COLUMNS.index("status")] = PENDING
        reasons: list[tuple[int, str]] = []
        self._note(lambda journal: journal.begin(*due))
        at_once = getattr(self.fitness, "at_once", 1)
        for start in range(0, len(hand), at_once):
            if signals.stop_agreed(self._group):
                break
            evaluated = self._evaluated(hand[start : start + at_once, 1:])
            if not leads:
                continue
            for place, found in enumerate(evaluated, start):
                rows[place, 1:5] = found.fitness, found.error, found.accuracy, found.seconds
                rows[place, COLUMNS.index("status")] = EVALUATED if found.reason is None else FAILED
                if found.reason is not None:
                    reasons.append((int(hand[place, 0]), found.reason))
                if self.advance is not None and total is not None:
                    self.advance((place + 1) * total // len(hand) - place * total // len(hand))
        return rows, reasons

    def _evaluated(self, values: NDArray[np.float64]) -> list[Evaluation]:
        if len(values) == 1:
            return [self._evaluated_alone(values[0])]
        found: list[Evaluation] = self.fitness.evaluate([self.space.named(row) for row in values])  # type: ignore[attr-defined]

        def record(journal: Journal) -> None:
            for row, one in zip(values, found, strict=True):
                journal.record(row, one)

        self._note(record)
        return found

    def _evaluated_alone(self, values: NDArray[np.float64]) -> Evaluation:
        named = self.space.named(values)
        self._note(lambda journal: journal.announce(values))
        watch: AbstractContextManager[None] = nullcontext()
        if self.journal is not None and self._group.is_root:
            watch = self.journal.watched(", ".join(f"{name} = {value}" for name, value in named.items()))
        with watch:
            found = self.fitness(named)
        self._note(lambda journal: journal.record(values, found))
        return found

    def _note(self, write: Callable[[Journal], object]) -> None:
        """Let the group's leader write in its journal; where it cannot, no member waits for it any longer."""
        journal = self.journal
        if journal is not None:
            agree(self._group, lambda: write(journal) if self._group.is_root else None)


def _in_order(gathered: NDArray[np.float64], reasons: dict[int, str], count: int) -> list[Evaluation | None]:
    """Return the rows as evaluations in the order of their index."""
    evaluations: list[Evaluation | None] = [None] * count
    for index, fitness, error, accuracy, seconds, rank, status in gathered.tolist():
        if status != PENDING:
            found = Evaluation(fitness, error, accuracy, seconds, rank=int(rank))
            evaluations[int(index)] = replace(found, reason=reasons[int(index)]) if status == FAILED else found
    return evaluations

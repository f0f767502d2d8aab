"""Candidates dealt over ranks: scatter arrays, evaluate, gather arrays. Knows nothing of optimisers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.collective import agree
from rcdp_hpc.runtime.comm import Communicator
from rcdp_hpc.search.candidate import Evaluation, Fitness
from rcdp_hpc.search.space import Space

COLUMNS = ("index", "fitness", "error", "accuracy", "seconds", "rank", "status")
PENDING, EVALUATED, FAILED = 0.0, 1.0, 2.0


class Evaluator:
    """Evaluates candidates on all ranks, rank 0 included.

    Parameters
    ----------
    comm : Communicator
    fitness : callable
        Returns the `Evaluation` of a candidate's named values.
    space : Space
        Names and kinds of the values.
    advance : callable, optional
        Called on rank 0 after each of its own candidates with the number of candidates that all ranks together
        will have done by then, were they equally fast.
    """

    def __init__(
        self, comm: Communicator, fitness: Fitness, space: Space, advance: Callable[[int], object] | None = None
    ) -> None:
        self.comm, self.fitness, self.space, self.advance = comm, fitness, space, advance

    def evaluate(self, values: NDArray[np.float64] | None) -> list[Evaluation | None] | None:
        """Evaluate candidates. Collective.

        Once a rank has received a stop signal it leaves its remaining candidates unevaluated.

        Parameters
        ----------
        values : ndarray, shape (n, d), float64, or None
            On rank 0 the candidates' values, in the order of the space's names; None on other ranks.

        Returns
        -------
        list of Evaluation or None
            On rank 0, in the order of `values`, None for a candidate left unevaluated; None on other ranks.

        Raises
        ------
        RcdpError
            What a rank met apart from a failing candidate, on all ranks alike.
        """
        columns = 1 + len(self.space.dimensions)
        share = self.comm.scatter_rows(self._dealt(values), columns)
        rows, reasons = agree(self.comm, lambda: self._evaluate_share(share, None if values is None else len(values)))
        gathered = self.comm.gather_rows(rows)
        reasons_by_index = dict(pair for found in self.comm.allgather(reasons) for pair in found)
        if values is None or gathered is None:
            return None
        return _in_order(gathered, reasons_by_index)

    def _dealt(self, values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """Return the rows with their index in front, ordered so that contiguous shares interleave the candidates."""
        if values is None:
            return None
        order = np.concatenate([np.arange(rank, len(values), self.comm.size) for rank in range(self.comm.size)])
        return np.column_stack([order.astype(np.float64), values[order]])

    def _evaluate_share(
        self, share: NDArray[np.float64], total: int | None
    ) -> tuple[NDArray[np.float64], list[tuple[int, str]]]:
        rows = np.full((len(share), len(COLUMNS)), np.nan)
        rows[:, COLUMNS.index("index")] = share[:, 0]
        rows[:, COLUMNS.index("rank")] = self.comm.rank
        rows[:, COLUMNS.index("status")] = PENDING
        reasons: list[tuple[int, str]] = []
        for place, (index, *values) in enumerate(share):
            if signals.stop_requested():
                break
            found = self.fitness(self.space.named(np.array(values)))
            status = EVALUATED if found.reason is None else FAILED
            rows[place, 1:5] = found.fitness, found.error, found.accuracy, found.seconds
            rows[place, COLUMNS.index("status")] = status
            if found.reason is not None:
                reasons.append((int(index), found.reason))
            if self.advance is not None and total is not None:
                self.advance((place + 1) * total // len(share) - place * total // len(share))
        return rows, reasons


def _in_order(gathered: NDArray[np.float64], reasons: dict[int, str]) -> list[Evaluation | None]:
    """Return the rows as evaluations in the order of their index."""
    evaluations: list[Evaluation | None] = [None] * len(gathered)
    for index, fitness, error, accuracy, seconds, rank, status in gathered.tolist():
        if status != PENDING:
            found = Evaluation(fitness, error, accuracy, seconds, rank=int(rank))
            evaluations[int(index)] = replace(found, reason=reasons[int(index)]) if status == FAILED else found
    return evaluations

"""Successive halving within a generation: many candidates judged by few rows, few of them by all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.search.records.archive import Entry, EvaluationArchive


@dataclass(frozen=True)
class Halving:
    """Which candidates of a generation are judged by which share of the rows.

    All are judged by the first factor^-steps of the rows; of every n judged by a share the best ceil(n / factor) go
    on to a share that is `factor` times as large, the last of which is all rows. One that failed goes no further.
    What is to be evaluated next follows from what is known: there is nothing else to save.

    Parameters
    ----------
    factor : int
        1 judges all candidates by all rows.
    steps : int
        Shares before all rows.

    References
    ----------
    K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", Proc. AISTATS
    (2016) 240-248, algorithm 1.
    """

    factor: int = 1
    steps: int = 0

    @property
    def shares(self) -> list[float]:
        """The shares of the rows, ascending; the last is 1."""
        steps = self.steps if self.factor > 1 else 0
        return [float(self.factor) ** -step for step in range(steps, -1, -1)]

    def due(self, values: NDArray[np.float64], memory: EvaluationArchive) -> tuple[list[int], float]:
        """Return the rows of `values`, shape (n, d), to be evaluated next, and the share of the rows to judge them by.

        There are none once the generation is complete.
        """
        staying = EvaluationArchive().unknown(values)  # each of equal ones once
        for share in self.shares:
            unknown = memory.unknown(values[staying], share)
            if unknown:
                return [staying[place] for place in unknown], share
            staying = self._best(staying, values, memory, share)
        return [], 1.0

    def judged(self, values: NDArray[np.float64], memory: EvaluationArchive) -> list[Entry]:
        """Return what is known of each candidate of a complete generation by the largest share."""
        found = []
        for candidate in values:
            known = [memory.get(candidate, share) for share in reversed(self.shares)]
            found.append(next(entry for entry in known if entry is not None))
        return found

    def _best(self, rows: list[int], values: NDArray[np.float64], memory: EvaluationArchive, share: float) -> list[int]:
        fitness = {row: _entry(memory, values[row], share).evaluation.fitness for row in rows}
        order = sorted(rows, key=lambda row: -fitness[row])  # of equals the first
        return [row for row in order[: math.ceil(len(rows) / self.factor)] if fitness[row] > -np.inf]


def comparable(entries: Sequence[Entry]) -> NDArray[np.float64]:
    """Return the fitness of each candidate as the optimiser is told it, shape (n,).

    One that was judged by a part of the rows counts as no better than the worst of its generation that was judged by
    all of them, and did not fail.
    """
    whole = [e.evaluation.fitness for e in entries if e.share == 1 and e.evaluation.fitness > -np.inf]
    limit = min(whole, default=-np.inf)
    return np.array([e.evaluation.fitness if e.share == 1 else min(e.evaluation.fitness, limit) for e in entries])


def _entry(memory: EvaluationArchive, candidate: NDArray[np.float64], share: float) -> Entry:
    entry = memory.get(candidate, share)
    if entry is None:
        raise AssertionError("every candidate of this share is known")
    return entry

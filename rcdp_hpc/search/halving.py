"""Successive halving within a generation: many candidates are evaluated on few rows, few of them on all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.search.records.archive import Entry, EvaluationArchive


@dataclass(frozen=True)
class Halving:
    """Which candidates of a generation are evaluated on which share of the rows.

    All candidates are evaluated on the first factor^-steps of the rows. Of every n candidates evaluated on a share, the
    best ceil(n / factor) are evaluated again on a share `factor` times as large, up to all rows. A candidate that fails
    is not evaluated again. The candidates to evaluate next follow from the archive, so there is no other state to save.

    Parameters
    ----------
    factor : int
        1 evaluates all candidates on all rows.
    steps : int
        Number of shares below all rows.

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

    def pending(self, values: NDArray[np.float64], archive: EvaluationArchive) -> tuple[list[int], float]:
        """Return the candidates to evaluate next, and the share of the rows to evaluate them on.

        Parameters
        ----------
        values : ndarray, shape (n, d), float64
            The candidates of a generation.
        archive : EvaluationArchive

        Returns
        -------
        rows : list of int
            Rows of `values`, the first of equal rows only; empty if the generation is complete.
        share : float
        """
        candidates = EvaluationArchive().missing(values)  # without repetitions
        for share in self.shares:
            missing = archive.missing(values[candidates], share)
            if missing:
                return [candidates[place] for place in missing], share
            candidates = self._best(candidates, values, archive, share)
        return [], 1.0

    def latest(self, values: NDArray[np.float64], archive: EvaluationArchive) -> list[Entry]:
        """Return, for each candidate of a complete generation, its entry with the largest share of the rows."""
        archive.settle()
        latest = []
        for candidate in values:
            entries = (archive.get(candidate, share) for share in reversed(self.shares))
            latest.append(next(entry for entry in entries if entry is not None))
        return latest

    def _best(
        self, rows: list[int], values: NDArray[np.float64], archive: EvaluationArchive, share: float
    ) -> list[int]:
        archive.settle()
        fitness = {row: _entry(archive, values[row], share).evaluation.fitness for row in rows}
        order = sorted(rows, key=lambda row: -fitness[row])  # the first of equals comes first
        return [row for row in order[: math.ceil(len(rows) / self.factor)] if fitness[row] > -np.inf]


def comparable_fitness(entries: Sequence[Entry]) -> NDArray[np.float64]:
    """Return the fitness of each candidate for the optimiser, shape (n,).

    The fitness of a candidate that was evaluated on a part of the rows is at most the least fitness among the
    candidates of its generation that were evaluated on all rows without failing.
    """
    whole = [e.evaluation.fitness for e in entries if e.share == 1 and e.evaluation.fitness > -np.inf]
    limit = min(whole, default=-np.inf)
    return np.array([e.evaluation.fitness if e.share == 1 else min(e.evaluation.fitness, limit) for e in entries])


def _entry(archive: EvaluationArchive, candidate: NDArray[np.float64], share: float) -> Entry:
    entry = archive.get(candidate, share)
    if entry is None:
        raise AssertionError("every candidate of this share is in the archive")
    return entry

"""All evaluated candidates, so that none is evaluated twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.search.evaluation.candidate import Evaluation


@dataclass(frozen=True)
class Entry:
    """An evaluated candidate.

    Attributes
    ----------
    generation, candidate : int
        Where its values occurred first: generation from 1, index within it from 0.
    values : ndarray, shape (d,), float64
    evaluation : Evaluation
    share : float
        Share of the rows that it was evaluated on.
    """

    generation: int
    candidate: int
    values: NDArray[np.float64]
    evaluation: Evaluation
    share: float = 1.0


@dataclass(frozen=True)
class ArchiveArrays:
    """An archive of n entries as arrays, ordered by generation, candidate and share, without the density term.

    Attributes
    ----------
    places : ndarray, shape (n, 2), int64
        Generation and candidate.
    values : ndarray, shape (n, d), float64
    results : ndarray, shape (n, 5), float64
        Fitness, error, accuracy, seconds and rank.
    shares : ndarray, shape (n,), float64
    reasons : list of str or None
        Why each candidate failed.
    """

    places: NDArray[np.int64]
    values: NDArray[np.float64]
    results: NDArray[np.float64]
    shares: NDArray[np.float64]
    reasons: list[str | None]


class EvaluationArchive:
    """Evaluated candidates by the bytes of their values and the share of the rows that they were evaluated on.

    Candidates are compared by their values. Positions that differ only by what rounding to integers removes are the
    same candidate.

    Parameters
    ----------
    term : callable, optional
        Returns what is subtracted from the fitness of a candidate that did not fail, from its values and the error of
        the first candidate that did not fail (`DensityTerm`). Entries are stored without it and returned with it, once
        `settle` was called.

    Attributes
    ----------
    first_error : float or None
        That error; None before `settle`, and without a term.
    """

    def __init__(self, term: Callable[[NDArray[np.float64], float], float] | None = None) -> None:
        self._entries: dict[tuple[bytes, float], Entry] = {}
        self._term = term
        self.first_error: float | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over the entries in the order of generation, candidate and share."""
        return map(self._with_term, self._in_order())

    def _in_order(self) -> list[Entry]:
        return sorted(self._entries.values(), key=lambda entry: (entry.generation, entry.candidate, entry.share))

    def _with_term(self, entry: Entry) -> Entry:
        if self._term is None or self.first_error is None or not np.isfinite(entry.evaluation.error):
            return entry
        fitness = entry.evaluation.fitness - self._term(entry.values, self.first_error)
        return replace(entry, evaluation=replace(entry.evaluation, fitness=fitness))

    def settle(self) -> None:
        """Fix the error of the first candidate, once every candidate of the first round is evaluated.

        Nothing changes without a term, after the first call, or if all candidates so far failed.
        """
        if self._term is not None and self.first_error is None:
            errors = (entry.evaluation.error for entry in self._in_order())
            self.first_error = next((error for error in errors if np.isfinite(error)), None)

    def get(self, values: NDArray[np.float64], share: float = 1.0) -> Entry | None:
        """Return the entry of these values, shape (d,); None if they were not evaluated."""
        entry = self._entries.get((values.tobytes(), share))
        return None if entry is None else self._with_term(entry)

    def missing(self, values: NDArray[np.float64], share: float = 1.0) -> list[int]:
        """Return the rows of `values`, shape (n, d), that are not in the archive, the first of equal rows only."""
        first: dict[bytes, int] = {}
        for row, candidate in enumerate(values):
            first.setdefault(candidate.tobytes(), row)
        return [row for key, row in first.items() if (key, share) not in self._entries]

    def add(self, entry: Entry) -> None:
        """Add a candidate."""
        self._entries[entry.values.tobytes(), entry.share] = entry

    def best(self) -> Entry | None:
        """Return the first entry of greatest fitness on all rows; None if there is none."""
        whole = (entry for entry in self if entry.share == 1)
        return max(whole, key=lambda entry: entry.evaluation.fitness, default=None)

    def most_accurate(self) -> Entry | None:
        """Return the first entry of greatest accuracy on all rows; None if there is none."""
        whole = (entry for entry in self if entry.share == 1 and np.isfinite(entry.evaluation.accuracy))
        return max(whole, key=lambda entry: entry.evaluation.accuracy, default=None)

    def seconds(self) -> float:
        """Return the time of all evaluations together."""
        return sum(entry.evaluation.seconds for entry in self)

    def reasons(self) -> list[str | None]:
        """Return why each candidate failed, in the order of the entries."""
        return [entry.evaluation.reason for entry in self]

    def arrays(self, dimensions: int) -> ArchiveArrays:
        """Return the archive as arrays.

        Parameters
        ----------
        dimensions : int
            d, for an archive without entries.
        """
        entries = self._in_order()
        results = [
            (one.fitness, one.error, one.accuracy, one.seconds, one.rank)
            for one in (entry.evaluation for entry in entries)
        ]
        return ArchiveArrays(
            places=np.array([(e.generation, e.candidate) for e in entries], dtype=np.int64).reshape(-1, 2),
            values=np.array([e.values for e in entries], dtype=np.float64).reshape(-1, dimensions),
            results=np.array(results, dtype=np.float64).reshape(-1, 5),
            shares=np.array([e.share for e in entries], dtype=np.float64),
            reasons=self.reasons(),
        )

    @classmethod
    def from_arrays(
        cls, arrays: ArchiveArrays, term: Callable[[NDArray[np.float64], float], float] | None = None
    ) -> EvaluationArchive:
        """Return the archive that `arrays` came from, not settled yet.

        Parameters
        ----------
        arrays : ArchiveArrays
        term : callable, optional
            As in the class.

        Raises
        ------
        ValueError
            If the arrays differ in length.
        """
        archive = cls(term)
        columns = (
            arrays.places.tolist(), arrays.values, arrays.results.tolist(), arrays.shares.tolist(), arrays.reasons,
        )  # fmt: skip
        for (generation, candidate), values, (fitness, error, accuracy, seconds, rank), share, reason in zip(
            *columns, strict=True
        ):
            evaluation = Evaluation(fitness, error, accuracy, seconds, reason, int(rank))
            archive.add(Entry(generation, candidate, values, evaluation, share))
        return archive

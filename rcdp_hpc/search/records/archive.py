"""All candidates evaluated so far, so that none is evaluated twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.search.evaluation.candidate import Evaluation


@dataclass(frozen=True)
class Entry:
    """An evaluated candidate.

    Attributes
    ----------
    generation, candidate : int
        Where its values came up first: generation from 1, place in it from 0.
    values : ndarray, shape (d,), float64
    evaluation : Evaluation
    share : float
        The share of the rows that it was judged by.
    """

    generation: int
    candidate: int
    values: NDArray[np.float64]
    evaluation: Evaluation
    share: float = 1.0


class EvaluationArchive:
    """Evaluated candidates by the bytes of their values and the share of the rows that they were judged by.

    Values and not positions decide: positions that differ only in what rounding to whole numbers takes away are
    the same candidate.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[bytes, float], Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Go through the entries in the order of generation, candidate and share."""
        return iter(sorted(self._entries.values(), key=lambda entry: (entry.generation, entry.candidate, entry.share)))

    def get(self, values: NDArray[np.float64], share: float = 1.0) -> Entry | None:
        """Return the entry of these values, None where they were not evaluated."""
        return self._entries.get((values.tobytes(), share))

    def unknown(self, values: NDArray[np.float64], share: float = 1.0) -> list[int]:
        """Return the rows of `values`, shape (n, d), that are not known, each of equal ones once."""
        first: dict[bytes, int] = {}
        for row, candidate in enumerate(values):
            first.setdefault(candidate.tobytes(), row)
        return [row for key, row in first.items() if (key, share) not in self._entries]

    def add(self, entry: Entry) -> None:
        """Remember a candidate."""
        self._entries[entry.values.tobytes(), entry.share] = entry

    def best(self) -> Entry | None:
        """Return the entry of greatest fitness by all rows, the earliest of equals; None while there is none."""
        whole = (entry for entry in self if entry.share == 1)
        return max(whole, key=lambda entry: entry.evaluation.fitness, default=None)

    def most_accurate(self) -> Entry | None:
        """Return the entry of greatest accuracy by all rows, the earliest of equals; None while there is none."""
        whole = (entry for entry in self if entry.share == 1 and np.isfinite(entry.evaluation.accuracy))
        return max(whole, key=lambda entry: entry.evaluation.accuracy, default=None)

    def seconds(self) -> float:
        """Return the time that all evaluations took together."""
        return sum(entry.evaluation.seconds for entry in self)

    def arrays(self, dimensions: int) -> dict[str, NDArray[Any]]:
        """Return the memory as arrays: places (n, 2), values (n, d), results (n, 5), shares (n,); without reasons."""
        entries = list(self)
        results = [
            (found.fitness, found.error, found.accuracy, found.seconds, found.rank)
            for found in (entry.evaluation for entry in entries)
        ]
        return {
            "places": np.array([(e.generation, e.candidate) for e in entries], dtype=np.int64).reshape(-1, 2),
            "values": np.array([e.values for e in entries], dtype=np.float64).reshape(-1, dimensions),
            "results": np.array(results, dtype=np.float64).reshape(-1, 5),
            "shares": np.array([e.share for e in entries], dtype=np.float64),
        }

    def reasons(self) -> list[str | None]:
        """Return why each candidate failed, in the order of the arrays."""
        return [entry.evaluation.reason for entry in self]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], reasons: list[str | None]) -> EvaluationArchive:
        """Return the memory that `arrays` and `reasons` came from."""
        memory = cls()
        results = arrays["results"].tolist()
        shares = (
            arrays["shares"].tolist() if "shares" in arrays else [1.0] * len(results)
        )  # written before there were any
        columns = (arrays["places"].tolist(), arrays["values"], results, shares, reasons)
        for (generation, candidate), values, (fitness, error, accuracy, seconds, rank), share, reason in zip(
            *columns, strict=True
        ):
            found = Evaluation(fitness, error, accuracy, seconds, reason, int(rank))
            memory.add(Entry(generation, candidate, values, found, share))
        return memory

"""history.jsonl: a line for every candidate of every generation, in order.

Lines are the same for any number of ranks, and for a search that was stopped and resumed. Only their object "timing",
the rank and the seconds of the evaluation, differs.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.digests import sealed_line
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.json_text import read_regular_file
from rcdp_hpc.search.records.archive import Entry
from rcdp_hpc.search.space import Values


@dataclass(frozen=True)
class HistoryMark:
    """The beginning of a history that a checkpoint includes.

    Attributes
    ----------
    size : int
        Bytes.
    checksum : int
        Their CRC-32.
    """

    size: int = 0
    checksum: int = 0


@dataclass(frozen=True)
class Timing:
    """Who evaluated a candidate, and for how long.

    Attributes
    ----------
    rank : int or None
        None if the evaluation was reused.
    seconds : float
    """

    rank: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class HistoryLine:
    """One candidate of a generation; numbers that are not finite are None.

    Attributes
    ----------
    generation, candidate : int
        Generation from 1, index within it from 0.
    values : dict
        The candidate's values by name.
    position : list of float
        The same in search coordinates, not rounded.
    fitness, error, accuracy : float or None
    reason : str or None
        Why the candidate failed.
    share : float
        Share of the rows that it was evaluated on.
    reused : bool
        Whether the same values were evaluated earlier.
    timing : Timing
    """

    generation: int
    candidate: int
    values: Values
    position: list[float]
    fitness: float | None
    error: float | None
    accuracy: float | None
    reason: str | None
    share: float
    reused: bool
    timing: Timing

    @classmethod
    def of(cls, generation: int, candidate: int, position: list[float], values: Values, entry: Entry) -> HistoryLine:
        """Return the line of a candidate from the archive's entry of its values."""
        one = entry.evaluation
        reused = (entry.generation, entry.candidate) != (generation, candidate)
        timing = Timing() if reused else Timing(one.rank, one.seconds)
        fitness, error, accuracy = (_finite(number) for number in (one.fitness, one.error, one.accuracy))
        return cls(
            generation, candidate, values, position, fitness, error, accuracy, one.reason, entry.share, reused, timing
        )


class History:
    """The file history.jsonl.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    mark : HistoryMark
        Size and checksum of the lines so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark = HistoryMark()

    def check(self, mark: HistoryMark) -> None:
        """Check that the file begins with the bytes of a mark.

        Raises
        ------
        DataDamagedError
            If it is shorter, or its beginning was altered.
        """
        beginning = read_regular_file(self.path)[: mark.size] if mark.size else b""
        if len(beginning) < mark.size:
            raise DataDamagedError(f"{self.path}: {len(beginning)} bytes, at least {mark.size} expected")
        if zlib.crc32(beginning) != mark.checksum:
            raise DataDamagedError(f"{self.path}: its first {mark.size} bytes were altered")

    def truncate(self, mark: HistoryMark = HistoryMark()) -> None:
        """Remove the lines after a mark; by default all lines."""
        self.mark = mark
        with os_errors_explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.truncate(mark.size)

    def append(self, lines: Iterable[HistoryLine]) -> None:
        """Write lines and flush them to disk."""
        text = "".join(sealed_line(asdict(line)) for line in lines).encode()
        with os_errors_explained(self.path), self.path.open("ab") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.mark = HistoryMark(self.mark.size + len(text), zlib.crc32(text, self.mark.checksum))


def _finite(number: float) -> float | None:
    """Return the number; None if it is not finite, which JSON cannot express."""
    return number if math.isfinite(number) else None

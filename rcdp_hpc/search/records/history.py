"""history.jsonl: a line for every candidate of every generation, in order.

Lines are the same for any number of ranks and however often the search was stopped and resumed, but for the
object "timing", which has the rank that evaluated the candidate and the seconds it took.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.digests import sealed_line
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.json_text import read_regular_file
from rcdp_hpc.search.records.archive import Entry
from rcdp_hpc.search.space import Values


class History:
    """The file history.jsonl, whose beginning of `size` bytes belongs to the checkpoint.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    size, checksum : int
        Bytes that belong to the search so far, and their CRC-32.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.checksum = 0

    def check(self, size: int, checksum: int) -> None:
        """See that the file begins with `size` bytes of this CRC-32.

        Raises
        ------
        DataDamagedError
            If it is shorter, or its beginning was altered.
        """
        beginning = read_regular_file(self.path)[:size] if size else b""
        if len(beginning) < size:
            raise DataDamagedError(f"{self.path}: {len(beginning)} bytes, at least {size} expected")
        if zlib.crc32(beginning) != checksum:
            raise DataDamagedError(f"{self.path}: its first {size} bytes were altered")

    def rewind(self, size: int, checksum: int) -> None:
        """Drop what was written after the checkpoint that `size` and `checksum` are from."""
        self.size, self.checksum = size, checksum
        with os_errors_explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.truncate(size)

    def append(self, lines: Iterable[dict[str, Any]]) -> None:
        """Write lines and flush them to disk."""
        text = "".join(map(sealed_line, lines)).encode()
        with os_errors_explained(self.path), self.path.open("ab") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.size += len(text)
        self.checksum = zlib.crc32(text, self.checksum)


def history_line(
    generation: int, candidate: int, position: list[float], values: Values, entry: Entry
) -> dict[str, Any]:
    """Return the line of a candidate; numbers that are not finite become null."""
    found = entry.evaluation
    reused = (entry.generation, entry.candidate) != (generation, candidate)
    return {
        "generation": generation,
        "candidate": candidate,
        "values": values,
        "position": position,
        "fitness": finite(found.fitness),
        "error": finite(found.error),
        "accuracy": finite(found.accuracy),
        "reason": found.reason,
        "share": entry.share,
        "reused": reused,
        "timing": {"rank": None, "seconds": 0.0} if reused else {"rank": found.rank, "seconds": found.seconds},
    }


def finite(number: float) -> float | None:
    """Return the number, None where JSON has no word for it."""
    return number if math.isfinite(number) else None

"""A file with one sealed line per epoch; checkpoints refer to it instead of repeating it."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.digests import append_sealed, check_sealed, read_intact_lines, sealed_line, write_sealed_lines
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.json_text import parse_json, read_regular_file

log = logging.getLogger(__name__)

Record = dict[str, Any]
# What a checkpoint stores about a history file: number of lines, and their SHA-256.
Mark = dict[str, Any]


class History:
    """The records of the epochs so far. All ranks hold them; only rank 0 writes the file.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    records : list of dict
        One for each epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []
        self._digest = hashlib.sha256()

    def write_last(self) -> None:
        """Append the last record to the file."""
        append_sealed(self.path, self.records[-1])
        self._digest.update(sealed_line(self.records[-1]).encode())

    def rewrite(self) -> None:
        """Write the file again with the current records only; a resume repeats the epochs after its checkpoint."""
        write_sealed_lines(self.path, self.records)
        self._digest = hashlib.sha256("".join(map(sealed_line, self.records)).encode())

    def mark(self) -> Mark:
        """Return the number of lines and their SHA-256, for a checkpoint, after all lines are on disk."""
        if self.records:
            with os_errors_explained(self.path), open(self.path, "rb") as file:
                os.fsync(file.fileno())
        return {"lines": len(self.records), "sha256": self._digest.hexdigest()}


def marked_records(path: Path, mark: Mark) -> list[Record]:
    """Return the records that a file had when a checkpoint was written.

    The weights do not depend on them. If the file is damaged, its undamaged lines are used, with a warning.

    Parameters
    ----------
    path : Path
    mark : dict
        As `History.mark` returned it.
    """
    count: int = mark["lines"]
    if not count:
        return []
    try:
        head = read_regular_file(path).split(b"\n")[:count]
        if hashlib.sha256(b"".join(line + b"\n" for line in head)).hexdigest() == mark["sha256"]:
            return [check_sealed(parse_json(line), path) for line in head]
        intact = _intact_records(path)
    except (DataDamagedError, ValueError):
        intact = {}
    records = [intact[epoch] for epoch in range(count) if epoch in intact]
    log.warning(
        "%s: changed since the checkpoint was written; %d of the %d epochs until then are left. The training itself is "
        "not affected, but curves and sums of seconds lack the other epochs.",
        *(path, len(records), count),
    )
    return records


def _intact_records(path: Path) -> dict[int, Record]:
    """Return the records of the lines with a correct digest, by epoch."""
    records = read_intact_lines(path).records
    return {record["epoch"]: record for record in reversed(records) if type(record.get("epoch")) is int}

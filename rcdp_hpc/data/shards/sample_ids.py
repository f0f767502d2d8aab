"""Names of the test samples (files, groups, row ids), stored with the shards for reports."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources import Source
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.files import write_atomic

IDS_NAME = "test-ids.jsonl.gz"


def write_test_ids(folder: Path, source: Source, rows: NDArray[np.int64]) -> dict[str, Any] | None:
    """Write the names of the test rows, one JSON text per line, and return the entry of the file for index.json.

    Parameters
    ----------
    folder : Path
        Folder of the shards.
    source : Source
    rows : ndarray of int64, shape (n,)
        Index in the source of each test row, in the order of the shards.

    Returns
    -------
    dict or None
        None if the samples of the source have no names; no file is written then.
    """
    ids = _ids_of(source, rows)
    if ids is None:
        return None
    lines = "".join(f"{json.dumps(name)}\n" for name in ids).encode()
    # The compressed file contains no time, so that the same samples give the same bytes.
    content = gzip.compress(lines, mtime=0)
    write_atomic(folder / IDS_NAME, lambda file: file.write(content))
    return {"file": IDS_NAME, "rows": len(rows), "sha256": hashlib.sha256(content).hexdigest()}


def read_test_ids(folder: Path, index: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the test rows in the order of the shards; None if the samples have no names.

    Raises
    ------
    DataDamagedError
        If the file is missing or changed.
    """
    entry = index.get("test_ids")
    if entry is None:
        return None
    problem = damaged_ids(folder, index)
    if problem:
        raise DataDamagedError(problem)
    if entry["file"] != IDS_NAME:
        raise DataDamagedError(f"{folder / entry['file']}: written by an earlier version; prepare again (--restart).")
    return [json.loads(line) for line in gzip.decompress((folder / IDS_NAME).read_bytes()).splitlines()]


def damaged_ids(folder: Path, index: Mapping[str, Any]) -> str:
    """Return the damage of the file of names; empty if it is undamaged or the index has no such file."""
    entry = index.get("test_ids")
    if entry is None:
        return ""
    path = folder / entry["file"]
    if not path.is_file():
        return f"{path}: missing; prepare again (--restart)."
    if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
        return (
            f"{path}: its SHA-256 differs from {entry['sha256'][:12]}..., as in index.json; prepare again (--restart)."
        )
    return ""


def _ids_of(source: Source, rows: NDArray[np.int64]) -> Sequence[str] | None:
    train, test = source.train, source.test
    if not len(rows):
        return None
    if rows.max() < len(train):
        return None if train.ids is None else [train.ids[row] for row in rows.tolist()]
    if test is None or test.ids is None:
        return None
    return [test.ids[row - len(train)] for row in rows.tolist()]

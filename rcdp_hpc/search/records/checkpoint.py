"""RUN/search/checkpoint.npz: the complete state of a search as plain arrays, with a digest."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.files import os_errors_explained, write_atomic
from rcdp_hpc.runtime.json_text import parse_json, read_regular_file
from rcdp_hpc.search.records.archive import ArchiveArrays
from rcdp_hpc.search.records.history import HistoryMark
from rcdp_hpc.search.records.settings import Settings

log = logging.getLogger(__name__)

NAME = "checkpoint.npz"
PREVIOUS = "checkpoint.previous.npz"
DIGEST_LENGTH = 64
JSON_KEY = "json"
# Prefixes of the names of arrays.
OPTIMIZER = "optimizer."
ARCHIVE = "archive."


@dataclass(frozen=True)
class Checkpoint:
    """The state of a search.

    Attributes
    ----------
    settings : dict
        Settings that the result depends on (`search_settings`).
    optimizer : dict of ndarray
        State of the optimiser.
    archive : ArchiveArrays
        All evaluated candidates.
    history : HistoryMark
        The beginning of history.jsonl that belongs to this state.
    seconds : float
        Wall-clock time of the search so far, all jobs together.
    """

    settings: Settings
    optimizer: dict[str, NDArray[Any]]
    archive: ArchiveArrays
    history: HistoryMark
    seconds: float


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write checkpoint.npz; the one before becomes checkpoint.previous.npz.

    A SHA-256 of the content is stored as the comment of the archive file, so that ``numpy.load`` can read it.
    """
    content = _with_digest(checkpoint)
    path = folder / NAME
    if path.exists():
        with os_errors_explained(path):
            os.replace(path, folder / PREVIOUS)
    write_atomic(path, lambda file: file.write(content))


def load_checkpoint(folder: Path, check: Callable[[Checkpoint], None]) -> Checkpoint | None:
    """Return the newest intact checkpoint of a folder; None if there is no checkpoint.

    Parameters
    ----------
    folder : Path
    check : callable
        Raises `DataDamagedError` if files that belong to the checkpoint are damaged.

    Raises
    ------
    DataDamagedError
        If there are checkpoints and all are damaged.
    """
    problems: list[str] = []
    for path in (folder / NAME, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            checkpoint = read_checkpoint(path)
            check(checkpoint)
        except DataDamagedError as error:
            problems.append(str(error))
            continue
        if problems:
            log.warning("%s. Resumed from %s.", problems[0], path)
        return checkpoint
    if problems:
        raise DataDamagedError(
            f"{'; '.join(problems)}. There is no intact checkpoint to resume from: remove {folder} to search again."
        )
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one file.

    Raises
    ------
    DataDamagedError
        If its content is not as it was written.
    """
    content = read_regular_file(path)
    body, comment = content[: -DIGEST_LENGTH - 2], content[-DIGEST_LENGTH - 2 :]
    if len(content) < DIGEST_LENGTH + 22 or _comment_of(body) != comment:
        raise DataDamagedError(f"{path}: cut short or altered ({len(content)} bytes)")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        notes = parse_json(arrays.pop(JSON_KEY).tobytes())
        return Checkpoint(
            settings=notes["settings"],
            optimizer=_without_prefix(arrays, OPTIMIZER),
            archive=ArchiveArrays(**_without_prefix(arrays, ARCHIVE), reasons=notes["reasons"]),
            history=HistoryMark(**notes["history"]),
            seconds=float(notes["seconds"]),
        )
    except (KeyError, ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise DataDamagedError(f"{path}: not a checkpoint of a search ({error})") from None


def _with_digest(checkpoint: Checkpoint) -> bytes:
    """Return the content of the file, with the digest of its bytes as its comment."""
    columns = {name: getattr(checkpoint.archive, name) for name in ("places", "values", "results", "shares")}
    notes = {
        "settings": checkpoint.settings,
        "reasons": checkpoint.archive.reasons,
        "history": asdict(checkpoint.history),
        "seconds": checkpoint.seconds,
    }
    arrays: dict[str, Any] = {
        **{OPTIMIZER + name: array for name, array in checkpoint.optimizer.items()},
        **{ARCHIVE + name: array for name, array in columns.items()},
        JSON_KEY: np.frombuffer(json.dumps(notes, allow_nan=False).encode(), dtype=np.uint8),
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    body = buffer.getvalue()[:-2]  # a zip file without a comment ends in the two bytes of the comment's length
    return body + _comment_of(body)


def _comment_of(body: bytes) -> bytes:
    """Return the comment of a zip file: its length, and the digest of all bytes before it."""
    return struct.pack("<H", DIGEST_LENGTH) + hashlib.sha256(body).hexdigest().encode()


def _without_prefix(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

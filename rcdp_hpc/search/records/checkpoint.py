"""RUN/search/checkpoint.npz: all a search needs to go on, as plain arrays, checked before it is believed."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.files import os_errors_explained, write_atomic
from rcdp_hpc.runtime.json_text import parse_json, read_regular_file

log = logging.getLogger(__name__)

NAME, PREVIOUS = "checkpoint.npz", "checkpoint.previous.npz"
DIGEST_LENGTH = 64
JSON_KEY = "json"


@dataclass(frozen=True)
class Checkpoint:
    """A moment of a search.

    Attributes
    ----------
    arrays : dict
        Named arrays of numbers.
    notes : dict
        What is no array: settings, reasons, size and checksum of the history. It must survive JSON.
    """

    arrays: dict[str, NDArray[Any]]
    notes: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write checkpoint.npz; the one before is kept as checkpoint.previous.npz.

    A SHA-256 of the content is stored as the archive's comment, so that ``numpy.load`` reads the file as any other.
    """
    content = _sealed(checkpoint)
    path = folder / NAME
    if path.exists():
        with os_errors_explained(path):
            os.replace(path, folder / PREVIOUS)
    write_atomic(path, lambda file: file.write(content))


def load_checkpoint(folder: Path, check: Callable[[Checkpoint], None]) -> Checkpoint | None:
    """Return the newest sound checkpoint of a folder, None where there is none at all.

    Parameters
    ----------
    folder : Path
    check : callable
        Raises `DataDamagedError` where what belongs to the checkpoint outside its file is not as it was.

    Raises
    ------
    DataDamagedError
        If there are checkpoints and none of them is sound.
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
            log.warning("%s. Going on from %s.", problems[0], path)
        return checkpoint
    if problems:
        raise DataDamagedError(
            f"{'; '.join(problems)}. There is no sound checkpoint to go on from: remove {folder} to search anew."
        )
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one file.

    Raises
    ------
    DataDamagedError
        If it is not exactly what was written.
    """
    content = read_regular_file(path)
    body, comment = content[: -DIGEST_LENGTH - 2], content[-DIGEST_LENGTH - 2 :]
    if len(content) < DIGEST_LENGTH + 22 or _comment_of(body) != comment:
        raise DataDamagedError(f"{path}: cut short or altered ({len(content)} bytes)")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        notes = parse_json(arrays.pop(JSON_KEY).tobytes())
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataDamagedError(f"{path}: not a checkpoint of a search ({error})") from None
    return Checkpoint(arrays, notes)


def _sealed(checkpoint: Checkpoint) -> bytes:
    """Return the archive with the digest of its bytes as its comment."""
    text = np.frombuffer(json.dumps(checkpoint.notes, allow_nan=False).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {**checkpoint.arrays, JSON_KEY: text}
    np.savez(buffer, **arrays)
    body = buffer.getvalue()[:-2]  # a zip file without a comment ends in the two bytes of the comment's length
    return body + _comment_of(body)


def _comment_of(body: bytes) -> bytes:
    """Return the comment of an archive: its length, and the digest of all that comes before it."""
    return struct.pack("<H", DIGEST_LENGTH) + hashlib.sha256(body).hexdigest().encode()

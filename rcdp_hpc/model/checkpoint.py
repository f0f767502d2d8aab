"""Files of the training: checkpoints, models, what an extractor learned.

Each is whole or not there, carries the SHA-256 of its bytes, and is loaded without running anything in it.
"""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from rcdp_hpc.errors import DataDamagedError, StageFailedError
from rcdp_hpc.runtime.files import free_bytes, keep_copy, os_errors_explained
from rcdp_hpc.runtime.sealed_zip import open_sealed_zip, write_sealed_zip

log = logging.getLogger(__name__)

FORMAT = 2


def save(path: Path, content: dict[str, Any], keep: int = 2) -> None:
    """Write a checkpoint; the `keep` - 1 before it are kept as ``.previous``, ``.previous.2`` and so on."""
    if path.exists():
        previous = previous_of(path)
        with os_errors_explained(previous):
            for number in range(keep - 1, 1, -1):
                if previous_of(path, number - 1).exists():
                    os.replace(previous_of(path, number - 1), previous_of(path, number))
            keep_copy(path, previous)
    try:
        write_sealed_zip(path, lambda file: torch.save({"format": FORMAT, **content}, file))
    except BaseException:
        # Without hard links the last file has its second name alone by now.
        if not path.exists() and previous_of(path).exists():
            os.replace(previous_of(path), path)
        raise


def previous_of(path: Path, number: int = 1) -> Path:
    """Return the name under which the checkpoint is kept that is so many before the last."""
    return path.with_name(path.name + ".previous" + (f".{number}" if number > 1 else ""))


def check_room(folder: Path, needed: int) -> None:
    """Raise a `StageFailedError` where the disk of an existing folder has less room than so many bytes."""
    with os_errors_explained(folder):
        free = free_bytes(folder)
    if free < needed:
        raise StageFailedError(
            f"{folder}: checkpoints need {needed / 2**20:.1f} MiB, and {free / 2**20:.1f} MiB are free. Make room, "
            "choose another --out, or lower checkpoint.keep."
        )


def load(path: Path, remedy: str = "") -> dict[str, Any]:
    """Read one checkpoint or model file.

    Parameters
    ----------
    path : Path
    remedy : str
        What to do if it is damaged: a sentence for the end of the message.

    Raises
    ------
    DataDamagedError
        If the file is missing, cut short, altered, of a format that this version does not know, or holds Python objects
        other than tensors, numbers, texts, lists and dicts.
    InputError
        If the user may not read it.
    """
    try:
        return _load(path)
    except DataDamagedError as error:
        raise DataDamagedError(f"{error} {remedy}".rstrip()) from None


def _load(path: Path) -> dict[str, Any]:
    with open_sealed_zip(path) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, about files that it did not write
                content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # torch advises to read such a file without any check; its message is for nobody here
            raise DataDamagedError(
                f"{path}: holds something else than tensors, numbers and texts. rcdp does not write such files, and "
                "does not read them."
            ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise DataDamagedError(
            f"{path}: expected a file of format {FORMAT}, found {found if isinstance(found, int) else 'another'}: it "
            "was written by another version of rcdp."
        )
    return content


def load_latest(path: Path) -> dict[str, Any] | None:
    """Read the newest sound checkpoint; None if there is none at all.

    Raises
    ------
    DataDamagedError
        If all are damaged.
    """
    first: DataDamagedError | None = None
    files = _newest_first(path)
    if files and files[0] != path:
        first = DataDamagedError(f"{path}: missing, though earlier checkpoints are there.")
    for file in files:
        try:
            content = load(file)
        except DataDamagedError as error:
            first = first or error
            continue
        if first is not None:
            log.warning("%s Resuming from an earlier checkpoint, %s.", first, file.name)
        return content
    if first is None:
        return None
    raise DataDamagedError(f"{first} There is no sound checkpoint before it: use --restart to train again.")


def _newest_first(path: Path) -> list[Path]:
    """Return the checkpoints that are there."""
    files = [path] if os.path.lexists(path) else []
    # Killed between two renames, a file of the row may be missing.
    numbers = sorted(
        int(file.name.rpartition(".")[2]) for file in path.parent.glob(f"{path.name}.previous.*") if
        file.name.rpartition(".")[2].isdigit()
    )  # fmt: skip
    earlier = [previous_of(path, number) for number in (1, *numbers)]
    return files + [file for file in earlier if file.exists()]

"""Checkpoints of the training: whole or not there, and loaded without running anything in them."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from rcdp_hpc.errors import DataDamagedError, StageFailedError
from rcdp_hpc.runtime.files import os_errors_explained, write_atomic

log = logging.getLogger(__name__)

FORMAT = 1


def save(path: Path, content: dict[str, Any], keep: int = 2) -> None:
    """Write a checkpoint; the `keep` - 1 before it are kept as ``.previous``, ``.previous.2`` and so on."""
    if path.exists():
        previous = previous_of(path)
        with os_errors_explained(previous):
            for number in range(keep - 1, 1, -1):
                if previous_of(path, number - 1).exists():
                    os.replace(previous_of(path, number - 1), previous_of(path, number))
            # A hard link keeps the old file under both names until the new one has taken its place.
            previous.unlink(missing_ok=True)
            os.link(path, previous)
    write_atomic(path, lambda file: torch.save({"format": FORMAT, **content}, file))


def previous_of(path: Path, number: int = 1) -> Path:
    """Return the name under which the checkpoint is kept that is so many before the last."""
    return path.with_name(path.name + ".previous" + (f".{number}" if number > 1 else ""))


def check_room(folder: Path, needed: int) -> None:
    """Raise a `StageFailedError` where the disk of an existing folder has less room than so many bytes."""
    with os_errors_explained(folder):
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise StageFailedError(
            f"{folder}: checkpoints need {needed / 2**20:.1f} MiB, and {free / 2**20:.1f} MiB are free. Make room, "
            "choose another --out, or lower training.checkpoint_keep."
        )


def load(path: Path) -> dict[str, Any]:
    """Read one checkpoint or model file.

    Raises
    ------
    DataDamagedError
        If the file is cut short, altered, or of a format this version does not know.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the unpickler fail in any way there is: IndexError, KeyError, ...
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataDamagedError(
            f"{path}: cannot be read as a checkpoint ({reason}); it is cut short or damaged."
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataDamagedError(
            f"{path}: expected a checkpoint of format {FORMAT}; it is damaged or of another version."
        )
    return content


def load_latest(path: Path) -> dict[str, Any] | None:
    """Read the last checkpoint that is sound; None where there is none at all.

    Raises
    ------
    DataDamagedError
        If all are damaged.
    """
    first: DataDamagedError | None = None
    for file in _newest_first(path):
        try:
            content = load(file)
        except DataDamagedError as error:
            first = first or error
            continue
        if first is not None:
            log.warning("%s Going on from the one before it, %s.", first, file.name)
        return content
    if first is None:
        return None
    raise DataDamagedError(f"{first} There is no sound one before it: use --restart to train anew.")


def _newest_first(path: Path) -> list[Path]:
    """Return the checkpoints that are there."""
    files = [path] if path.exists() else []
    # Killed between two renames, a file of the row may be missing.
    numbers = sorted(
        int(file.name.rpartition(".")[2]) for file in path.parent.glob(f"{path.name}.previous.*") if
        file.name.rpartition(".")[2].isdigit()
    )  # fmt: skip
    earlier = [previous_of(path, number) for number in (1, *numbers)]
    return files + [file for file in earlier if file.exists()]

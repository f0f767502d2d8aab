"""Checkpoints of the training: whole or not there, and loaded without running anything in them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.files import os_errors_explained, write_atomic

log = logging.getLogger(__name__)

FORMAT = 1


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; the one before it is kept as ``.previous``."""
    if path.exists():
        previous = previous_of(path)
        with os_errors_explained(previous):
            # A hard link keeps the old file under both names until the new one has taken its place.
            previous.unlink(missing_ok=True)
            os.link(path, previous)
    write_atomic(path, lambda file: torch.save({"format": FORMAT, **content}, file))


def previous_of(path: Path) -> Path:
    """Return the name under which the checkpoint before the last is kept."""
    return path.with_name(path.name + ".previous")


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
    """Read the last checkpoint, or the one before it where the last is damaged; None where there is none.

    Raises
    ------
    DataDamagedError
        If both are damaged.
    """
    previous = previous_of(path)
    if not path.exists():
        return load(previous) if previous.exists() else None
    try:
        return load(path)
    except DataDamagedError as error:
        if not previous.exists():
            raise DataDamagedError(f"{error} There is none before it: use --restart to train anew.") from None
        log.warning("%s Going on from the one before it, %s.", error, previous.name)
        return load(previous)

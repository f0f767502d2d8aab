"""Files of tensors: checkpoints and models.

Each file is complete or absent, contains the SHA-256 of its bytes, and is loaded without running code from it.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rcdp_hpc.errors import DataDamagedError, StageFailedError
from rcdp_hpc.runtime.files import free_bytes, keep_copy, os_errors_explained
from rcdp_hpc.runtime.sealed_zip import open_sealed_zip, write_sealed_zip

log = logging.getLogger(__name__)

FORMAT = 2


def save(path: Path, content: Mapping[str, Any], keep: int = 2) -> None:
    """Write a checkpoint, and keep the `keep` - 1 checkpoints before it as ``.previous``, ``.previous.2`` and so on."""
    if keep > 1 and path.exists():
        previous = previous_of(path)
        with os_errors_explained(previous):
            for number in range(keep - 1, 1, -1):
                if previous_of(path, number - 1).exists():
                    os.replace(previous_of(path, number - 1), previous_of(path, number))
            keep_copy(path, previous)
    try:
        write_sealed_zip(path, lambda file: torch.save({"format": FORMAT, **content}, file))
    except BaseException:
        # On a file system without hard links, the last checkpoint has only its second name at this point.
        if not path.exists() and previous_of(path).exists():
            os.replace(previous_of(path), path)
        raise


def previous_of(path: Path, number: int = 1) -> Path:
    """Return the file of the checkpoint that is `number` before the last."""
    return path.with_name(path.name + ".previous" + (f".{number}" if number > 1 else ""))


def check_free_space(folder: Path, needed: int) -> None:
    """Raise a `StageFailedError` if the disk of an existing folder has less than `needed` bytes free."""
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
        If the file is missing, truncated or altered, its format is unknown to this version, or it contains Python
        objects other than tensors, numbers, texts, lists and dicts.
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
                warnings.simplefilter("ignore")  # warnings of torch about files that torch did not write
                content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # the message of torch recommends to load such a file without any check
            raise DataDamagedError(
                f"{path}: contains other objects than tensors, numbers and texts. rcdp neither writes nor reads such "
                "files."
            ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        version = content.get("format") if isinstance(content, dict) else None
        found = version if isinstance(version, int) else "another"
        raise DataDamagedError(
            f"{path}: expected a file of format {FORMAT}, found {found}: it was written by another version of rcdp."
        )
    return content


def load_latest(path: Path) -> dict[str, Any] | None:
    """Read the newest undamaged checkpoint; None if there is no checkpoint.

    Raises
    ------
    DataDamagedError
        If all checkpoints are damaged.
    """
    first: DataDamagedError | None = None
    files = _newest_first(path)
    if files and files[0] != path:
        first = DataDamagedError(f"{path}: missing, although earlier checkpoints exist.")
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
    raise DataDamagedError(f"{first} No earlier checkpoint is undamaged: use --restart to train again.")


def _newest_first(path: Path) -> list[Path]:
    """Return the existing checkpoints, newest first."""
    files = [path] if os.path.lexists(path) else []
    # A number may be missing if the training was killed between two renames.
    numbers = sorted(
        int(file.name.rpartition(".")[2]) for file in path.parent.glob(f"{path.name}.previous.*") if
        file.name.rpartition(".")[2].isdigit()
    )  # fmt: skip
    earlier = [previous_of(path, number) for number in (1, *numbers)]
    return files + [file for file in earlier if file.exists()]

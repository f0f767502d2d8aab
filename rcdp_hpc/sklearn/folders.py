"""The temporary run directory of a fit."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rcdp_hpc.config.paths import absolute_path
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root, agreed

MEMORY = Path("/dev/shm")
# Files in /dev/shm take memory: larger runs, or those that would fill it, are made in TMPDIR.
MOST_MEMORY_BYTES = 2**28
MOST_MEMORY_SHARE = 0.25
PREFIX = "rcdp-fit-"


@contextmanager
def temporary_folder(needed: int = 0, parent: str | Path | None = None) -> Iterator[Path]:
    """Yield a new folder, which is removed at the end.

    Parameters
    ----------
    needed : int
        Bytes that the folder will hold, about.
    parent : str or Path, optional
        Where it is made. Default: in memory (/dev/shm) if it is small, otherwise in TMPDIR.

    Raises
    ------
    InputError
        If `parent` does not exist or cannot be written.
    """
    place = absolute_path(parent) if parent is not None else _default_parent(needed)
    try:
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=place)
    except OSError as error:
        raise InputError(
            f"{place or tempfile.gettempdir()}: no temporary folder can be made there ({error.strerror}): set folder "
            "to a folder that you may write to"
        ) from None
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def folder_of_ranks(comm: Communicator, needed: int, parent: str | Path | None) -> Iterator[Path]:
    """Yield a new folder of rank 0 that all ranks can read; parameters as of `temporary_folder`. Collective.

    Raises
    ------
    InputError
        On all ranks, if they are on several nodes and no `parent` is given, or a rank does not see the folder.
    """
    if parent is None and len(set(comm.allgather(socket.gethostname()))) > 1:
        raise agreed(
            InputError(
                "the ranks are on several nodes: set folder to a folder on a file system that all nodes share, in "
                "which the temporary files of the fit are made"
            )
        )
    with _made_by_root(comm, needed, parent) as folder:
        agree(comm, lambda: _refuse_unseen(folder))
        yield folder


@contextmanager
def _made_by_root(comm: Communicator, needed: int, parent: str | Path | None) -> Iterator[Path]:
    manager = temporary_folder(needed, parent)
    folder = comm.broadcast(agree_on_root(comm, manager.__enter__))
    try:
        yield folder
    finally:
        if comm.is_root:
            manager.__exit__(None, None, None)


def _refuse_unseen(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(
            f"{folder} was made by rank 0 and is not visible on {socket.gethostname()}: set folder to a folder on a "
            "file system that all nodes share"
        )


def _default_parent(needed: int) -> Path | None:
    """Return /dev/shm if it exists and `needed` bytes are a small part of it; None for the default of `tempfile`."""
    if needed > MOST_MEMORY_BYTES or not (MEMORY.is_dir() and os.access(MEMORY, os.W_OK | os.X_OK)):
        return None
    free = shutil.disk_usage(MEMORY).free
    return MEMORY if needed <= MOST_MEMORY_SHARE * free else None

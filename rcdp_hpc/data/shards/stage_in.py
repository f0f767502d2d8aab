"""Copies of shards on node-local disks: one per node, for as long as they are read."""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rcdp_hpc.data.shards.reader import ShardSet
from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, run_on_some
from rcdp_hpc.runtime.digests import file_sha256
from rcdp_hpc.runtime.files import NO_ROOM, free_bytes
from rcdp_hpc.runtime.leftovers import remove_leftovers
from rcdp_hpc.runtime.owners import content_prefix, folder_prefix

log = logging.getLogger(__name__)

BLOCK_BYTES = 2**22
SPARE_BYTES = 2**26


@contextmanager
def staged_in(
    comm: Communicator, shards: ShardSet, pieces: Iterable[tuple[str, int, int]], check_stop: Callable[[], None]
) -> Iterator[None]:
    """Let shards be read from ``$TMPDIR`` within the block. Collective.

    On each node the lowest rank copies what the node's ranks read, while the others sleep. Every copy is checked by its
    SHA-256; a file that is damaged already is left where it is, for the reader to find. The copies go at the end of the
    block, however it ends. What a killed job of the same folder of shards left is removed first; tasks of a job
    array that run on the same node keep theirs.

    Parameters
    ----------
    comm : Communicator
        All ranks.
    shards : ShardSet
        Reads from the copies within the block.
    pieces : iterable of (split, start, stop)
        The rows that this rank will read.
    check_stop : callable
        Called between blocks of the copying; what it raises ends it.

    Raises
    ------
    StageFailedError
        On all ranks, if a node has not enough room.
    """
    host = socket.gethostname()
    wanted = {entry["file"]: entry for piece in pieces for entry in shards.entries(*piece)}
    everyone = comm.allgather((host, wanted))
    first = next(rank for rank, (other, _) in enumerate(everyone) if other == host)
    of_node = {name: entry for other, files in everyone if other == host for name, entry in files.items()}
    folder: Path | None = None
    try:
        work = partial(_copy, shards.directory, of_node, check_stop) if comm.rank == first else None
        folder = run_on_some(comm, work)
        place = comm.allgather(folder)[first]
        # Ranks of a node may be in containers, each with a $TMPDIR of its own: they read the shards themselves.
        if place is not None and place.is_dir():
            shards.local_copies.update({path.name: path for path in sorted(place.iterdir())})
        yield
        agree(comm, shards.close)
    finally:
        shards.close()
        shards.local_copies.clear()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _copy(directory: Path, files: dict[str, dict[str, Any]], check_stop: Callable[[], None]) -> Path:
    """Copy files to a new folder in ``$TMPDIR`` and return it."""
    parent = Path(tempfile.gettempdir())
    content = str(directory.resolve())
    remove_leftovers(parent.glob(content_prefix(content) + "*"))
    needed, free = sum(entry["bytes"] for entry in files.values()), free_bytes(parent)
    if free < needed + SPARE_BYTES:
        raise _no_room(parent, needed, free)
    folder = Path(tempfile.mkdtemp(prefix=folder_prefix(content), dir=parent))
    try:
        sound = sum(_copy_file(directory / name, folder / name, files[name], check_stop) for name in sorted(files))
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        if error.errno in NO_ROOM:
            raise _no_room(parent, needed, free_bytes(parent)) from error
        raise StageFailedError(
            f"{directory}: its shards cannot be copied to {parent} on {socket.gethostname()} ({error}). Set TMPDIR to "
            "another disk, or data.stage_in = false."
        ) from error
    log.info("copied %d shards (%.1f MiB) to %s", sound, needed / 2**20, folder)
    return folder


def _copy_file(source: Path, target: Path, entry: dict[str, Any], check_stop: Callable[[], None]) -> bool:
    """Copy a file; return whether it is sound. Otherwise nothing is kept."""
    if source.is_symlink() or not source.is_file():
        return False
    with source.open("rb") as read, target.open("wb") as written:
        while block := read.read(BLOCK_BYTES):
            check_stop()
            written.write(block)
    # Of what was written, so that a fault of the local disk shows, too.
    sound = file_sha256(target) == entry["sha256"]
    if not sound:
        target.unlink()
    return sound


def _no_room(parent: Path, needed: int, free: int) -> StageFailedError:
    return StageFailedError(
        f"{parent} on {socket.gethostname()}: no room for copies of the shards: {needed / 2**20:.1f} MiB needed, "
        f"{free / 2**20:.1f} MiB free. Set TMPDIR to a larger disk, or data.stage_in = false."
    )

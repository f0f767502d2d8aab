"""Temporary copies of shards on node-local disks, one per node."""

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

from rcdp_hpc.data.shards.reader import ShardReader
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
    comm: Communicator, shards: ShardReader, pieces: Iterable[tuple[str, int, int]], check_stop: Callable[[], None]
) -> Iterator[None]:
    """Read shards from copies in ``$TMPDIR`` within the block. Collective.

    On each node the lowest rank copies the files that the ranks of the node read, while the others sleep. The SHA-256
    of every copy is checked; a damaged file is not copied, so that the reader reports it. The copies are removed at the
    end of the block, also after an error. Copies that a killed job made of the same folder are removed first; other
    tasks of a job array on the same node keep their copies.

    Parameters
    ----------
    comm : Communicator
        All ranks.
    shards : ShardReader
        Reads from the copies within the block.
    pieces : iterable of (split, start, stop)
        The rows that this rank will read.
    check_stop : callable
        Called between blocks while copying; raises an exception to stop.

    Raises
    ------
    StageFailedError
        On all ranks, if a node has not enough disk space.
    """
    host = socket.gethostname()
    wanted = {entry["file"]: entry for piece in pieces for entry in shards.entries(*piece)}
    all_ranks = comm.allgather((host, wanted))
    first = next(rank for rank, (other, _) in enumerate(all_ranks) if other == host)
    of_node = {name: entry for other, files in all_ranks if other == host for name, entry in files.items()}
    folder: Path | None = None
    try:
        work = partial(_copy, shards.directory, of_node, check_stop) if comm.rank == first else None
        folder = run_on_some(comm, work)
        copies = comm.allgather(folder)[first]
        # Ranks of a node may be in containers with separate $TMPDIRs; without the copies they read the shards.
        if copies is not None and copies.is_dir():
            shards.local_copies.update({path.name: path for path in sorted(copies.iterdir())})
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
        copied = sum(_copy_file(directory / name, folder / name, files[name], check_stop) for name in sorted(files))
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
    log.info("copied %d shards (%.1f MiB) to %s", copied, needed / 2**20, folder)
    return folder


def _copy_file(source: Path, target: Path, entry: dict[str, Any], check_stop: Callable[[], None]) -> bool:
    """Copy a file and return whether it is undamaged; the copy of a damaged file is removed."""
    if source.is_symlink() or not source.is_file():
        return False
    with source.open("rb") as source_file, target.open("wb") as target_file:
        while block := source_file.read(BLOCK_BYTES):
            check_stop()
            target_file.write(block)
    # The digest of the copy also reveals faults of the local disk.
    undamaged = file_sha256(target) == entry["sha256"]
    if not undamaged:
        target.unlink()
    return undamaged


def _no_room(parent: Path, needed: int, free: int) -> StageFailedError:
    return StageFailedError(
        f"{parent} on {socket.gethostname()}: not enough disk space for copies of the shards: {needed / 2**20:.1f} MiB "
        f"needed, {free / 2**20:.1f} MiB free. Set TMPDIR to a larger disk, or data.stage_in = false."
    )

"""Replacing a folder as a whole: the new one is written next to the old one and then renamed.

``shards.partial`` is the folder that is being written; ``shards.old`` is the earlier folder during the exchange.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rcdp_hpc.data.shards.index import INDEX_NAME, SHARD_NAME
from rcdp_hpc.data.shards.sample_ids import IDS_NAME
from rcdp_hpc.errors import InputError, RcdpError, StageFailedError
from rcdp_hpc.runtime.files import UNKNOWN_ROOM, explain_os_error, free_bytes, os_errors_explained, sync_folder

log = logging.getLogger(__name__)


def recover(directory: Path) -> None:
    """Clean up after a preparation that was killed: restore the earlier complete folder, remove the partial one."""
    partial, old = _partial(directory), _old(directory)
    with os_errors_explained(directory):
        if old.is_dir():
            if directory.is_dir():
                _put_aside(directory)
            else:
                os.rename(old, directory)
                log.info("%s: restored; an interrupted preparation had renamed it", directory)
        if partial.is_dir():
            shutil.rmtree(partial)
            log.info("%s: removed, an interrupted preparation had left it", partial)


def refuse_foreign_files(directory: Path) -> None:
    """Raise an `InputError` if the folder holds other files than shards, because it will be replaced.

    Raises
    ------
    InputError
        If it holds other files, or is not a folder.
    """
    if not directory.exists():
        return
    if not directory.is_dir():
        raise InputError(f"{directory}: is a file, expected the folder of shards. Choose another --out.")
    foreign = sorted(
        entry.name
        for entry in directory.iterdir()
        if entry.name not in (INDEX_NAME, IDS_NAME) and not SHARD_NAME.fullmatch(entry.name)
    )
    if foreign:
        raise InputError(
            f"{directory}: holds {foreign[0]}, which preparation did not write. Move it away, or choose another --out."
        )


@contextmanager
def atomic_folder(directory: Path, needed: int) -> Iterator[Path]:
    """Yield an empty folder, which replaces `directory` at the end of the block.

    If the block fails, the folder is removed and `directory` stays as it was. Until then both take up disk space. An
    earlier preparation is moved to ``shards.before-*`` when the new one is in place.

    Parameters
    ----------
    directory : Path
        The folder to create or replace.
    needed : int
        Bytes that will be written.

    Raises
    ------
    StageFailedError
        If there is not enough disk space, before writing or while writing.
    InputError
        If the folder cannot be written.
    """
    partial, old = _partial(directory), _old(directory)
    with os_errors_explained(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        free = free_bytes(directory.parent)
        if free < needed:
            raise no_room(directory, needed, free)
        if directory.exists():
            log.info(
                "%s stays until the new shards are complete: they need %s, %s are free",
                *(directory, _mib(needed), _mib(free)),
            )
        partial.mkdir()
    try:
        try:
            yield partial
            sync_folder(partial)
        except OSError as error:
            raise _explained(error, directory, needed) from error
        with os_errors_explained(directory):
            if directory.exists():
                os.rename(directory, old)
            os.rename(partial, directory)
            sync_folder(directory.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        # If this fails as well, `recover` does it at the next start.
        with contextlib.suppress(OSError):
            if old.is_dir() and not directory.exists():
                os.rename(old, directory)
        raise
    with os_errors_explained(old):
        _put_aside(directory)


def _put_aside(directory: Path) -> None:
    """Move the replaced preparation to ``shards.before-*``; remove it if it was never complete."""
    old = _old(directory)
    if (old / INDEX_NAME).exists():
        aside = tempfile.mkdtemp(prefix=f"{directory.name}.before-", dir=directory.parent)
        old.rename(Path(aside) / directory.name)
        log.info("moved the earlier %s to %s", directory.name, aside)
    elif old.is_dir():
        shutil.rmtree(old)


def _explained(error: OSError, directory: Path, needed: int) -> RcdpError:
    free = free_bytes(directory.parent)
    if error.errno == errno.ENOSPC and free < needed:
        return no_room(directory, needed, free)
    path = Path(error.filename or directory)
    return explain_os_error(error, path, reading=directory.parent not in path.parents)


def no_room(directory: Path, needed: int, free: int) -> StageFailedError:
    """Return the error for a full disk."""
    both = "; the earlier shards stay until the new ones are complete" if directory.exists() else ""
    return StageFailedError(
        f"{directory}: not enough disk space for the shards: {_mib(needed)} needed, {_mib(free)} free{both}. Free some "
        "space or choose another --out, then start again; earlier complete shards are kept."
    )


def _partial(directory: Path) -> Path:
    return directory.with_name(directory.name + ".partial")


def _old(directory: Path) -> Path:
    return directory.with_name(directory.name + ".old")


def _mib(count: int) -> str:
    return "unknown" if count == UNKNOWN_ROOM else f"{count / 2**20:.1f} MiB"

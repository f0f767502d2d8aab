"""Temporary files and folders that were left by processes that no longer run.

Processes that work in the same folders are common: a prediction that writes into the run directory, starts that lost
a race for it, tasks of a job array on one node. What they are writing is theirs as long as they run.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from rcdp_hpc.runtime.owners import temporary_name, writer_of

log = logging.getLogger(__name__)

# Files of other machines count as left when they have not changed for this long: nobody here knows their writer.
ABANDONED_SECONDS = 86_400.0


def remove_leftovers(paths: Iterable[Path], gone: str = "") -> list[Path]:
    """Remove those temporary files and folders that nobody is writing any more; return them.

    Parameters
    ----------
    paths : iterable of Path
        What to look at; links, and names that this package did not give, are passed over.
    gone : str
        Tag of a process of any machine that is known to have ended (`owners.Process.tag`).
    """
    removed = []
    for path in paths:
        try:
            if _is_left(path, gone):
                _remove(path)
                removed.append(path)
        except OSError as error:
            log.debug("%s: not removed (%s)", path, error)
    for path in removed:
        log.info("removed %s, which a process that has ended had left", path)
    return removed


def temporary_files(folders: Iterable[Path]) -> list[Path]:
    """Return the temporary files in folders; folders that are missing or cannot be read have none."""
    return [path for folder in folders for path in _entries(folder) if writer_of(path) is not None]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_left(path: Path, gone: str) -> bool:
    writer = writer_of(path)
    if writer is None or path.is_symlink():
        return False
    life = writer.life()
    if life == "unknown":
        return writer.tag == gone or _unchanged_seconds(path) > ABANDONED_SECONDS
    return life == "gone"


def _unchanged_seconds(path: Path) -> float:
    """Return the seconds since a file last changed, by the clock of the file system that it is on."""
    probe = path.with_name(temporary_name("clock"))
    try:
        probe.touch(exist_ok=False)
        now = probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
    latest = [path, *path.rglob("*")] if path.is_dir() else [path]
    return now - max(max(one.lstat().st_mtime, one.lstat().st_ctime) for one in latest)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()

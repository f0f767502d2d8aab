"""Removal of temporary files and folders of processes that no longer run.

Several processes often use the same folders: a prediction that writes to the run directory, concurrent starts of the
same run, tasks of a job array on one node. The files of running processes are not touched.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from rcdp_hpc.runtime.owners import temporary_name, writer_of

log = logging.getLogger(__name__)

# Files of other machines, whose writer cannot be checked here, count as abandoned when unchanged for this long.
ABANDONED_SECONDS = 86_400.0


def remove_leftovers(paths: Iterable[Path], gone: str = "") -> list[Path]:
    """Remove the temporary files and folders whose writer no longer runs; return their paths.

    Parameters
    ----------
    paths : iterable of Path
        Files and folders to check. Links, and names that are not temporary names of this package, are skipped.
    gone : str
        Tag of a process on any machine that is known to have ended (`owners.Process.tag`).
    """
    removed = []
    for path in paths:
        try:
            if _is_abandoned(path, gone):
                _remove(path)
                removed.append(path)
        except OSError as error:
            log.debug("%s: not removed (%s)", path, error)
    for path in removed:
        log.info("removed %s, a temporary file of a process that has ended", path)
    return removed


def temporary_files(folders: Iterable[Path]) -> list[Path]:
    """Return the temporary files in folders; missing and unreadable folders are skipped."""
    return [path for folder in folders for path in _entries(folder) if writer_of(path) is not None]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_abandoned(path: Path, gone: str) -> bool:
    writer = writer_of(path)
    if writer is None or path.is_symlink():
        return False
    life = writer.life()
    if life == "unknown":
        return writer.tag == gone or _unchanged_seconds(path) > ABANDONED_SECONDS
    return life == "gone"


def _unchanged_seconds(path: Path) -> float:
    """Return the seconds since the last change of a file or folder, by the clock of its file system."""
    probe = path.with_name(temporary_name("clock"))
    try:
        probe.touch(exist_ok=False)
        now = probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
    entries = [path, *path.rglob("*")] if path.is_dir() else [path]
    return now - max(max(entry.lstat().st_mtime, entry.lstat().st_ctime) for entry in entries)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()

"""Main memory: the limit of this job, the use of this process, and errors for lack of memory."""

from __future__ import annotations

from pathlib import Path

import psutil

from rcdp_hpc.runtime.cgroups import groups_of_process

MIB = 2**20
# By version of the control groups.
_LIMIT_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}


def machine_memory(root: Path = Path("/")) -> int:
    """Return the bytes that the processes of this job on this machine may use together.

    This is the smallest limit of the control groups that contain this process (Slurm limits jobs and steps this way),
    or the memory of the machine.

    Parameters
    ----------
    root : Path
        Folder that contains ``proc`` and ``sys``.
    """
    limits = [psutil.virtual_memory().total]
    for version, group in groups_of_process("memory", root):
        try:
            limits.append(int((group / _LIMIT_FILES[version]).read_text()))
        except (OSError, ValueError):  # missing, or "max"
            continue
    return min(limits)


def process_memory() -> int:
    """Return the bytes of memory that only this process uses, without shared libraries and shared-memory windows."""
    return int(psutil.Process().memory_full_info().uss)


def is_tmpfs(folder: Path) -> bool:
    """Return whether files in a folder are held in memory (tmpfs, ramfs) instead of on disk."""
    types = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    path = folder.resolve()
    return next((types[parent] for parent in (path, *path.parents) if parent in types), "") in ("tmpfs", "ramfs")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports a lack of memory. On a CPU, torch raises a RuntimeError."""
    has_type = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return has_type or "allocate memory" in str(error)

"""How much memory there is."""

from __future__ import annotations

from pathlib import Path

import psutil

from rcdp_hpc.runtime.cgroups import groups_of_process

MIB = 2**20
# By the version of control groups.
_LIMIT_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}


def machine_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this job's processes on this machine may use together: the job's limit or all there is.

    Limits are those of the process's control group and of all groups around it: Slurm sets one on a job or a step,
    which is deep within the tree.

    Parameters
    ----------
    root : Path
        Where proc and sys lie.
    """
    limits = [psutil.virtual_memory().total]
    for version, group in groups_of_process("memory", root):
        try:
            limits.append(int((group / _LIMIT_FILES[version]).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min(limits)


def process_memory() -> int:
    """Return the bytes that this process alone holds, without what it shares with others (libraries, MPI's windows)."""
    return int(psutil.Process().memory_full_info().uss)


def is_tmpfs(folder: Path) -> bool:
    """Tell whether what is written to a folder takes memory (tmpfs) and no disk."""
    kinds = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    place = folder.resolve()
    return next((kinds[path] for path in (place, *place.parents) if path in kinds), "") in ("tmpfs", "ramfs")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that there is no memory; on a CPU torch's is a plain RuntimeError."""
    told = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return told or "allocate memory" in str(error)

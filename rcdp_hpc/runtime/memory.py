"""How much memory there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

MIB = 2**20


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
    for path in _limit_files(root):
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min(limits)


def own_memory() -> int:
    """Return the bytes that this process alone holds, without what it shares with others (libraries, MPI's windows)."""
    return int(psutil.Process().memory_full_info().uss)


def _limit_files(root: Path) -> Iterator[Path]:
    """Yield the files that may hold a limit, by /proc/self/cgroup (cgroups(7)): lines number:controllers:path.

    Version 2 has the number 0, no controllers, and a mount of its own beside version 1 where there are both. A path may
    be one that the container does not show: its own group is then the root of what it sees.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    mounts = root / "sys/fs/cgroup"
    for line in [*lines, "0::/", "1:memory:/"]:
        number, controllers, path = line.split(":", 2)
        own = PurePosixPath(path.lstrip("/"))
        for group in (own, *own.parents):
            if number == "0":
                yield mounts / group / "memory.max"
                yield mounts / "unified" / group / "memory.max"
            elif "memory" in controllers.split(","):
                yield mounts / "memory" / group / "memory.limit_in_bytes"


def lies_in_memory(folder: Path) -> bool:
    """Tell whether what is written to a folder takes memory (tmpfs) and no disk."""
    kinds = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    place = folder.resolve()
    return next((kinds[path] for path in (place, *place.parents) if path in kinds), "") in ("tmpfs", "ramfs")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that there is no memory; on a CPU torch's is a plain RuntimeError."""
    told = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return told or "allocate memory" in str(error)

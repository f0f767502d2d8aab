"""How much memory there is."""

from __future__ import annotations

from pathlib import Path

import psutil

MIB = 2**20
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_memory() -> int:
    """Return the bytes that this job's processes on this machine may use together: the job's limit or all there is."""
    limits = [psutil.virtual_memory().total]
    for path in CGROUP_LIMITS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min(limits)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that there is no memory; on a CPU torch's is a plain RuntimeError."""
    told = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return told or "allocate memory" in str(error)

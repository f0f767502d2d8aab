"""The memory limit of a job, read from files like those of control groups."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from rcdp_hpc.runtime.ram import machine_memory

STEP = "/system.slice/slurmstepd.scope/job_7/step_0/user/task_0"
OLD_STEP = "/slurm/uid_1000/job_7/step_0"


def tree(folder: Path, cgroup: str, limits: dict[str, str]) -> Path:
    """Write a /proc/self/cgroup and the limits of groups, by their paths under /sys/fs/cgroup."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(cgroup)
    for name, limit in limits.items():
        path = folder / "sys/fs/cgroup" / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(limit + "\n")
    return folder


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        (f"0::{STEP}\n", {f"{STEP}/memory.max": "4096"}, 4096),
        (f"0::{STEP}\n", {f"{STEP}/memory.max": "max", f"{Path(STEP).parents[2]}/memory.max": "4096"}, 4096),
        (f"0::{STEP}\n", {f"{STEP}/memory.max": "8192", f"{Path(STEP).parents[2]}/memory.max": "4096"}, 4096),
        ("0::/\n", {"memory.max": "4096"}, 4096),
        (f"5:cpuset:{STEP}\n4:memory:{OLD_STEP}\n", {f"memory{OLD_STEP}/memory.limit_in_bytes": "4096"}, 4096),
        (f"4:cpu,memory:{OLD_STEP}\n", {"memory/slurm/uid_1000/memory.limit_in_bytes": "4096"}, 4096),
        (f"4:memory:/elsewhere\n0::{STEP}\n", {f"unified{STEP}/memory.max": "4096"}, 4096),
        ("4:memory:/docker/abc\n", {"memory/memory.limit_in_bytes": "4096"}, 4096),
        ("", {"memory.max": "4096"}, 4096),
        ("0::/a/b\n", {"a/b/memory.max": "max", "c/memory.max": "4096"}, None),
        ("0::/a\n", {"a/memory.max": "9223372036854771712"}, None),
    ],
)
def test_the_smallest_limit_of_the_groups_of_a_process_counts(tmp_path, cgroup, limits, expected):
    found = machine_memory(tree(tmp_path, cgroup, limits))
    assert found == (psutil.virtual_memory().total if expected is None else expected)


def test_without_groups_all_memory_counts(tmp_path):
    assert machine_memory(tmp_path) == psutil.virtual_memory().total

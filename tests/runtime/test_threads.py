import os
import threading

import pytest
import torch
from threadpoolctl import threadpool_info

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import available_cores, for_thread, limit_threads, threads_per_rank


@pytest.fixture(autouse=True)
def no_limits(monkeypatch):
    """Remove the limits of the machine that runs the tests."""
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cores(monkeypatch) -> int:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    return 8


def test_available_cores_are_those_of_the_affinity_mask(tmp_path):
    assert available_cores(tmp_path) == len(os.sched_getaffinity(0)) >= 1


POD = "/kubepods/pod7"


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        (f"0::{POD}/c\n", {f"{POD}/c/cpu.max": "200000 100000"}, 2),
        # Only whole cores, because with more threads all would wait for a throttled one.
        (f"0::{POD}/c\n", {f"{POD}/c/cpu.max": "350000 100000"}, 3),
        (f"0::{POD}/c\n", {f"{POD}/c/cpu.max": "50000 100000"}, 1),
        (f"0::{POD}/c\n", {f"{POD}/c/cpu.max": "max 100000", f"{POD}/cpu.max": "300000 100000"}, 3),
        (f"0::{POD}/c\n", {f"{POD}/c/cpu.max": "600000 100000", f"{POD}/cpu.max": "300000 100000"}, 3),
        (f"0::{POD}/c\n", {f"{POD}/c/cpu.max": "max 100000"}, 8),
        (f"0::{POD}/c\n", {f"{POD}/c/cpu.max": "6400000 100000"}, 8),
        # A container sees its own group as the root.
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),
        (
            f"3:cpu,cpuacct:{POD}\n",
            {f"cpu,cpuacct{POD}/cpu.cfs_quota_us": "200000", f"cpu,cpuacct{POD}/cpu.cfs_period_us": "50000"},
            4,
        ),
        (f"1:cpu:{POD}\n", {f"cpu{POD}/cpu.cfs_quota_us": "-1", f"cpu{POD}/cpu.cfs_period_us": "100000"}, 8),
        ("1:cpu:/docker/x\n", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        # The group of another controller does not limit the processor.
        (f"4:memory:{POD}\n", {f"cpu{POD}/cpu.cfs_quota_us": "1000", f"cpu{POD}/cpu.cfs_period_us": "1000"}, 8),
        (f"0::{POD}/c\n", {f"{POD}/c/cpu.max": "a 0"}, 8),
        ("", {}, 8),
    ],
)
def test_a_quota_of_processor_time_limits_the_cores(tmp_path, cores, cgroup, files, expected):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert available_cores(tmp_path) == expected


@pytest.mark.parametrize(
    ("asked", "expected"), [("3", 3), ("2,4", 2), (" 1 ", 1), ("64", 8), ("", 8), ("0", 8), ("x", 8)]
)
def test_omp_num_threads_limits_the_cores(asked, expected, tmp_path, cores, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert available_cores(tmp_path) == expected
    monkeypatch.setattr("rcdp_hpc.runtime.threads.cpu_quota", lambda: None)
    assert threads_per_rank(SingleProcess()) == expected


@pytest.mark.parametrize(
    ("quota", "ranks", "expected"), [(4.0, 1, 4), (4.0, 2, 2), (3.5, 2, 1), (0.5, 1, 1), (None, 1, 8)]
)
def test_ranks_of_a_host_share_its_quota(quota, ranks, expected, cores, monkeypatch):
    monkeypatch.setattr("rcdp_hpc.runtime.threads.cpu_quota", lambda: quota)
    monkeypatch.setattr("rcdp_hpc.runtime.threads.ranks_on_host", lambda comm: ranks)
    assert threads_per_rank(SingleProcess()) == expected


def test_threads_are_limited_and_restored():
    before = torch.get_num_threads()
    with limit_threads(1):
        assert torch.get_num_threads() == 1
        with pytest.raises(RuntimeError, match="2 threads"):
            _fail_with_two_threads()
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def _fail_with_two_threads():
    with limit_threads(2):
        raise RuntimeError(f"{torch.get_num_threads()} threads")


def test_no_threads_are_refused():
    with pytest.raises(ValueError, match="count = 0"), limit_threads(0):
        pass


@pytest.mark.parametrize(("granted", "threads"), [("1", 1), ("2", 2), ("64", 8), ("", 8)])
def test_a_task_of_slurm_uses_at_most_its_cores(granted, threads, cores, monkeypatch):
    monkeypatch.setattr("rcdp_hpc.runtime.threads.cpu_quota", lambda: None)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", granted)
    assert threads_per_rank(SingleProcess()) == threads


def test_an_invalid_count_of_slurm_is_named(cores, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "two")
    with pytest.raises(InputError, match="SLURM_CPUS_PER_TASK = 'two'"):
        threads_per_rank(SingleProcess())


def test_another_thread_of_the_process_has_the_limit_of_this_one():
    found = []

    def look():
        libraries = [one for one in threadpool_info() if one["user_api"] == "openmp" and "torch" in one["filepath"]]
        found.append([one["num_threads"] for one in libraries])

    with limit_threads(1):
        thread = threading.Thread(target=for_thread(look))
        thread.start()
        thread.join()
    assert found[0]
    assert set(found[0]) == {1}

"""Other processes on the cores of a job are reported with the numbers and the remedy."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time

import pytest

from rcdp_hpc.runtime import load
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.load import Observed, Use, measure, watched_load
from tests.parallel.thread_ranks import on_ranks


@pytest.fixture(autouse=True)
def _host(monkeypatch):
    monkeypatch.setattr(load.socket, "gethostname", lambda: "n1")
    monkeypatch.setattr(os, "getloadavg", lambda: (31.2, 0, 0))


def complaint(others: float, demand: int, cores: int = 16, ranks: int = 1, processes=None) -> str:
    """Return the warning if other processes used this number of cores for 4 seconds."""
    own = min(demand, cores - others)
    after = Use(100 + 4 * (others + own), 50 + 4 * own, processes or {})
    observed = Observed(frozenset(range(cores)), demand, ranks, "training.threads")
    return observed.complaint(Use(100, 50, {}), after, 4.0)


def test_another_job_on_all_cores_is_reported():
    assert complaint(8, 16) == (
        "host n1: other processes use 8.0 of the 16 cores on which 16 threads of this job run (load average 31.2). "
        "Threads wait for the slowest one, so the job may take many times as long: give each job cores of its own "
        "(taskset -c, a cpuset, srun --exact), or fewer threads (training.threads or OMP_NUM_THREADS = 8)"
    )
    assert "= 2)" in complaint(8, 16, ranks=4)


def test_cores_that_suffice_for_all_are_not_reported():
    assert not complaint(8, 8)
    assert not complaint(15, 1)
    assert not complaint(0.3, 16)
    assert not complaint(0, 16)


def test_ranks_without_threads_to_give_up_are_told_of_cores_only():
    found = complaint(2, 2, cores=2, ranks=2)
    assert found.endswith("(taskset -c, a cpuset, srun --exact)")


def test_the_largest_visible_processes_are_named():
    found = complaint(8, 16, processes={os.getpid(): 24.0, 1: 0.4, 2**30: 8.0})
    assert f"(process {os.getpid()}) 6.0). Threads" in found
    assert "process 1)" not in found


def test_own_processes_and_others_are_told_apart():
    cores = frozenset(os.sched_getaffinity(0))
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = measure(cores)
        assert child.pid not in before.processes
        ends = time.monotonic() + 5
        while measure(cores).own - before.own < 0.05 and time.monotonic() < ends:
            time.sleep(0.05)
        after = measure(cores)
    finally:
        child.kill()
        child.wait()
    assert after.own > before.own
    assert after.busy > before.busy


def test_one_rank_of_a_host_looks_and_warns_once(monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(load, "LOOKS_AFTER", (0.0, 0.01, 0.02))
    monkeypatch.setattr(load, "LOOK_SECONDS", 0.01)
    # Nothing in the first look, a busy machine in the second.
    busy = iter((0, 0, 0, 100))
    monkeypatch.setattr(load, "measure", lambda cores: Use(next(busy), 0, {}))
    ranks = iter((0, 1))
    monkeypatch.setattr(load, "local_rank", lambda: next(ranks))

    def work(comm):
        with watched_load(comm, 64, "search.threads"):
            ends = time.monotonic() + 5
            while not caplog.messages and time.monotonic() < ends:
                time.sleep(0.01)

    on_ranks(2, work)
    (line,) = caplog.messages
    assert "on which 128 threads of this job run" in line
    assert "search.threads or OMP_NUM_THREADS" in line


def test_a_stage_that_ends_soon_is_not_looked_at(monkeypatch):
    looked = []
    monkeypatch.setattr(load, "measure", looked.append)
    with watched_load(SingleProcess(), 64, "training.threads"):
        pass
    assert not looked

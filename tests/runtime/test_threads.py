import os

import pytest
import torch

from rcdp_hpc.runtime.comm import SingleProcess
from rcdp_hpc.runtime.threads import available_cores, fair_share, limit_threads


def test_available_cores_are_those_of_the_affinity_mask():
    assert available_cores() == len(os.sched_getaffinity(0)) >= 1


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
def test_a_task_of_slurm_takes_no_more_cores_than_it_was_given(granted, threads, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", granted)
    assert fair_share(SingleProcess()) == threads

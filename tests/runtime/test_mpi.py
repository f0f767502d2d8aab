"""Sums over real ranks that say who is missing."""

from __future__ import annotations

import time

import pytest
from launch import python, run_ranks

pytestmark = pytest.mark.mpi

SUM = """
import sys, time
import numpy as np
from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.runtime.mpi import MPICommunicator

comm = MPICommunicator()
values = np.arange(5.0) * (comm.rank + 1)
if comm.rank == 0:
    time.sleep(0.5)
total = comm.sum_within(values, 20)
assert (total == np.arange(5.0) * 6).all() and (values == np.arange(5.0) * (comm.rank + 1)).all()
if comm.rank == 1:
    time.sleep(90)
try:
    comm.sum_within(values, 1)
except StageFailedError as error:
    print(f"rank {comm.rank}: {error}", flush=True)
    comm.abort(1)
"""


def test_a_sum_waits_for_the_late_and_names_the_missing():
    started = time.monotonic()
    done = run_ranks(3, python(SUM), timeout=100)
    assert time.monotonic() - started < 80, done.stdout
    assert done.returncode == 1, done.stdout
    assert "rank 0: waited 1 s for all ranks, and rank 1 did not come" in done.stdout
    assert done.stdout.count("did not come") == 1

"""Messages between real ranks, and waits that name the missing ranks."""

from __future__ import annotations

import re
import time

import pytest
from launch import python, run_ranks

pytestmark = pytest.mark.mpi

SAME = """
import time
import numpy as np
from rcdp_hpc.runtime.comm.mpi import MPICommunicator

comm = MPICommunicator()
values = np.arange(6.0).reshape(2, 3).T * (comm.rank + 1)
for patience in 0, 20:
    with comm.limit_waits(patience):
        if comm.rank == 0:
            time.sleep(0.5)
        assert (comm.allreduce(values) == np.arange(6.0).reshape(2, 3).T * 6).all()
        assert (comm.allreduce(values, "max") == np.arange(6.0).reshape(2, 3).T * 3).all()
        assert (values == np.arange(6.0).reshape(2, 3).T * (comm.rank + 1)).all()
        assert comm.broadcast({"rank": comm.rank, "long": "x" * 100_000}) == {"rank": 0, "long": "x" * 100_000}
        assert comm.allgather("x" * 50_000 * comm.rank) == ["", "x" * 50_000, "x" * 100_000]
        comm.barrier()
print("all the same", flush=True)
"""

# Rank 1 stops with all of its threads, including those of MPI and Horovod.
FROZEN = """
import os, signal, sys
import numpy as np
import torch
from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.runtime.comm.mpi import MPICommunicator
from rcdp_hpc.parallel.horovod import HorovodEngine

comm = MPICommunicator()
parallel = HorovodEngine(comm, 2)
weights = torch.nn.Linear(3, 2)
optimizer = parallel.wrap(torch.optim.SGD(weights.parameters(), 0.1), weights)

def step():
    weights(torch.ones(4, 3)).sum().backward()
    parallel.sum_gradients(optimizer)
    parallel.update(optimizer)
    optimizer.zero_grad()

calls = {
    "messages": lambda: comm.allgather(comm.broadcast(1)),
    "gradients": step,
    "rows": lambda: parallel.exchange(torch.ones(6, 2), np.array([2, 2, 2])),
}
call = calls[sys.argv[1]]
with comm.limit_waits(2):
    call()
    if comm.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    try:
        call()
    except StageFailedError as error:
        print(f"rank {comm.rank}: {error}", flush=True)
        comm.abort(1)
"""


def test_messages_are_the_same_with_a_limit_and_without():
    done = run_ranks(3, python(SAME), timeout=60)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("all the same") == 3


@pytest.mark.parametrize("call", ["messages", "gradients", "rows"])
def test_a_frozen_rank_is_named(call):
    started = time.monotonic()
    done = run_ranks(3, [*python(FROZEN), call], timeout=100)
    assert time.monotonic() - started < 80, done.stdout
    assert done.returncode == 1, done.stdout
    assert re.search(r"rank 0: waited 2 s for all ranks, and rank 1 \(host .+\) did not arrive", done.stdout), (
        done.stdout
    )
    assert done.stdout.count("did not arrive") == 1


# Rank 0 reaches its limit, rank 1 waits without a limit, and rank 2 computes.
LATE = """
import time
from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.runtime.comm.mpi import MPICommunicator

comm = MPICommunicator()
if comm.rank == 2:
    time.sleep(40)
with comm.limit_waits(2 if comm.rank == 0 else 0):
    try:
        comm.barrier()
    except StageFailedError as error:
        print(f"rank {comm.rank}: {error}", flush=True)
        comm.abort(1)
"""


def test_a_rank_that_waits_without_a_limit_is_not_named():
    done = run_ranks(3, python(LATE), timeout=60)
    assert done.returncode == 1, done.stdout
    assert re.search(r"rank 0: waited 2 s for all ranks, and rank 2 \(host \S+\) did not arrive", done.stdout)
    assert "rank 1 (" not in done.stdout

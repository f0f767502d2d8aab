"""Ranks that torchrun starts: the communicator, heartbeats and a whole run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from launch import rcdp, run_ranks
from whole_runs import flags

from rcdp_hpc.runtime.comm.node_memory import share_on_node
from rcdp_hpc.runtime.comm.single import SingleProcess

SETTINGS = flags(
    "reservoir.nodes=30", "reservoir.kernel=dense-fp32", "search.population=4", "search.generations=2",
    "training.epochs=2", "training.threads=1", "run.seed=3",
)  # fmt: skip


def torchrun(ranks: int, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a script or module on `ranks` ranks of torchrun, on a free port."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--standalone"]
    return run_ranks(0, [*launcher, *options, *command], timeout=100)


OPERATIONS = """
import numpy as np
from rcdp_hpc.runtime.comm.connect import connect

comm = connect(60)
size, rank = comm.size, comm.rank
assert type(comm).__name__ == "TorchrunCommunicator" and size == 3
assert comm.broadcast({"from": rank}) == {"from": 0}
assert comm.allgather("x" * 1000 * rank) == ["x" * 1000 * other for other in range(size)]
assert comm.allreduce(np.arange(5) + rank).tolist() == (size * np.arange(5) + 3).tolist()
assert comm.allreduce(np.array([float(rank)]), "max")[0] == 2 and comm.allreduce(np.array([rank]), "min")[0] == 0
assert comm.allreduce(np.zeros((0, 2))).shape == (0, 2)
for total in (0, 1, 7):
    rows, bounds = np.arange(total * 3.0).reshape(total, 3), np.arange(size + 1) * total // size
    mine = comm.scatter_rows(rows if comm.is_root else None, 3)
    assert mine.tolist() == rows[bounds[rank] : bounds[rank + 1]].tolist() and mine.shape[1] == 3
    stacked = comm.gather_rows(mine)
    assert (stacked is None) == (rank > 0) and (rank or stacked.tolist() == rows.tolist())

made = []
def make():
    made.append(rank)
    return {"a": np.arange(10.0), "empty": np.empty((0, 4)), "b": np.ones((3, 3), np.float32)}
shared = comm.share_arrays(make)
assert shared["a"].tolist() == list(range(10)) and shared["empty"].shape == (0, 4) and shared["b"].sum() == 9
assert not shared["a"].flags.writeable and sum(map(len, comm.allgather(made))) == 1

group = comm.split(rank % 2)
members = list(range(rank % 2, size, 2))
assert group.allgather(rank) == members and group.rank == members.index(rank)
array = np.full((50, 7), float(rank))
if rank == 2:
    comm.send_array(array, 0)
if rank == 0:
    comm.receive_array(array, 2)
    assert (array == 2).all()
comm.wait_for_all()
group.close()
comm.close()
print("fine", rank)
"""


@pytest.mark.mpi
def test_the_communicator_does_all_that_mpis_does(tmp_path):
    (tmp_path / "operations.py").write_text(OPERATIONS)
    done = torchrun(3, str(tmp_path / "operations.py"))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("fine") == 3, done.stdout


FAILING = """
import os, signal, sys
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.job import run_on_all_ranks
from rcdp_hpc.runtime.logs import log_to_terminal

log_to_terminal(detect().rank == 0)

def work(comm):
    comm.barrier()
    if comm.rank == 1 and sys.argv[1] == "error":
        raise InputError("its own trouble")
    if comm.rank == 1:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    comm.barrier()

sys.exit(run_on_all_ranks(work, 5))
"""


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("error", "rank 1: its own trouble"),
        ("SIGKILL", "has lost another rank"),
        ("SIGSTOP", "rank 1 on host"),
    ],
)
def test_one_message_says_why_all_ranks_end(how, said, tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    done = torchrun(3, str(tmp_path / "failing.py"), how)
    assert done.returncode == 1, done.stdout
    assert done.stdout.count("rcdp: error: ") == 1, done.stdout
    assert said in done.stdout
    if how == "SIGSTOP":
        assert "has not responded for 5 s (run.stall_seconds)" in done.stdout


@pytest.mark.mpi
def test_a_run_has_the_same_winner_as_without_ranks(tmp_path):
    alone, out = tmp_path / "alone", tmp_path / "torchrun"
    done = run_ranks(0, rcdp("run", "digits", "--out", str(alone), *SETTINGS))
    assert done.returncode == 0, done.stdout
    command = ("run", "digits", "--out", str(out), *SETTINGS)
    done = torchrun(2, "-m", "rcdp_hpc", *command)
    assert done.returncode == 0, done.stdout
    assert "2 ranks train with torch.distributed, Gloo" in done.stdout
    assert "test accuracy" in done.stdout
    assert fitness(out) == fitness(alone)


def fitness(run: Path) -> list[tuple[object, ...]]:
    lines = map(json.loads, (run / "search/history.jsonl").read_text().splitlines())
    return [(line["generation"], line["candidate"], line["values"], line["fitness"]) for line in lines]


def test_without_shared_memory_every_rank_has_its_own_arrays(monkeypatch, tmp_path):
    class TwoRanks(SingleProcess):
        size = 2

    monkeypatch.setattr("rcdp_hpc.runtime.comm.node_memory.SHARED_MEMORY", tmp_path / "nowhere")
    arrays = share_on_node(TwoRanks(), lambda: {"a": np.arange(3)})
    assert arrays["a"].tolist() == [0, 1, 2]
    assert not arrays["a"].flags.writeable
    monkeypatch.setattr("rcdp_hpc.runtime.comm.node_memory.SHARED_MEMORY", tmp_path)
    arrays = share_on_node(TwoRanks(), lambda: {"a": np.arange(3), "none": np.empty((0, 2))})
    assert arrays["a"].tolist() == [0, 1, 2]
    assert arrays["none"].shape == (0, 2)
    assert not list(tmp_path.iterdir())

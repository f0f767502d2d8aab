"""Communicators of the Python interface that cannot be used, and parts of the ranks, which can."""

from __future__ import annotations

import pytest
from launch import python, run_ranks

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.connect import communicator_of


@pytest.mark.parametrize(
    ("comm", "said"),
    [("world", "comm is a str"), (3, "comm is an int"), (Communicator, "comm is the class Communicator")],
)
def test_something_else_is_refused(comm, said):
    with pytest.raises(InputError, match=said), communicator_of(comm):
        pass


REFUSED = """
import os
from mpi4py import MPI
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.connect import communicator_of
from rcdp_hpc.runtime.comm.mpi import MPICommunicator

def refused(comm):
    try:
        with communicator_of(comm):
            return "accepted"
    except InputError as error:
        return str(error)

freed = MPI.COMM_WORLD.Dup()
own = MPICommunicator(freed)
with communicator_of(freed) as ranks:
    assert ranks.size == 1
freed.Free()
for comm in (freed, own, MPI.COMM_NULL):
    assert "freed or null" in refused(comm), refused(comm)
assert "comm is the class Intracomm" in refused(MPI.Intracomm)
assert "accepted" in refused(MPI.COMM_SELF)
os.environ.update(OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_SIZE="4")
for comm in (MPI.COMM_WORLD, MPI.COMM_SELF):
    assert "has 1 of the 1 ranks that the MPI library sees, but mpirun (Open MPI) started 4" in refused(comm)
"""


def test_freed_null_and_wrong_communicators_are_refused():
    done = run_ranks(0, python(REFUSED))
    assert done.returncode == 0, done.stdout


PARTS = """
import torch
from mpi4py import MPI
from rcdp_hpc import minimize
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.connect import communicator_of
from rcdp_hpc.parallel.choose import strategy_for
from rcdp_hpc.config import ParallelSection

world = MPI.COMM_WORLD
part = world.Split(world.rank == 2, world.rank)
bridge = part.Create_intercomm(0, world, 2 if world.rank < 2 else 0)
try:
    with communicator_of(bridge):
        print("accepted")
except InputError as error:
    assert "intercommunicator" in str(error), error
    print("refused")
if world.rank < 2:
    found = minimize(lambda values: (values["x"] - 1) ** 2, {"x": (0.0, 3.0)}, generations=2, population=4, comm=part)
    for engine in ("torch", "horovod"):
        with communicator_of(part) as ranks:
            strategy = strategy_for(ranks, 30, ParallelSection(engine=engine))
            assert strategy.sum(torch.ones(2), "ones").tolist() == [2.0, 2.0]
            strategy.engine.close()
    print("found", 0 <= found.values["x"] <= 3)
world.Barrier()
"""


@pytest.mark.mpi
def test_a_part_of_the_ranks_searches_and_starts_both_engines():
    pytest.importorskip("horovod")
    done = run_ranks(3, python(PARTS), timeout=60)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("refused") == 3, done.stdout
    assert done.stdout.count("found True") == 2, done.stdout

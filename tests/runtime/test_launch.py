from __future__ import annotations

import pytest

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.launch import Launch, detect
from rcdp_hpc.runtime.world import connect


@pytest.mark.parametrize(
    ("environ", "kind", "rank", "size"),
    [
        ({}, "single", 0, 1),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}, "mpi", 2, 4),
        ({"PMI_RANK": "1", "PMI_SIZE": "3"}, "mpi", 1, 3),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, "mpi", 1, 2),
        # A batch script's own environment: no step, so no ranks.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, "single", 0, 1),
        # mpirun's daemons were started by srun, one per node: the counts of mpirun are the ones that hold.
        (
            {
                "OMPI_COMM_WORLD_RANK": "3",
                "OMPI_COMM_WORLD_SIZE": "8",
                "SLURM_PROCID": "0",
                "SLURM_STEP_NUM_TASKS": "2",
            },
            "mpi",
            3,
            8,
        ),
        (
            {"HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "HOROVOD_RANK": "1", "HOROVOD_SIZE": "2"},
            "horovod-gloo",
            1,
            2,
        ),
    ],
)
def test_launchers_are_told_apart(environ, kind, rank, size):
    found = detect(environ)
    assert (found.kind, found.rank, found.size) == (kind, rank, size)


def test_elastic_runs_are_told_from_others():
    gloo = {"HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "HOROVOD_RANK": "1", "HOROVOD_SIZE": "2"}
    assert not detect(gloo).elastic
    assert detect({**gloo, "HOROVOD_ELASTIC": "1"}).elastic


def test_copies_of_one_rank_are_refused_before_anything_is_written(monkeypatch):
    pytest.importorskip("mpi4py")
    with pytest.raises(InputError, match=r"started 4 ranks, but the MPI library sees 1.*--mpi=pmix"):
        connect(launch=Launch("mpi", 0, 4, "srun"))

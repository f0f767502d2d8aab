"""MPICH with ranks started by srun and PMI-2. Horovod is built for the other MPI, so only the search is tested."""

from __future__ import annotations

import pytest
from launch import rcdp
from slurm.cluster import MPICH, MPICH_FOLDER
from slurm.jobs import RANKS

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not (MPICH_FOLDER / "lib").exists(), reason=f"{MPICH} is not in {MPICH_FOLDER}"),
]
VARIABLES = {"MPI4PY_MPIABI": "mpich", "LD_LIBRARY_PATH": str(MPICH_FOLDER / "lib")}


def test_a_search_by_pmi2_and_a_wrong_flag_that_ends_at_once(slurm):
    config = slurm.config()
    slurm.call(*rcdp("prepare", str(config), "--out", "run"))
    wrong = slurm.sbatch("search.sbatch", *RANKS, config=config, **VARIABLES, RCDP_LAUNCH="srun --mpi=none")
    right = slurm.sbatch("search.sbatch", *RANKS, config=config, **VARIABLES, RCDP_LAUNCH="srun --mpi=pmi2")
    slurm.done(right)
    assert slurm.state("search")["ranks"] == 2
    ranks = {line["timing"]["rank"] for line in slurm.lines("search/history.jsonl")}
    assert ranks - {None} == {0, 1}  # None: a candidate evaluated before
    assert slurm.wait(wrong)["ExitCode"] == "2:0"
    message = (slurm.folder / f"rcdp-search-{wrong}.log").read_text()
    assert "started 2 ranks, but the MPI library sees 1" in message
    assert "MPICH needs --mpi=pmi2" in message

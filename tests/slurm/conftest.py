"""A real Slurm for the tests of this folder, started once; where that cannot be, they say why and are skipped.

`make test-slurm` sets RCDP_SLURM=required: then a cluster that cannot be had is an error.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from slurm.cluster import Cluster, missing
from slurm.jobs import LONGER, RANKS, Slurm


@pytest.fixture(scope="session")
def cluster():
    reason = missing()
    if reason and os.environ.get("RCDP_SLURM") == "required":
        raise RuntimeError(reason)
    if reason:
        pytest.skip(reason)
    before = os.environ.get("SLURM_CONF")
    # One cluster on a machine at a time: a second test run waits here for the first.
    with open("/var/tmp/rcdp-slurm.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cluster = Cluster()
        try:
            cluster.up()
            yield cluster
        finally:
            cluster.down()
            os.environ.pop("SLURM_CONF") if before is None else os.environ.update(SLURM_CONF=before)


@pytest.fixture
def slurm(cluster, tmp_path: Path):
    """Slurm as a user sees it from a folder of their own; no job outlives its test."""
    user = Slurm(cluster, tmp_path)
    try:
        yield user
    finally:
        user.cancel_all()


@pytest.fixture(scope="session")
def undisturbed(cluster, tmp_path_factory) -> Path:
    """The run directory of a job that nobody disturbed."""
    slurm = Slurm(cluster, tmp_path_factory.mktemp("undisturbed"))
    job = slurm.sbatch("all.sbatch", *RANKS, config=slurm.config(*LONGER))
    assert slurm.done(job)["Restarts"] == "0"
    return slurm.folder / "run"

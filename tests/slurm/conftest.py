"""A real Slurm for the tests of this folder, started once; without it the tests are skipped with the reason.

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
    # Only one cluster at a time per machine: a second test run waits here.
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
    """Slurm as seen by a user in a separate folder; all jobs are ended after the test."""
    user = Slurm(cluster, tmp_path)
    try:
        yield user
    finally:
        user.cancel_all()


@pytest.fixture(scope="session")
def undisturbed(cluster, tmp_path_factory) -> Path:
    """The run directory of a job without interruption."""
    slurm = Slurm(cluster, tmp_path_factory.mktemp("undisturbed"))
    job = slurm.sbatch("all.sbatch", *RANKS, config=slurm.config(*LONGER))
    assert slurm.done(job)["Restarts"] == "0"
    return slurm.folder / "run"

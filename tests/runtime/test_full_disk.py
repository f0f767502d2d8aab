"""On a full disk, the failure of a stage is recorded, and a log that cannot be written ends nothing."""

from __future__ import annotations

import os
import subprocess

import pytest
from launch import rcdp

from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.runtime import rundir
from rcdp_hpc.runtime.rundir import RunDirectory


def test_a_failure_overwrites_the_earlier_record(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)
    run.record_state("train", "running", ranks=2)

    def full(path, value):
        raise StageFailedError(f"{path}: no space left")

    monkeypatch.setattr(rundir, "write_sealed", full)
    with pytest.raises(StageFailedError):
        run.record_state("train", "running")
    run.record_failure("train", "failed", reason="no space left")
    found = run.state("train")
    assert (found["status"], found["reason"], found["ranks"]) == ("failed", "no space left", 2)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_log_on_a_full_disk_ends_nothing(tmp_path, unbuffered):
    command, env = rcdp("status", str(tmp_path / "nowhere")), {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=full, env=env, timeout=60)
    assert done.returncode == 2

"""What the state file says of a stage that ended early: job scripts go by it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from rcdp_hpc import pipeline
from rcdp_hpc.config import load_config
from rcdp_hpc.errors import StageFailedError, StoppedError
from rcdp_hpc.runtime.rundir import RunDirectory


class LostRankError(RuntimeError):
    """Stands for Horovod's own."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LostRankError("connection reset"), "running"),
        (RuntimeError("a defect"), "failed"),
        (StageFailedError("no room left"), "failed"),
        (StoppedError("stopped by SIGUSR1"), "stopped"),
    ],
)
def test_a_lost_rank_is_no_failure_of_the_stage(error, status, tmp_path, monkeypatch):
    exceptions = ModuleType("horovod.common.exceptions")
    exceptions.HorovodInternalError = LostRankError
    monkeypatch.setitem(sys.modules, "horovod.common.exceptions", exceptions)

    def work(*arguments):
        raise error

    monkeypatch.setitem(pipeline._WORK, "prepare", work)
    with pytest.raises(type(error)):
        pipeline.prepare(load_config("digits"), tmp_path)
    assert RunDirectory(tmp_path).state("prepare")["status"] == status

"""The state file of a stage that ended early, which job scripts read."""

from __future__ import annotations

import os
import sys
from types import ModuleType

import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.errors import StageFailedError, StoppedError
from rcdp_hpc.pipeline import stages, state
from rcdp_hpc.runtime.rundir import RunDirectory


class LostRankError(RuntimeError):
    """Replaces the error of Horovod."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LostRankError("connection reset"), "running"),
        (RuntimeError("a defect"), "failed"),
        (StageFailedError("no space left"), "failed"),
        (StoppedError("stopped by SIGUSR1"), "stopped"),
    ],
)
def test_a_lost_rank_is_not_a_failure_of_the_stage(error, status, tmp_path, monkeypatch):
    exceptions = ModuleType("horovod.common.exceptions")
    exceptions.HorovodInternalError = LostRankError
    monkeypatch.setitem(sys.modules, "horovod.common.exceptions", exceptions)

    def work(*arguments, **options):
        raise error

    monkeypatch.setitem(stages._WORK, "prepare", work)
    with pytest.raises(type(error)):
        stages.prepare(load_config("digits"), tmp_path)
    assert RunDirectory(tmp_path).state("prepare")["status"] == status


def test_the_seconds_of_a_stage_are_those_of_all_its_starts(tmp_path, monkeypatch):
    """For any end of a start: a report or a plan would otherwise count only the last start."""
    run, config = RunDirectory(tmp_path), load_config("digits", ["reservoir.kernel=dense-fp32", "search.generations=0"])
    now, ending = [1000.0], []

    def work(*arguments, **options):
        now[0] += 10.0
        run.train.mkdir(exist_ok=True)
        (run.train / "last.pt").touch()
        os.utime(run.train / "last.pt", (now[0], now[0]))
        now[0] += 1.0
        if ending:
            raise ending.pop()
        return {}

    def seconds(stage: str, **options) -> float:
        stages.run_stages([stage], config, tmp_path, **options)
        return run.state(stage)["seconds"]

    for stage in ("train", "evaluate"):
        monkeypatch.setitem(stages._WORK, stage, work)
    monkeypatch.setattr(state.time, "time", lambda: now[0])
    for error in (StoppedError("stopped by SIGUSR1"), StageFailedError("no space left")):
        ending.append(error)
        with pytest.raises(type(error)):
            seconds("train")
    assert seconds("train") == 3 * 11
    assert seconds("train") == 4 * 11
    # A killed job cannot record its end: its last file is from 10 s after its start.
    ending.append(SystemExit())
    with pytest.raises(SystemExit):
        seconds("train")
    assert run.state("train")["status"] == "running"
    assert seconds("train") == 4 * 11 + 10 + 11
    assert seconds("train", restart=True) == 11
    assert [seconds("evaluate") for _ in range(2)] == [11, 11]

"""The status of jobs from the output of scontrol."""

from __future__ import annotations

import shlex

import pytest

from rcdp_hpc.cli.status import describe_run
from rcdp_hpc.cluster import queue
from rcdp_hpc.cluster.slurm import Submission, job_facts, record_submission
from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.runtime.rundir import RunDirectory

RUNNING = {"JobId": "7", "JobState": "RUNNING", "Reason": "None", "NodeList": "c[1-2]", "RunTime": "00:01:00",
           "TimeLimit": "04:00:00", "ExitCode": "0:0", "Restarts": "2"}  # fmt: skip
FAILED = {"JobId": "6", "JobState": "FAILED", "Reason": "NonZeroExitCode", "ExitCode": "2:0", "StdOut": "/run/x.log"}
CANCELLED = {"JobId": "8", "JobState": "CANCELLED", "Reason": "DependencyNeverSatisfied", "ExitCode": "0:0"}
KILLED = {"JobId": "9", "JobState": "FAILED", "Reason": "None", "ExitCode": "0:9", "StdOut": "/run/y.log"}


@pytest.fixture
def run(tmp_path, monkeypatch) -> RunDirectory:
    """A run directory with a chain of jobs."""
    run = RunDirectory(tmp_path)
    run.jobs.mkdir()
    for stage, job in (("prepare", "6"), ("search", "7"), ("train", "8")):
        record_submission(run.submitted, Submission(stage, job))
    return run


def answer(monkeypatch, **facts) -> None:
    monkeypatch.setattr(queue, "job_facts", lambda job: facts.get(f"job{job}", []))


def test_each_job_is_a_line_with_its_reason(run, monkeypatch):
    answer(monkeypatch, job6=[FAILED], job7=[RUNNING], job8=[CANCELLED])
    lines, alive = queue.describe_jobs(run)
    assert alive
    assert lines == [
        "  prepare   job 6: failed (NonZeroExitCode), exit code 2, see /run/x.log",
        "  search    job 7: running, on c[1-2] for 00:01:00 of 04:00:00, requeued 2 times",
        "  train     job 8: cancelled (DependencyNeverSatisfied: the previous job failed)",
    ]


def test_status_names_the_next_command_if_no_job_runs(run, monkeypatch):
    answer(monkeypatch, job7=[RUNNING])
    assert "next: wait for the jobs" in describe_run(run)
    answer(monkeypatch, job6=[KILLED])
    text = describe_run(run)
    assert "ended by signal 9" in text
    assert "no longer in Slurm's records" in text
    assert f"next: fix the errors in {run.path}/logs, then submit again as before" in text


def test_only_the_last_job_of_a_stage_counts(run, monkeypatch):
    record_submission(run.submitted, Submission("prepare", "12"))
    answer(monkeypatch, job6=[FAILED], job12=[{**RUNNING, "JobId": "12"}])
    lines, _ = queue.describe_jobs(run)
    assert lines[0].startswith("  prepare   job 12: running")
    assert not any("job 6" in line for line in lines)


def test_a_long_array_is_shortened(run, monkeypatch):
    tasks = [{**RUNNING, "ArrayJobId": "7", "ArrayTaskId": str(number)} for number in range(30, 0, -1)]
    answer(monkeypatch, job7=tasks)
    lines, _ = queue.describe_jobs(run)
    assert sum("job 7_" in line for line in lines) == 20
    assert "job 7_1: " in next(line for line in lines if "search" in line)
    assert "  search    and 10 more tasks" in lines


def test_status_without_slurm(run, monkeypatch):
    def gone(job: str) -> list[dict[str, str]]:
        raise InputError("scontrol is not on the PATH")

    monkeypatch.setattr(queue, "job_facts", gone)
    text = describe_run(run)
    assert "their status is unknown: scontrol is not on the PATH" in text
    assert "prepare   not started" in text
    assert "do not submit before: the jobs may still run" in text.splitlines()[-1]
    run.fold(1).path.mkdir()
    assert "do not submit before" in describe_run(run).splitlines()[-1]


def test_only_a_job_unknown_to_slurm_has_no_fields(fake):
    fake("scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert job_facts("7") == []
    fake("scontrol", "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1")
    with pytest.raises(StageFailedError, match="Unable to contact slurm controller"):
        job_facts("7")


def test_a_path_that_looks_like_a_field_is_ignored(fake):
    fields = (
        "JobId=7 JobName=rcdp-all JobState=RUNNING Reason=None Socks/Node=* Command=/a b/jobs/all.sbatch "
        "StdOut=/a b/logs/all-7.log WorkDir=/x JobState=FAILED "
    )
    fake("scontrol", f"echo {shlex.quote(fields)}")
    (facts,) = job_facts("7")
    assert (facts["JobState"], facts["StdOut"], facts["Reason"]) == ("RUNNING", "/a b/logs/all-7.log", "None")


def test_a_finished_array_is_shown_by_seed(run, monkeypatch):
    answer(monkeypatch)
    for seed in (1, 2, 10):
        for stage in ("prepare", "search", "train", "evaluate"):
            RunDirectory(run.path / f"seed-{seed}").state_file(stage).parent.mkdir(parents=True, exist_ok=True)
            RunDirectory(run.path / f"seed-{seed}").record_state(stage, "done", result={"accuracy": seed / 100})
    lines = describe_run(run).splitlines()
    assert lines[-4:] == [
        "  seed-1: done: accuracy 1.00 %",
        "  seed-2: done: accuracy 2.00 %",
        "  seed-10: done: accuracy 10.00 %",
        f"next: rcdp report {run.path}   (of {run.path}/*/report/summary.json)",
    ]
    RunDirectory(run.path / "seed-2").record_state("search", "failed", reason="out of luck")
    RunDirectory(run.path / "seed-2").state_file("evaluate").unlink()
    assert "  seed-2: search failed: out of luck" in describe_run(run)

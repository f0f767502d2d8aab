"""Jobs that are signalled, preempted, cancelled or lose a node: they continue, and end with the same results."""

from __future__ import annotations

import re
import time

import pytest
from launch import rcdp
from slurm.jobs import LONGER, OVER, RANKS, Slurm, assert_same, site

pytestmark = pytest.mark.slurm

MPIRUN = "'mpirun --bind-to none'"


def in_search(slurm: Slurm) -> bool:
    return len(slurm.lines("search/history.jsonl")) >= 16


def in_training(slurm: Slurm) -> bool:
    return len(slurm.lines("train/metrics.jsonl")) >= 3


def wait_until(slurm: Slurm, where) -> None:
    slurm.wait_for(lambda: where(slurm), where.__name__)


def test_usr1_in_search_and_in_training(slurm, undisturbed):
    """Sent to ranks of srun, and after the requeue, with a changed site file, to ranks of mpirun."""
    job = slurm.sbatch("all.sbatch", *RANKS, config=slurm.config(*LONGER), RCDP_SITE=str(site(slurm.folder)))
    for count, (stage, where) in enumerate((("search", in_search), ("train", in_training)), 1):
        wait_until(slurm, where)
        site(slurm.folder, RCDP_LAUNCH=MPIRUN)
        # The second and third signal have no effect.
        for _ in range(3):
            slurm.call("scancel", "--batch", "--signal=USR1", job)
        slurm.requeued(job, count)
        assert slurm.state(stage)["status"] in ("stopped", "running"), slurm.log()
        assert "by SIGUSR1" in slurm.state(stage)["reason"]
    slurm.done(job)
    log = slurm.log()
    assert log.count("is requeued") == 2
    assert "going on from epoch" in log
    assert_same(slurm.folder / "run", undisturbed)


def test_preemption_by_a_higher_partition(slurm, undisturbed):
    job = slurm.sbatch("all.sbatch", *RANKS, "--exclusive", config=slurm.config(*LONGER))
    wait_until(slurm, in_search)
    urgent = slurm.call(
        "sbatch",
        "--parsable",
        "--partition=urgent",
        "--nodes=2",
        "--exclusive",
        "--output=urgent.log",
        "--wrap=sleep 2",
    ).strip()
    slurm.done(urgent)
    assert slurm.state("search")["status"] in ("stopped", "running")
    assert slurm.done(job)["Restarts"] == "1"
    assert "stopped with a checkpoint" in slurm.log()
    assert_same(slurm.folder / "run", undisturbed)


@pytest.mark.parametrize("where", [in_search, in_training])
def test_a_node_crashes(where, slurm, undisturbed):
    job = slurm.sbatch("all.sbatch", *RANKS, config=slurm.config(*LONGER, "checkpoint.every_seconds=1"))
    wait_until(slurm, where)
    slurm.cluster.crash("c2")
    slurm.requeued(job)
    slurm.cluster.start("c2")
    slurm.done(job)
    assert "a node was lost" in slurm.log()
    assert_same(slurm.folder / "run", undisturbed)


def test_scancel_ends_the_job_with_a_checkpoint(slurm):
    job = slurm.sbatch("all.sbatch", *RANKS, config=slurm.config(*LONGER))
    wait_until(slurm, in_search)
    slurm.call("scancel", job)
    assert slurm.wait(job)["JobState"] == "CANCELLED", slurm.log()
    time.sleep(3)
    assert slurm.job(job)["JobState"] == "CANCELLED"
    assert slurm.state("search")["status"] == "stopped"
    assert not (slurm.folder / "run/lock").exists()


def test_a_run_directory_shared_by_two_jobs_and_signals_to_the_step(slurm, undisturbed):
    """The second job is refused; the first, without requeue, ends with a checkpoint, from which a third continues."""
    config = slurm.config(*LONGER)
    first = slurm.sbatch("all.sbatch", *RANKS, "--no-requeue", config=config)
    wait_until(slurm, in_search)
    second = slurm.sbatch("search.sbatch", *RANKS, config=config)
    assert slurm.wait(second)["ExitCode"] == "2:0"
    message = (slurm.folder / f"rcdp-search-{second}.log").read_text()
    assert "is in use by process" in message
    assert f"of job {first}" in message
    # Like `#SBATCH --signal=USR1@120` without B: the ranks get the signal, the script does not.
    # The second and third have no effect, and the step may have ended.
    for _ in range(3):
        slurm.call("scancel", "--signal=USR1", f"{first}.0", check=False)
    assert slurm.wait(first)["ExitCode"] == "75:0"
    assert "does not allow a job to requeue itself: submit again to continue" in slurm.log()
    assert any(slurm.state(stage).get("status") == "stopped" for stage in ("search", "train"))
    slurm.done(slurm.sbatch("all.sbatch", *RANKS, config=config))
    assert_same(slurm.folder / "run", undisturbed)


def test_a_disk_that_fills_up_in_training(slurm, undisturbed):
    """The log is on the same disk: the state file has the reason, and the run continues when there is space."""
    run = slurm.cluster.small_disk / "run"
    submit = rcdp("submit", "--out", str(run), "--one-job", *(f"--sbatch={option}" for option in RANKS))
    said = slurm.call(*submit, str(slurm.config(*LONGER, "checkpoint.every_seconds=1")))
    (job,) = re.findall(r"^all: job (\d+)", said, re.MULTILINE)
    slurm.wait_for(lambda: len(slurm.lines("train/metrics.jsonl", str(run))) >= 3, "training to go on")
    ballast = slurm.cluster.small_disk / "ballast"

    def over_while_the_disk_fills() -> bool:
        # Repeatedly, because a checkpoint that replaces another frees space.
        slurm.call("dd", "if=/dev/zero", f"of={ballast}", "oflag=append", "conv=notrunc", "status=none", check=False)
        return slurm.job(job)["JobState"] in OVER

    slurm.wait_for(over_while_the_disk_fills, "the job to end")
    ended = slurm.job(job)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "1:0", "0"), ended
    status = slurm.call(*rcdp("status", str(run)))
    assert re.search(r"train +failed: .*no space left to write \(0.0 MiB free\)", status), status
    ballast.unlink()
    (job,) = re.findall(r"^all: job (\d+)", slurm.call(*submit), re.MULTILINE)
    slurm.done(job)
    assert_same(run, undisturbed)

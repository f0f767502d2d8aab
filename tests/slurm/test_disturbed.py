"""Jobs that are signalled, preempted, cancelled or lose a node: they go on, and end as if nothing had happened."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from slurm.jobs import Slurm

pytestmark = pytest.mark.slurm

# Long enough to be disturbed in the middle.
LONGER = ("search.generations=40", "search.population=8", "reservoir.nodes=100", "training.epochs=60")
RANKS = ("--nodes=2", "--ntasks=2", "--cpus-per-task=1", "--time=10")


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory) -> Path:
    """The run directory of a job that nobody disturbed."""
    slurm = Slurm(cluster, tmp_path_factory.mktemp("undisturbed"))
    job = slurm.sbatch("all.sbatch", *RANKS, config=slurm.config(*LONGER))
    assert slurm.done(job)["Restarts"] == "0"
    return slurm.folder / "run"


def history(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "search/history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines]


def assert_same(run: Path, other: Path) -> None:
    assert history(run) == history(other)
    mine, theirs = (
        torch.load(path / "train/last.pt", weights_only=True)["trainer"]["network"] for path in (run, other)
    )
    for name, value in theirs.items():
        assert torch.equal(mine[name], value), name


def in_search(slurm: Slurm) -> bool:
    return len(slurm.lines("search/history.jsonl")) >= 16


def in_training(slurm: Slurm) -> bool:
    return len(slurm.lines("train/metrics.jsonl")) >= 3


def wait_until(slurm: Slurm, where) -> None:
    slurm.wait_for(lambda: where(slurm), where.__name__)


def test_usr1_in_search_and_in_training(slurm, undisturbed):
    job = slurm.sbatch("all.sbatch", *RANKS, config=slurm.config(*LONGER))
    for count, (stage, where) in enumerate((("search", in_search), ("train", in_training)), 1):
        wait_until(slurm, where)
        # The second and third change nothing.
        for _ in range(3):
            slurm.call("scancel", "--batch", "--signal=USR1", job)
        slurm.wait_for(lambda count=count: slurm.job(job)["Restarts"] == str(count), f"requeue {count}")
        assert slurm.state(stage)["status"] in ("stopped", "running"), slurm.log()
        assert "by SIGUSR1" in slurm.state(stage)["reason"]
    slurm.done(job)
    log = slurm.log()
    assert log.count("goes back to the queue") == 2
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
    job = slurm.sbatch("all.sbatch", *RANKS, config=slurm.config(*LONGER, "training.checkpoint_seconds=1"))
    wait_until(slurm, where)
    slurm.cluster.crash("c2")
    slurm.wait_for(lambda: slurm.job(job)["Restarts"] == "1", "the requeue after the crash")
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


def test_a_run_directory_shared_by_two_jobs(slurm):
    config = slurm.config(*LONGER)
    first = slurm.sbatch("all.sbatch", *RANKS, config=config)
    wait_until(slurm, in_search)
    second = slurm.sbatch("search.sbatch", *RANKS, config=config)
    assert slurm.wait(second)["ExitCode"] == "2:0"
    message = (slurm.folder / f"rcdp-search-{second}.log").read_text()
    assert "is in use by process" in message
    assert f"of job {first}" in message
    slurm.done(first)

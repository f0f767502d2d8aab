"""An array whose tasks reach their time limit: Slurm's signal stops them, they are requeued and finish."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from launch import REPOSITORY, rcdp
from slurm.jobs import LONGER, Slurm, assert_same, site

pytestmark = pytest.mark.slurm
SEEDS = (1, 2, 3)
# Slurm checks time limits every half minute, and here sends the signal between 10 and 40 s after the start. Epochs of
# two seconds last longer than that.
LIMITED = ("--nodes=2", "--ntasks=2", "--cpus-per-task=1", "--time=1", "--signal=B:USR1@20")


@pytest.fixture(scope="module")
def array(cluster, tmp_path_factory) -> tuple[Slurm, str]:
    """An array of three seeds that was interrupted by its time limit and is done."""
    slurm = Slurm(cluster, tmp_path_factory.mktemp("array"))
    slow = site(slurm.folder, RCDP_COMMAND=f"'{sys.executable} {REPOSITORY}/tests/slurm/slow.py'")
    options = ["--site", slow, *(f"--sbatch={option}" for option in LIMITED)]
    said = slurm.call(*rcdp("submit", slurm.config(*LONGER), "--out", "run", "--array", "seeds=3", *options))
    prepare, number = re.findall(r"^\w+: job (\d+)", said, re.MULTILINE)
    slurm.done(prepare)
    for seed in SEEDS:
        task = f"{number}_{seed}"
        slurm.requeued(task)
        # One interruption is sufficient.
        slurm.call("scontrol", "update", f"job={task}", "TimeLimit=20")
    for seed in SEEDS:
        slurm.done(f"{number}_{seed}")
    return slurm, number


def test_each_task_was_stopped_by_its_limit_and_continued(array):
    slurm, number = array
    for seed in SEEDS:
        log = (slurm.folder / f"run/logs/seeds-{number}_{seed}.log").read_text()
        assert f"job {number}_{seed} is requeued" in log
        assert "DUE TO TIME LIMIT" not in log


def test_an_interrupted_task_ends_like_an_uninterrupted_run(array, undisturbed: Path):
    slurm, _ = array
    assert_same(slurm.folder / "run/seed-1", undisturbed)


def test_the_seeds_share_shards_and_differ_in_results(array):
    slurm, number = array
    results = [slurm.state("evaluate", f"run/seed-{seed}")["result"]["accuracy"] for seed in SEEDS]
    first_losses = {slurm.lines("train/metrics.jsonl", f"run/seed-{seed}")[0]["train_loss"] for seed in SEEDS}
    assert len(first_losses) == 3
    status = slurm.call(*rcdp("status", "run"))
    for seed, accuracy in zip(SEEDS, results, strict=True):
        assert f"job {number}_{seed}: completed" in status
        assert re.search(rf"seed-{seed}: done: .*accuracy {100 * accuracy:.2f} %", status), status
    assert "/*/report/summary.json" in status.splitlines()[-1]
    assert not list((slurm.folder / "run").glob("seed-*/shards/*/"))

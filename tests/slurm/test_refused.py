"""Jobs that cannot run end at once, with one message."""

from __future__ import annotations

import re

import pytest
from launch import rcdp
from slurm.jobs import site

pytestmark = pytest.mark.slurm
RANKS = ("--nodes=2", "--ntasks=2", "--cpus-per-task=1", "--time=10")


def test_a_failed_preparation_cancels_the_jobs_that_wait_for_it(slurm):
    config = slurm.config("data.source=npz", "data.path=nowhere.npz")
    options = [f"--sbatch={option}" for option in RANKS[1:]]
    said = slurm.call(*rcdp("submit", str(config), "--out", "run", *options))
    prepare, search, train = re.findall(r"^\w+: job (\d+)", said, re.MULTILINE)
    assert slurm.wait(prepare)["ExitCode"] == "2:0"
    for job in (search, train):
        assert slurm.wait(job)["JobState"] == "CANCELLED"
    status = slurm.call(*rcdp("status", "run"))
    assert re.search(rf"prepare +job {prepare}: failed .*exit code 2", status), status
    assert re.search(rf"search +job {search}: cancelled \(DependencyNeverSatisfied: the previous job failed", status), (
        status
    )
    assert "nowhere.npz" in status
    assert "next: fix the errors in" in status


@pytest.mark.parametrize("flavour", ["pmi2", "none"])
def test_a_wrong_mpi_flag_is_named_before_anything_is_written(flavour, slurm):
    settings = site(slurm.folder, RCDP_LAUNCH=f"'srun --mpi={flavour}'")
    job = slurm.sbatch("all.sbatch", *RANKS, config=slurm.config(), RCDP_SITE=str(settings))
    assert slurm.wait(job)["ExitCode"] == "2:0", slurm.log()
    message = (slurm.folder / f"rcdp-all-{job}.log").read_text()
    assert message.count("rcdp: error:") == 1
    assert "started 2 ranks, but the MPI library sees 1" in message
    assert "--mpi=pmix" in message
    assert not (slurm.folder / "run/config.toml").exists()
    assert not (slurm.folder / "run/shards").exists()


def test_a_site_file_that_is_missing_or_broken_is_named(slurm):
    broken = slurm.folder / "broken.sh"
    broken.write_text("EVERY_JOB=(\n")
    for path, words in (("nowhere.sh", "no such site file"), ("broken.sh", "bash cannot read this site file")):
        said = slurm.call(*rcdp("submit", "digits", "--out", "run", "--site", path, "--dry-run"), check=False)
        assert words in said
        assert path in said


def test_after_a_refused_job_no_job_remains_in_the_queue(slurm):
    settings = site(slurm.folder, TRAIN_JOB="(--partition=nowhere)")
    said = slurm.call(*rcdp("submit", "digits", "--out", "run", "--site", str(settings)), check=False)
    assert "Slurm refused the job train: " in said
    assert "invalid partition" in said
    number = settings.read_text().splitlines().index("TRAIN_JOB=(--partition=nowhere)") + 1
    assert f"--partition=nowhere   in TRAIN_JOB of {settings}, line {number}" in said
    assert re.search(r"Submitted before it and cancelled: prepare \(job \d+\), search \(job \d+\)", said), said
    slurm.wait_for(lambda: not slurm.call("squeue", "-h").strip(), "the first jobs to be cancelled")


def test_a_job_too_large_for_every_node_is_named_with_the_option_of_its_size(slurm):
    said = slurm.call(*rcdp("submit", "digits", "--out", "run", "--sbatch=--mem=100G"), check=False)
    assert "Slurm refused the job prepare: " in said
    assert "--mem=100G   on the command line: --sbatch=--mem=100G" in said
    assert not slurm.call("squeue", "-h").strip()

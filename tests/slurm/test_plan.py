"""The lines of `rcdp plan`, submitted to their Slurm."""

from __future__ import annotations

import re

import pytest
from launch import rcdp
from slurm.jobs import Slurm, site

pytestmark = pytest.mark.slurm
LINE = re.compile(r"^  (\w+_JOB)=(\(.*\))$", re.MULTILINE)
# The digits profile, and work that could use more ranks and memory than two small nodes have.
SETTINGS = {
    "digits": [],
    "larger": ["--set=reservoir.nodes=1000", "--set=search.population=50", "--set=search.train_rows=20000"],
}


@pytest.fixture(scope="module", params=SETTINGS)
def planned(request, cluster, tmp_path_factory) -> tuple[list[str], dict[str, str]]:
    """The settings of a configuration, and the planned lines."""
    user, settings = Slurm(cluster, tmp_path_factory.mktemp("plan")), SETTINGS[request.param]
    text = user.call(*rcdp("plan", "digits", *settings))
    lines = dict(LINE.findall(text))
    assert lines.keys() == {"PREPARE_JOB", "SEARCH_JOB", "TRAIN_JOB", "ALL_JOB"}, text
    return settings, lines


@pytest.mark.parametrize(("kind", "jobs"), [("--chain", 3), ("--one-job", 1)])
def test_this_slurm_accepts_every_line(kind, jobs, planned, slurm):
    settings, lines = planned
    # Held, because the test of the guide runs a chain of such lines to its end.
    options = ["--site", str(site(slurm.folder, **lines)), kind, "--sbatch=--hold"]
    said = slurm.call(*rcdp("submit", "digits", *settings, "--out", "run", *options))
    assert len(re.findall(r"^\w+: job \d+", said, re.MULTILINE)) == jobs


def test_a_job_that_fits_nowhere_is_reported(slurm):
    said = slurm.call(*rcdp("plan", "digits", "--set=search.threads=5", "--set=training.threads=2"))
    assert re.search(r"# SEARCH_JOB=.*\n  # cannot start: a rank has 5 threads, and no node of partition main ", said)
    assert "  TRAIN_JOB=(--ntasks=4 --cpus-per-task=2 " in said

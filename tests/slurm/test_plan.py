"""The lines of `rcdp plan`, submitted to the Slurm that they were made for."""

from __future__ import annotations

import re

import pytest
from launch import rcdp
from slurm.jobs import Slurm, site

pytestmark = pytest.mark.slurm
LINE = re.compile(r"^  (\w+_JOB)=(\(.*\))$", re.MULTILINE)
# Digits as it is, and work that has use for more ranks and memory than two small nodes have.
SETTINGS = {
    "digits": [],
    "larger": ["--set=reservoir.nodes=1000", "--set=search.population=50", "--set=search.train_rows=20000"],
}


@pytest.fixture(scope="module", params=SETTINGS)
def planned(request, cluster, tmp_path_factory) -> tuple[list[str], dict[str, str]]:
    """The settings of a configuration, and the lines that were planned for it."""
    user, settings = Slurm(cluster, tmp_path_factory.mktemp("plan")), SETTINGS[request.param]
    text = user.call(*rcdp("plan", "digits", *settings))
    lines = dict(LINE.findall(text))
    assert lines.keys() == {"PREPARE_JOB", "SEARCH_JOB", "TRAIN_JOB", "ALL_JOB"}, text
    return settings, lines


@pytest.mark.parametrize(("kind", "jobs"), [("--chain", 3), ("--one-job", 1)])
def test_this_slurm_takes_every_line(kind, jobs, planned, slurm):
    settings, lines = planned
    # Held: that a chain of such lines runs to its end is seen by the test of the guide.
    options = ["--site", str(site(slurm.folder, **lines)), kind, "--sbatch=--hold"]
    said = slurm.call(*rcdp("submit", "digits", *settings, "--out", "run", *options))
    assert len(re.findall(r"^\w+: job \d+", said, re.MULTILINE)) == jobs


def test_what_fits_nowhere_is_said(slurm):
    said = slurm.call(*rcdp("plan", "digits", "--set=search.threads=5", "--set=training.threads=2"))
    assert re.search(r"# SEARCH_JOB=.*\n  # cannot start: a rank has 5 threads, and no node of partition main ", said)
    assert "  TRAIN_JOB=(--ntasks=4 --cpus-per-task=2 " in said

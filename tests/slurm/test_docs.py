"""The commands of docs/slurm.md, unchanged and in order."""

from __future__ import annotations

import re

import pytest
from launch import BIN, REPOSITORY

pytestmark = pytest.mark.slurm
GUIDE = (REPOSITORY / "docs/slurm.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
PLAN = "rcdp plan my.toml --site my-site.sh"
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]


def test_the_guide_from_login_to_result(slurm):
    (slurm.folder / ".venv").symlink_to(BIN.parent)
    said = {}
    for line in COMMANDS:
        if line == "make setup":
            continue
        said[line] = slurm.call("bash", "-ec", line)
        if line == PLAN:
            # The edits that the guide describes.
            lines = re.findall(r"^  (\w+_JOB=\(.*\))$", said[line], re.MULTILINE)
            assert [text.partition("=")[0] for text in lines] == ["PREPARE_JOB", "SEARCH_JOB", "TRAIN_JOB", "ALL_JOB"]
            with open(slurm.folder / "my-site.sh", "a") as site:
                site.write("\n".join(lines) + "\n")
        if line.startswith("rcdp submit") and "--dry-run" not in line:
            jobs = re.findall(r"^\w+: job (\d+)", said[line], re.MULTILINE)
            assert jobs
            if "--array" in line:
                # Another test runs arrays to their end.
                slurm.call("scancel", *jobs)
        if line == "rcdp status runs/first":
            for job in jobs:
                slurm.done(job)
    assert "config-large" in said["rcdp submit --out runs/grid --site my-site.sh --array configs=grid"]
    assert "partition main of this Slurm: 2 nodes of 4 cores" in said[PLAN]
    assert len(re.findall(r"job \d+: completed", said["rcdp status runs/first"])) == 3
    assert "all checksums" in said["rcdp verify runs/first"]

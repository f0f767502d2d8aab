"""The commands of docs/slurm.md, in their order and word for word."""

from __future__ import annotations

import re

import pytest
from launch import BIN, REPOSITORY

pytestmark = pytest.mark.slurm
GUIDE = (REPOSITORY / "docs/slurm.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]


def test_the_guide_from_login_to_result(slurm):
    (slurm.folder / ".venv").symlink_to(BIN.parent)
    said = {}
    for line in COMMANDS:
        if line == "make setup":
            continue
        said[line] = slurm.call("bash", "-ec", line)
        if line.startswith("cp "):
            # What a user does in the editor: this cluster is small.
            with open(slurm.folder / "my-site.sh", "a") as site:
                site.write("EVERY_JOB=(--nodes=1 --ntasks=2 --cpus-per-task=1 --time=10)\nPREPARE_JOB=(--ntasks=1)\n")
        if line.endswith("> my.toml"):
            slurm.config().rename(slurm.folder / "my.toml")
        if line.startswith("rcdp submit") and "--dry-run" not in line:
            jobs = re.findall(r"^\w+: job (\d+)", said[line], re.MULTILINE)
            if "--array" in line:
                # Arrays run to their end in a test of their own.
                slurm.call("scancel", *jobs)
        if line == "rcdp status runs/first":
            for job in jobs:
                slurm.done(job)
    assert "config-large" in said["rcdp submit --out runs/grid --site my-site.sh --array configs=grid"]
    assert "SEARCH_JOB=(" in said["rcdp plan my.toml"]
    assert len(re.findall(r"job \d+: completed", said["rcdp status runs/first"])) == 3
    assert "every checksum" in said["rcdp verify runs/first"]

"""shellcheck accepts every shell script, and every script for Slurm has a test on a Slurm."""

import re
import subprocess

import pytest
from launch import BIN, REPOSITORY

PATTERNS = ("slurm/*.sbatch", "slurm/*.sh", "rcdp_hpc/cluster/*.sh", ".ci/run")
SCRIPTS = sorted(path for pattern in PATTERNS for path in REPOSITORY.glob(pattern))
# Not submitted: containers cannot be built where these tests run.
NO_JOBS = {"README.md", "rcdp.def"}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_there_are_scripts_to_check(pattern):
    assert list(REPOSITORY.glob(pattern))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    done = subprocess.run(
        [BIN / "shellcheck", "--external-sources", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_test_submits_or_sources_every_script():
    files = {path.name: path for path in (REPOSITORY / "slurm").iterdir() if path.name not in NO_JOBS}
    tests = "".join(path.read_text() for path in (REPOSITORY / "tests/slurm").glob("test_*.py"))
    tried = {name for name in files if f'sbatch("{name}"' in tests or f'call("slurm/{name}"' in tests}
    more = tried
    while more:
        sourcing = "".join(line for name in more for line in files[name].open() if re.match(r"\s*\. ", line))
        more = {name for name in files if f"/{name}" in sourcing} - tried
        tried |= more
    assert tried == set(files)

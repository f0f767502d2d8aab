"""Every shell script is sound to shellcheck."""

import subprocess

import pytest
from launch import BIN, REPOSITORY

SCRIPTS = sorted(
    path
    for pattern in ("slurm/*.sbatch", "slurm/*.sh", "rcdp_hpc/cluster/*.sh", ".ci/run")
    for path in REPOSITORY.glob(pattern)
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    done = subprocess.run(
        [BIN / "shellcheck", "--external-sources", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr

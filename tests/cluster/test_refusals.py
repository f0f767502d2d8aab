"""The option or line of the site file that may cause a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from rcdp_hpc.cluster.refusals import lines_to_change

SITE = """\
# EVERY_JOB=(--account=example)
EVERY_JOB=(--account=physics -p cpu)
PREPARE_JOB=()
TRAIN_JOB=(
    --partition=gpu
    --gpus-per-task=1 --time=10000
)
"""
SCRIPT = "#!/bin/bash\n#SBATCH --job-name=x\n#SBATCH --ntasks=4\n#SBATCH --time=04:00:00\n"


@pytest.fixture
def site(tmp_path) -> Path:
    path = tmp_path / "site.sh"
    path.write_text(SITE)
    return path


@pytest.mark.parametrize(
    ("words", "extra", "expected"),
    [
        ("invalid partition specified: gpu", [], ["--partition=gpu   in TRAIN_JOB of {site}, line 5"]),
        (
            "Invalid account or account/partition combination specified",
            [],
            ["--account=physics   in EVERY_JOB of {site}, line 2", "--partition=gpu   in TRAIN_JOB of {site}, line 5"],
        ),
        (
            "Requested time limit is invalid (missing or exceeds some limit)",
            [],
            ["--time=10000   in TRAIN_JOB of {site}, line 6", "--partition=gpu   in TRAIN_JOB of {site}, line 5"],
        ),
        ("sbatch: unrecognized option '--gpus-per-task'", [], ["--gpus-per-task=1   in TRAIN_JOB of {site}, line 6"]),
        # The command line overrides the site file, which overrides the script.
        (
            "invalid partition specified: x y",
            ["-p", "x y"],
            ["-p x y   on the command line: --sbatch='-p x y'"],
        ),
        (
            "More processors requested than permitted",
            ["--gpus-per-task=2"],
            [
                "--ntasks=4   is the default: set another value in TRAIN_JOB=() of {site}",
                "--gpus-per-task=2   on the command line: --sbatch=--gpus-per-task=2",
                "--partition=gpu   in TRAIN_JOB of {site}, line 5",
            ],
        ),
        ("something else", [], ["TRAIN_JOB or EVERY_JOB of {site}, which have the options of this job"]),
    ],
)
def test_the_line_to_change_is_named(words, extra, expected, site):
    found = lines_to_change(words, "train", SCRIPT, site, extra)
    assert found == [line.format(site=site) for line in expected]


def test_a_short_option_of_every_job(site):
    found = lines_to_change("invalid partition specified: cpu", "prepare", SCRIPT, site, [])
    assert found == [f"-p cpu   in EVERY_JOB of {site}, line 2"]

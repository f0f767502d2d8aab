"""Preparation without MPI, torch and Horovod, whose imports fail in these tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.verify import verify_shards

ROOT = Path(__file__).parent.parent.parent
BLOCK = """
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Missing())
"""


@pytest.fixture
def offline(tmp_path):
    """Run the script from another folder with some packages missing."""

    def run(*arguments, blocked=("torch", "mpi4py", "horovod"), variables=None, script=None):
        site = tmp_path / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(BLOCK.format(blocked=set(blocked)))
        environment = {**os.environ, "PYTHONPATH": str(site), **(variables or {})}
        command = [sys.executable, str(script or ROOT / "data_prep/prepare_shards.py"), *map(str, arguments)]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return run


def test_the_block_works(offline, tmp_path):
    (tmp_path / "try.py").write_text("import torch")
    assert "No module named 'torch'" in offline(script=tmp_path / "try.py").stderr


def test_it_prepares_the_same_shards_to_the_byte(offline, tmp_path):
    done = offline("digits", "--out", "run", "--set", "data.shards=3", "--set", "run.seed=4")
    assert done.returncode == 0, done.stderr
    assert "balanced" in done.stdout
    config = load_config("digits", ["data.shards=3", "run.seed=4"])
    prepare_shards(config, tmp_path / "here")
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert sorted(path.name for path in (tmp_path / "run/shards").iterdir()) == names
    for name in names:
        assert (tmp_path / "run/shards" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert verify_shards(tmp_path / "run/shards") == []
    assert load_config(tmp_path / "run/config.toml").data == config.data


def test_inside_a_slurm_allocation_it_is_still_one_process(offline):
    variables = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "3", "OMPI_COMM_WORLD_SIZE": "4"}
    done = offline("digits", "--out", "run", "--quiet", variables=variables)
    assert done.returncode == 0, done.stderr


def test_from_a_checkout_that_is_not_installed(offline, tmp_path):
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "rcdp_hpc", copy / "rcdp_hpc", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data_prep", copy / "data_prep")
    # -S leaves site-packages out, hence an installed package, too; the libraries come in by PYTHONPATH.
    libraries = os.pathsep.join(path for path in sys.path if path.endswith("-packages"))
    command = [
        sys.executable,
        "-S",
        str(copy / "data_prep/prepare_shards.py"),
        "digits",
        "--out",
        str(tmp_path / "run"),
    ]
    environment = {**os.environ, "PYTHONPATH": libraries}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert verify_shards(tmp_path / "run/shards") == []


def test_errors_are_one_message_and_a_code(offline, tmp_path):
    wrong = offline("mnist", "--out", "run", "--set", "data.path=nowhere")
    assert wrong.returncode == 2
    assert wrong.stderr == (
        f"prepare_shards: error: data.path = {tmp_path}/nowhere: no such folder; "
        "data.source = 'mnist' needs the folder of the IDX files.\n"
    )
    assert offline("nothing", "--out", "run").returncode == 2
    assert offline("digits", "--out", "run", "--set", "data.shards=0").returncode == 2


def test_a_missing_package_is_named_with_what_to_do(offline):
    missing = offline("digits", "--out", "run", blocked=("imblearn",))
    assert missing.returncode == 1
    assert "package imblearn is missing; install with: pip install" in missing.stderr
    assert "Traceback" not in missing.stderr
    assert offline("digits", "--out", "run", "--set", "data.balance=none", blocked=("imblearn",)).returncode == 0


def test_it_starts_again_and_restarts(offline):
    assert offline("digits", "--out", "run").returncode == 0
    again = offline("digits", "--out", "run")
    assert "nothing to do" in again.stdout
    other = offline("digits", "--out", "run", "--set", "data.shards=2")
    assert other.returncode == 2
    assert "data.shards" in other.stderr
    assert offline("digits", "--out", "run", "--set", "data.shards=2", "--restart").returncode == 0


def test_nothing_under_data_imports_the_training_stack():
    for path in (ROOT / "rcdp_hpc/data").rglob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].partition(".")[0] not in {"torch", "mpi4py", "horovod"}, path

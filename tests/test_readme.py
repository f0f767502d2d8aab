"""Every command of the README is run here as it stands there, but for `make`, which CI runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import own_data
import pytest
from launch import BIN, REPOSITORY, environment
from sklearn.datasets import load_digits

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line.partition("  #")[0].strip() for kind, block in BLOCKS if not kind for line in block.splitlines()]

# Enough to see that a command works; the results are tested elsewhere.
QUICK = "--set reservoir.nodes=40 --set search.generations=1 --set training.epochs=2"


def command(start: str) -> str:
    """The README's command that begins so; a reworded README fails here."""
    (found,) = [line for line in COMMANDS if line.startswith(start)]
    return found


def shell(line: str, folder: Path, timeout: float = 240, **extra: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["bash", "-ec", line], cwd=folder, env=environment(extra), capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A user's folder with their data in it."""
    folder = tmp_path_factory.mktemp("user")
    digits = load_digits()
    np.savez(folder / "mine.npz", x=digits.images, y=digits.target)
    np.savez(folder / "new.npz", x=digits.images[:20])
    (folder / "my.toml").write_text('[data]\npath = "mine.npz"\nmax_samples = 500\n')
    (folder / "slurm").symlink_to(REPOSITORY / "slurm")
    (folder / "data_prep").symlink_to(REPOSITORY / "data_prep")
    return folder


def test_doctor(folder):
    done = subprocess.run(
        ["rcdp", "doctor"], cwd=folder, env=environment(), capture_output=True, text=True, timeout=240
    )
    assert "train" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize("kind", own_data.KINDS)
def test_python(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = own_data.KINDS[kind](tmp_path)
    (tmp_path / "my.toml").write_text(own_data.data_section(kind, data.data))
    exec(compile(python_block("import rcdp_hpc\n"), "README.md", "exec"), {})
    assert float(capsys.readouterr().out.splitlines()[-1]) > 0.8


def test_estimator(capsys):
    exec(compile(python_block("ReservoirClassifier"), "README.md", "exec"), {})
    assert float(capsys.readouterr().out.splitlines()[-1]) > 0.95


def python_block(content: str) -> str:
    """The README's Python code that contains this text."""
    (code,) = [block for kind, block in BLOCKS if kind == "python" and content in block]
    return code


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.mark.mpi
def test_mpirun_on_idx_files(folder):
    digits = load_digits()
    images = np.repeat(np.repeat(digits.images * 15, 3, axis=1), 3, axis=2)
    data = folder / "mnist"
    data.mkdir()
    for name, part in (("train", slice(0, 700)), ("t10k", slice(700, 900))):
        write_idx(data / f"{name}-images-idx3-ubyte", images[part])
        write_idx(data / f"{name}-labels-idx1-ubyte", digits.target[part])
    line = command("mpirun -n 2 rcdp run mnist").replace("/data/mnist", str(data))
    shell(f"{line.replace('mpirun', 'mpirun --oversubscribe')} {QUICK}", folder)


@pytest.mark.horovodrun
def test_horovodrun(folder):
    shell(f"{command('horovodrun --mpi')} {QUICK}".replace("slot", "slot:OVERSUBSCRIBE"), folder)
    shell(f"{command('horovodrun --gloo')} --set training.epochs=3", folder)


@pytest.mark.mpi
def test_torchrun(folder):
    shell(f"{command('torchrun')} {QUICK}", folder)


def test_compare(folder):
    small = "--set search.population=2 --set search.generations=1 --set training.epochs=2 --set reservoir.nodes=40"
    shell(f"{command('rcdp compare my.toml')} {small}", folder)
    assert (folder / "runs/compared/comparison.json").exists()


def test_compress_and_export(folder):
    shutil.rmtree(folder / "runs/mine", ignore_errors=True)
    shell(f"rcdp run my.toml --out runs/mine {QUICK}", folder)
    shell(command("rcdp compress runs/mine"), folder)
    shell(command("rcdp export runs/small"), folder)
    assert "rcdp_predict" in (folder / "model.c").read_text()
    shutil.copytree(folder / "runs/mine", folder / "runs/earlier", dirs_exist_ok=True)
    assert "McNemar" in shell(command("rcdp evaluate --out runs/mine"), folder).stdout


def test_balance_check(folder):
    done = shell(f"{command('rcdp balance-check')} --set reservoir.nodes=40", folder)
    assert "data.balance" in done.stdout.splitlines()[-1] or "does not matter" in done.stdout


def test_offline_preparation(folder):
    shutil.rmtree(folder / "runs/mine", ignore_errors=True)
    shell(command("python data_prep/prepare_shards.py"), folder)
    assert (folder / "runs/mine/shards/index.json").exists()


def test_pip_install_brings_profiles_and_types(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(REPOSITORY, source, ignore=shutil.ignore_patterns(".*", "runs", "build", "*.egg-info"))
    wheel = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(source),
    ]
    subprocess.run(wheel, check=True, timeout=240)
    (built,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(built).namelist()
    for name in ("rcdp_hpc/configs/digits.toml", "rcdp_hpc/py.typed", "rcdp_hpc/data/sources/idx.py"):
        assert name in names


# A stand-in for Slurm that runs a job at once: it shows that the scripts are sound, not that Slurm takes them.
SBATCH = """#!/usr/bin/env bash
set -euo pipefail
for argument in "$@"; do
    case "$argument" in
        --export=*) IFS=, read -ra names <<<"${argument#--export=}"
            for name in "${names[@]}"; do if [[ $name == *=* ]]; then export "${name?}"; fi; done ;;
        *.sbatch) script=$argument ;;
    esac
done
export SLURM_SUBMIT_DIR=$PWD SLURM_JOB_ID=17
bash "$script" >>"$PWD/job.log" 2>&1
echo 17
"""


@pytest.mark.mpi
@pytest.mark.parametrize("start", ["sbatch", "slurm/chain.sh"])
def test_job_scripts(start, folder, tmp_path):
    fakes = tmp_path / "bin"
    fakes.mkdir()
    (fakes / "sbatch").write_text(SBATCH)
    (fakes / "sbatch").chmod(0o755)
    config = tmp_path / "quick.toml"
    shell(f"rcdp config digits {QUICK} > {config}", folder)
    line = command(start).replace("digits", str(config)).replace("runs/first", f"runs/{start[:5]}-job")
    shell(
        line,
        folder,
        PATH=f"{fakes}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}",
        RCDP_VENV=str(BIN.parent),
        RCDP_LAUNCH="mpirun -n 2 --oversubscribe --bind-to none",
    )
    log = (folder / "job.log").read_text()
    assert "test accuracy" in log, log
    (folder / "job.log").unlink()


def test_every_command_is_run_here_or_by_ci():
    run_here = [*re.findall(r"command\(['\"](.*?)['\"]\)", Path(__file__).read_text()), "sbatch", "slurm/chain.sh"]
    # test_own_data.py runs the block "Your own data".
    own = ("rcdp init mine.csv", "rcdp run my.toml", "rcdp predict runs/mine")
    # test_whole_paper.py runs it on small data.
    own = (*own, "rcdp compare paper")
    elsewhere = ("make ", "pip install .", ". .venv/bin/activate", "test accuracy", *own)
    for line in filter(None, COMMANDS):
        assert line.startswith((*run_here, *elsewhere)), f"{line!r} is run by no test"

"""Engines that ranks cannot use, and ranks that do not fit together: all end at once, with one message and code 2."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from launch import BIN, python, run_ranks
from trainings import Training, messages, train_together
from whole_runs import flags, lines

pytestmark = pytest.mark.mpi

SETTINGS = (
    "reservoir.nodes=30", "reservoir.kernel=dense-fp32", "search.generations=0", "training.epochs=1",
    "readout.hidden=8", "readout.outputs=8", "training.threads=1", "training.baseline=false", "run.progress=false",
)  # fmt: skip
START = """
import sys
import rcdp_hpc.cli as cli
from rcdp_hpc.runtime.comm.launch import detect
rank = detect().rank
"""
END = "\nsys.exit(cli.main(sys.argv[1:]))\n"
HIDDEN = """
import importlib.abc
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "horovod":
            raise ModuleNotFoundError("No module named 'horovod'", name="horovod")
"""
ON_RANK_1 = HIDDEN + "if rank == 1:\n    sys.meta_path.insert(0, Hide())\n"
ON_ALL = HIDDEN + "sys.meta_path.insert(0, Hide())\n"
OTHER_TORCH = """
import torch
if rank == 1:
    torch.__version__ = "2.0.0"
"""
ONE_GPU = """
import torch
from types import SimpleNamespace
torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1
torch.cuda.get_device_properties = lambda where: SimpleNamespace(name="NVIDIA H100", uuid="GPU-7")
"""
# What the ranks meet, settings, words of the one message.
CASES = {
    "horovod missing on a rank": (ON_RANK_1, ("parallel.engine=horovod",), (
        "parallel.engine = 'horovod'", "rank 1: ", "No module named 'horovod'",
    )),
    "horovod missing": (ON_ALL, ("parallel.engine=horovod",), (
        "parallel.engine = 'horovod'", "No module named 'horovod'", "parallel.engine",
    )),
    "another torch": (OTHER_TORCH, ("parallel.engine=torch",), (
        "all ranks need the same versions", "rank 1 has torch 2.0.0",
    )),
    "another torch with horovod": (OTHER_TORCH, ("parallel.engine=horovod",), ("rank 1 has Horovod", "on torch 2.0.0")),
    "other engines": ("sys.argv += ['--set', 'parallel.engine=torch'] * rank\n", (), (
        "the settings differ between ranks: parallel.engine is not set on rank 0, 'torch' on rank 1",
    )),
    "other settings of one engine": (
        "sys.argv += ['--set', f'parallel.local_steps={rank + 2}']\n", ("parallel.engine=torch",),
        ("parallel.local_steps is 2 on rank 0, 3 on rank 1",),
    ),
    "one GPU for two ranks": (ONE_GPU, ("training.device=gpu",), (
        "2 ranks train on 1 GPU of host", "ranks 0, 1 share NVIDIA H100 (GPU-7)", "mpirun --map-by ppr:1:node",
        "training.device = 'cpu'",
    )),
    "an interface that is missing": (
        "import os\nif rank: os.environ['GLOO_SOCKET_IFNAME'] = 'eth77'\n", ("parallel.engine=torch",),
        ("rank 1: GLOO_SOCKET_IFNAME", "'eth77'"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "run"
    train_together(0, [Training(str(out), SETTINGS, stages=["prepare"])])
    return out


def train(out: Path, code: str, settings: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [*python(f"{START}{code}{END}"), "train", "--out", str(out), *flags(*settings)]
    return run_ranks(2, command, timeout=60)


@pytest.mark.parametrize("case", CASES)
def test_all_ranks_end_at_once_with_one_message(case, prepared, tmp_path):
    code, settings, words = CASES[case]
    out = Path(shutil.copytree(prepared, tmp_path / "run"))
    done = train(out, code, settings)
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("rcdp: error:") == 1, done.stdout
    assert "Traceback" not in done.stdout
    for word in words:
        assert word in done.stdout
    assert not (out / "train/last.pt").exists()


def test_the_default_is_the_engine_that_all_ranks_can_use_and_the_log_says_why(prepared, tmp_path):
    out = Path(shutil.copytree(prepared, tmp_path / "run"))
    done = train(out, ON_RANK_1, ())
    assert done.returncode == 0, done.stdout
    (line,) = [line for line in messages(out).splitlines() if "ranks train with" in line]
    assert line.startswith("2 ranks train with torch.distributed")
    assert "Horovod cannot run: rank 1: " in line
    assert len(lines(out / "train/metrics.jsonl")) == 1


def test_horovod_under_torchrun_is_refused(prepared, tmp_path):
    out = Path(shutil.copytree(prepared, tmp_path / "run"))
    command = [str(BIN / "torchrun"), "--nproc-per-node", "2", "-m", "rcdp_hpc", "train", "--out", str(out)]
    done = run_ranks(0, [*command, *flags("parallel.engine=horovod")], timeout=60)
    # The exit code of torchrun if a rank's is not 0.
    assert done.returncode == 1, done.stdout
    assert done.stdout.count("rcdp: error:") == 1, done.stdout
    assert "Horovod cannot run: it cannot connect ranks that torchrun has started" in done.stdout
    assert done.stdout.count("exitcode  : 2") == 2
    assert not (out / "train/last.pt").exists()

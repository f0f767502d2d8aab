"""Settings that a training on ranks cannot use: one message that says what to do, and no rank left waiting."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from launch import REPOSITORY, rcdp, run_ranks

from rcdp_hpc.config import load_config
from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.pipeline import stages
from rcdp_hpc.runtime.ram import is_out_of_memory

SMALL = (
    "reservoir.nodes=40", "reservoir.kernel=dense-fp32", "search.generations=0", "training.epochs=2",
    "readout.hidden=16", "readout.outputs=16", "training.threads=1", "training.baseline=false", "run.progress=false",
)  # fmt: skip

THEIRS = """
import torch
class Wrong(torch.nn.Linear):
    def __init__(self, steps, features, classes):
        super().__init__(features, classes + 1)
    def forward(self, sequences):
        return super().forward(sequences[:, -1])
"""

# Settings, and words of the one message. What may happen on a single rank: tests/parallel/test_failures.py.
CASES = {
    "a wrong shape": (("readout.kind=theirs:Wrong",), ("theirs:Wrong", "(2, 11), expected (2, 10)")),
    "a large batch": (("training.batch=900",), ("a batch of 1800 rows over 2 ranks", "a rank's share (")),
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    stages.prepare(load_config("digits", SMALL), out)
    (out / "theirs.py").write_text(THEIRS)
    return out


@pytest.mark.mpi
@pytest.mark.parametrize("case", CASES)
def test_a_refused_training_ends_all_ranks_with_one_message(case, prepared, tmp_path):
    changes, words = CASES[case]
    out = tmp_path / "run"
    shutil.copytree(prepared, out)
    arguments = ["train", "--out", str(out), *(part for value in changes for part in ("--set", value))]
    done = run_ranks(2, rcdp(*arguments), timeout=120, env={"PYTHONPATH": f"{out}:{REPOSITORY}"})
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("rcdp: error:") == 1, done.stdout
    assert "Traceback" not in done.stdout
    for word in words:
        assert word in done.stdout
    assert not (out / "train/model.pt").exists()


@pytest.mark.mpi
def test_a_truncated_checkpoint_is_reported_once_and_the_previous_one_is_resumed(prepared, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(prepared, out)
    stages.train(load_config("digits", [*SMALL, "checkpoint.every_epochs=1"]), out)
    os.truncate(out / "train/last.pt", 3000)
    done = run_ranks(2, rcdp("train", "--out", str(out), "--set", "training.epochs=3"))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("last.pt.previous") == 1
    assert done.stdout.count("resumed at epoch 2, step 0") == 1


def test_a_stage_without_memory_names_the_settings_to_lower(tmp_path, monkeypatch):
    def prepare(*arguments, **options):
        raise MemoryError("Unable to allocate 9.00 TiB")

    monkeypatch.setitem(stages._WORK, "prepare", prepare)
    words = r"out of memory on .* \(Unable to allocate 9.00 TiB\).*smaller data.memory_budget"
    with pytest.raises(StageFailedError, match=words):
        stages.prepare(load_config("digits"), tmp_path)
    assert json.loads((tmp_path / "state/prepare.json").read_text())["status"] == "failed"
    assert not is_out_of_memory(RuntimeError("the sizes do not match"))

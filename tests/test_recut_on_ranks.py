"""Slabs cut anew on real ranks: the same losses on any number of them, after a resume as well."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from launch import rcdp, run_ranks

pytestmark = pytest.mark.mpi

SETTINGS = [
    part
    for value in (
        "reservoir.nodes=60", "reservoir.kernel=dense-fp32", "search.generations=0", "training.hidden=16",
        "training.outputs=16", "training.threads=1", "training.dropout=0.2", "training.recut_epochs=1", "run.seed=3",
        "training.baseline=false", "training.schedule=constant",
    )
    for part in ("--set", value)
]  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "run"
    done = run_ranks(0, rcdp("prepare", "digits", "--out", str(out), *SETTINGS))
    assert done.returncode == 0, done.stdout
    return out


def train(prepared: Path, out: Path, ranks: int, epochs: int) -> None:
    if not out.exists():
        shutil.copytree(prepared, out)
    own = ["--set", f"training.batch={48 // max(1, ranks)}", "--set", f"training.epochs={epochs}"]
    done = run_ranks(ranks, rcdp("train", "digits", "--out", str(out), *SETTINGS, *own), timeout=240)
    assert done.returncode == 0, done.stdout


def curve(out: Path) -> np.ndarray:
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    entries = [json.loads(line) for line in (out / "train/metrics.jsonl").read_text().splitlines()]
    return np.array([[line[name] for name in names] for line in entries])


def test_ranks_that_exchange_rows_and_resume_equal_one_that_does_neither(prepared, tmp_path):
    alone, three = tmp_path / "alone", tmp_path / "three"
    train(prepared, alone, 0, 3)
    train(prepared, three, 3, 2)
    train(prepared, three, 3, 3)
    np.testing.assert_allclose(curve(three), curve(alone), rtol=1e-5, atol=1e-5)

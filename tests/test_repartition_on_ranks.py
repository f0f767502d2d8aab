"""Slabs cut anew on real ranks: the same losses on any number of them, after a resume as well."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from launch import rcdp, run_ranks
from whole_runs import curve, flags, prepare_digits

pytestmark = pytest.mark.mpi

SETTINGS = flags(
    "reservoir.nodes=60", "reservoir.kernel=dense-fp32", "search.generations=0", "readout.hidden=16",
    "readout.outputs=16", "training.threads=1", "readout.dropout=0.2", "partition.reshuffle_every=1", "run.seed=3",
    "training.baseline=false", "schedule.kind=constant",
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("prepared") / "run", SETTINGS)


def train(prepared: Path, out: Path, ranks: int, epochs: int) -> None:
    if not out.exists():
        shutil.copytree(prepared, out)
    own = ["--set", f"training.batch={48 // max(1, ranks)}", "--set", f"training.epochs={epochs}"]
    done = run_ranks(ranks, rcdp("train", "digits", "--out", str(out), *SETTINGS, *own), timeout=240)
    assert done.returncode == 0, done.stdout


def test_ranks_that_exchange_rows_and_resume_equal_one_that_does_neither(prepared, tmp_path):
    alone, three = tmp_path / "alone", tmp_path / "three"
    train(prepared, alone, 0, 3)
    train(prepared, three, 3, 2)
    train(prepared, three, 3, 3)
    np.testing.assert_allclose(curve(three), curve(alone), rtol=1e-5, atol=1e-5)

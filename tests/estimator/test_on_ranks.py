"""ReservoirClassifier over the ranks of a communicator."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from launch import run_ranks
from sklearn.datasets import load_wine

from rcdp_hpc.sklearn import ReservoirClassifier

PROGRAM = str(Path(__file__).with_name("rank_program.py"))


@pytest.mark.mpi
@pytest.mark.timeout(240)
def test_two_ranks_fit_the_model_of_one_process(tmp_path):
    done = run_ranks(2, [sys.executable, PROGRAM, "fit", str(tmp_path)], timeout=90)
    assert done.returncode == 0, done.stdout
    first, second = (np.load(tmp_path / f"{rank}.npy") for rank in range(2))
    assert np.array_equal(first, second)
    x, y = load_wine(return_X_y=True)
    config = {"reservoir": {"kernel": "dense-fp32"}, "data": {"balance": "none"}}
    alone = ReservoirClassifier(nodes=50, config=config).fit(x, y)
    assert np.abs(alone.predict_proba(x) - first).max() < 1e-4
    assert f"{alone.score(x, y)!r} True" in done.stdout
    assert "True True" in done.stdout


@pytest.mark.mpi
@pytest.mark.timeout(240)
def test_ranks_that_differ_are_refused():
    done = run_ranks(2, [sys.executable, PROGRAM, "refuse"], timeout=90)
    assert done.returncode == 0, done.stdout
    messages = [line for line in done.stdout.splitlines() if line.startswith("refused: ")]
    expected = ["rank 1 passes other samples", "rank 1 passes other samples", "rank 1: Input X contains NaN",
                "ranks: reservoir.nodes is 50 on rank 0, 51 on rank 1", "rank 1 passes other samples",
                "comm is freed or null", "pass comm=rcdp_hpc.connect()"]  # fmt: skip
    assert len(messages) == len(expected), done.stdout
    assert all(part in line for part, line in zip(expected, messages, strict=True)), done.stdout

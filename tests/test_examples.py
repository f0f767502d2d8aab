"""The programs in examples/, on one process and on ranks."""

from __future__ import annotations

import re
import sys

import pytest
from launch import REPOSITORY, run_ranks
from sklearn.datasets import load_wine

EXAMPLES = REPOSITORY / "examples"


@pytest.mark.mpi
@pytest.mark.timeout(180)
def test_minimize_prints_the_same_on_one_and_three_ranks():
    program = EXAMPLES / "minimize.py"
    assert len(program.read_text().splitlines()) <= 40
    done = [run_ranks(ranks, [sys.executable, str(program)], timeout=60) for ranks in (0, 3)]
    assert [one.returncode for one in done] == [0, 0], [one.stdout for one in done]
    alone, together = (one.stdout.splitlines() for one in done)
    assert "on 1 ranks" in alone[0]
    assert "on 3 ranks" in together[0]
    assert alone[0].partition(" on ")[0] == together[0].partition(" on ")[0]
    assert alone[1:] == together[1:]
    assert alone[3:] == ["  steps = 3", "  kind = 'round'"]


def test_own_data_then_prediction(tmp_path):
    trained = run_ranks(0, [sys.executable, str(EXAMPLES / "own_data.py"), str(tmp_path)], timeout=60)
    assert trained.returncode == 0, trained.stdout
    correct, samples = map(int, re.search(r"test accuracy: (\d+) of (\d+)", trained.stdout).groups())
    assert correct >= 0.85 * samples
    assert "shards are intact: True" in trained.stdout
    done = run_ranks(0, [sys.executable, str(EXAMPLES / "predict.py"), str(tmp_path / "run")], timeout=60)
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if re.match(r"\d \[", line)]
    assert len(lines) == 9
    assert sum(line[0] == str(label) for line, label in zip(lines, load_wine().target[::20], strict=True)) >= 8
    assert "refused: samples: samples of shape (12,)" in done.stdout
    written = (tmp_path / "run" / "labels.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in written[1:]] == [line[0] for line in lines]

"""The programs in examples/, on one process and on ranks."""

from __future__ import annotations

import sys

import pytest
from launch import REPOSITORY, run_ranks

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

"""What is left of a rank's share of the memory for a candidate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from search.group_search import small_config, small_data
from search.ranks import Ranks

from rcdp_hpc.runtime import ram
from rcdp_hpc.runtime.ram import MIB, process_memory
from rcdp_hpc.search.evaluation import limits
from rcdp_hpc.search.evaluation.limits import agreed_limit, memory_limit


@pytest.fixture(autouse=True)
def _machine_of_1000_mib(monkeypatch):
    monkeypatch.setattr(limits, "machine_memory", lambda: 1000 * MIB)


@pytest.mark.parametrize(
    ("ranks", "rows", "own", "left"),
    [(1, 0, 0, 1000), (2, 0, 0, 500), (2, 100, 0, 450), (2, 100, 128, 322), (2, 100, 65, 322), (2, 100, 900, 0)],
)
def test_shared_rows_and_what_a_rank_holds_are_not_left(ranks, rows, own, left):
    assert memory_limit(small_config(), ranks, rows * MIB, own * MIB) == left * MIB


def test_the_least_limit_of_all_ranks_counts_for_all():
    found = Ranks(3).run(lambda comm: agreed_limit(small_config(), comm, 100 * MIB, (comm.rank + 1) * 64 * MIB))
    assert found == [(900 // 3 - 3 * 64) * MIB] * 3


def test_what_is_configured_is_taken_as_it_is():
    assert memory_limit(small_config(candidate_memory=7), 2, 100 * MIB, 900 * MIB) == 7 * MIB


def test_a_process_is_asked_for_its_own_memory():
    before = process_memory()
    held = np.ones(50 * MIB, dtype=np.uint8)
    assert process_memory() - before == pytest.approx(held.nbytes, rel=0.2)
    assert process_memory() < ram.machine_memory()


def test_rows_are_counted_with_their_folds():
    data = small_data()
    once = 400 * (6 * 5 * 4 + 8)
    assert data.nbytes == once
    whole = replace(data, folds=(data, data), lengths_train=np.full(300, 6), lengths_val=np.full(100, 6))
    assert whole.nbytes == 3 * once + 400 * 8

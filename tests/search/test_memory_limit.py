"""The memory limit of a candidate."""

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
    ("ranks", "rows", "used", "left"),
    [(1, 0, 0, 1000), (2, 0, 0, 500), (2, 100, 0, 450), (2, 100, 128, 322), (2, 100, 65, 322), (2, 100, 900, 0)],
)
def test_shared_rows_and_the_memory_of_a_rank_are_subtracted(ranks, rows, used, left):
    assert memory_limit(small_config(), ranks, rows * MIB, used * MIB) == left * MIB


def test_the_least_limit_of_all_ranks_applies_to_all():
    limits = Ranks(3).run(lambda comm: agreed_limit(small_config(), comm, 100 * MIB, (comm.rank + 1) * 64 * MIB))
    assert limits == [(900 // 3 - 3 * 64) * MIB] * 3


def test_a_configured_limit_is_used_unchanged():
    assert memory_limit(small_config(candidate_memory=7), 2, 100 * MIB, 900 * MIB) == 7 * MIB


def test_the_memory_of_this_process():
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

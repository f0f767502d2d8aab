from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.training.partition import repartition
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.partition.repartition import Repartitioner, draw_partitions
from rcdp_hpc.training.states.cache import CachedStates

ROWS = 100
LABELS = np.random.default_rng(5).integers(0, 4, ROWS)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(1, 14), st.integers(0, 5))
def test_drawn_partitions_are_a_stratified_split_of_the_planned_sizes(labels, partitions, period):
    labels = np.array(labels)
    rows = draw_partitions(labels, partitions, 1, period)
    assert sorted(rows.tolist()) == list(range(len(labels)))
    if not period:
        return
    plan = BatchPlan(len(labels), 1, partitions, 0, 1, 1)
    parts = [rows[slice(*plan.partition_bounds(partition))] for partition in range(partitions)]
    counts = np.array([np.bincount(labels[part], minlength=4) for part in parts])
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert all((np.diff(part) > 0).all() for part in parts)


def test_partitions_are_drawn_by_seed_and_period():
    first = draw_partitions(LABELS, 12, 1, 1)
    assert (first == draw_partitions(LABELS, 12, 1, 1)).all()
    assert (first != draw_partitions(LABELS, 12, 1, 2)).any()
    assert (first != draw_partitions(LABELS, 12, 2, 1)).any()


class Threads(SingleProcessEngine):
    """Ranks that are threads, with an exchange through shared lists."""

    alone = False

    def __init__(self, rank: int, table: dict, barrier: threading.Barrier) -> None:
        super().__init__()
        self.rank, self.table, self.barrier = rank, table, barrier

    def exchange(self, rows, counts):
        self.table[self.rank] = rows.split(counts.tolist())
        self.barrier.wait(20)
        came = torch.cat([self.table[rank][self.rank] for rank in range(self.barrier.parties)])
        self.barrier.wait(20)
        return came


@pytest.mark.parametrize(("ranks", "speeds"), [(1, ()), (2, ()), (3, (1.0, 2.0, 3.0)), (5, ())])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_rank_receives_the_states_of_its_new_rows(ranks, speeds, dtype, monkeypatch):
    # Several exchanges a cut.
    monkeypatch.setattr(repartition, "BLOCK_BYTES", ROWS * 4)
    everything = torch.randn(ROWS, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    table, barrier, found = {}, threading.Barrier(ranks), {}

    def rank_work(rank: int) -> None:
        plan = BatchPlan(ROWS, 10, 12, rank, ranks, 3, speeds, reshuffle_every=2)
        start, stop = plan.local_rows
        own = CachedStates(everything[start:stop].clone(), torch.from_numpy(LABELS[start:stop].copy()), start)
        one = Repartitioner(plan, LABELS, Threads(rank, table, barrier))
        found[rank] = [one.partition(epoch, own) for epoch in (0, 1)]
        for epoch in (2, 3, 7):
            own = one.partition(epoch, own)
            found[rank].append(CachedStates(own.states.clone(), own.labels.clone(), 0, own.numbers.clone()))

    workers = [threading.Thread(target=rank_work, args=(rank,)) for rank in range(ranks)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for rank in range(ranks):
        assert found[rank][0] is found[rank][1]
        for held in found[rank][2:]:
            assert torch.equal(held.states, everything[held.numbers])
            assert torch.equal(held.labels, torch.from_numpy(LABELS)[held.numbers])
    for number, period in ((2, 1), (3, 1), (4, 3)):
        rows = torch.cat([found[rank][number].numbers for rank in range(ranks)])
        assert rows.tolist() == draw_partitions(LABELS, 12, 3, period).tolist()

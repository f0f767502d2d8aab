from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from settings import config_of

from rcdp_hpc.errors import InputError
from rcdp_hpc.training.checks import check_batch
from rcdp_hpc.training.partition.batches import BatchPlan, resumed_partitions
from rcdp_hpc.training.partition.load_balance import rows_by_speed, shares


def plans(rows: int, batch: int, partitions: int, ranks: int) -> list[BatchPlan]:
    return [BatchPlan(rows, batch, partitions, rank, ranks, seed=3) for rank in range(ranks)]


def uneven_plans(rows: int, batch: int, partitions: int, speeds: list[float]) -> list[BatchPlan]:
    ranks = len(speeds)
    return [BatchPlan(rows, batch, partitions, rank, ranks, seed=3, rank_speeds=tuple(speeds)) for rank in range(ranks)]


def global_batches(rank_plans: list[BatchPlan], epoch: int) -> list[np.ndarray]:
    """Return the rows of every step over all ranks, as indices in the split."""
    steps = []
    orders = [plan.orders(epoch) for plan in rank_plans]
    for step in range(rank_plans[0].steps):
        parts = [plan.batch(order, step) + plan.local_rows[0] for plan, order in zip(rank_plans, orders, strict=True)]
        steps.append(np.concatenate(parts))
    return steps


sizes = st.tuples(st.integers(1, 400), st.integers(1, 90), st.integers(1, 14), st.integers(1, 17))


@given(sizes, st.integers(0, 3))
def test_every_row_is_seen_once_an_epoch_on_any_number_of_ranks(size, epoch):
    rows, batch, partitions, ranks = size
    steps = global_batches(plans(rows, batch, partitions, ranks), epoch)
    assert sorted(np.concatenate(steps).tolist()) == list(range(rows))


@given(sizes)
def test_global_batches_have_the_configured_size(size):
    rows, batch, partitions, ranks = size
    rank_plans = plans(rows, batch, partitions, ranks)
    lengths = [len(step) for step in global_batches(rank_plans, 0)]
    assert lengths == [rank_plans[0].global_rows(step) for step in range(rank_plans[0].steps)]
    assert all(length == batch for length in lengths[:-1])


@given(st.integers(12, 500), st.integers(1, 60), st.sampled_from([2, 3, 4, 6, 12]))
def test_ranks_that_divide_the_partitions_see_the_batches_of_one_rank(rows, batch, ranks):
    alone = global_batches(plans(rows, batch, 12, 1), epoch=2)
    together = global_batches(plans(rows, batch, 12, ranks), epoch=2)
    for one, many in zip(alone, together, strict=True):
        assert one.tolist() == many.tolist()


@given(st.integers(30, 400), st.integers(1, 60), st.integers(13, 30), st.integers(1, 12))
def test_fewer_ranks_resume_with_the_same_batches(rows, batch, before, after):
    earlier = plans(rows, batch, 12, before)
    saved = SimpleNamespace(partition_count=earlier[0].partition_count)
    later = plans(rows, batch, resumed_partitions(12, saved), after)
    for one, other in zip(global_batches(earlier, 1), global_batches(later, 1), strict=True):
        assert one.tolist() == other.tolist()
    # Resumed on fewer ranks, and once more.
    saved = SimpleNamespace(partition_count=later[0].partition_count)
    assert resumed_partitions(12, saved) == earlier[0].partition_count
    assert resumed_partitions(12, None) == 12


@given(sizes)
def test_partitions_differ_by_at_most_one_row_and_cover_all(size):
    rows, batch, partitions, ranks = size
    plan = BatchPlan(rows, batch, partitions, 0, ranks, seed=0)
    bounds = [plan.partition_bounds(partition) for partition in range(plan.partition_count)]
    lengths = [stop - start for start, stop in bounds]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == rows
    assert all(left[1] == right[0] for left, right in itertools.pairwise(bounds))
    assert max(lengths) - min(lengths) <= 1
    assert plan.partition_count % partitions == 0
    assert plan.partition_count >= ranks


def test_epochs_are_shuffled_differently_and_repeatably():
    plan = BatchPlan(100, 10, 4, 0, 2, seed=1)
    first, again, second = (plan.orders(epoch).tolist() for epoch in (0, 0, 1))
    assert first == again
    assert first != second


def partition_by_partition(plan: BatchPlan, epoch: int, step: int) -> list[int]:
    """The rule of the module, one partition at a time."""
    first, count, found = plan.local_rows[0], plan.partition_count, []
    for partition in plan.local_partitions:
        start, stop = plan.partition_bounds(partition)
        order = start - first + np.random.default_rng([plan.seed, epoch, partition]).permutation(stop - start)
        low = (step * plan.global_batch + partition) // count
        high = ((step + 1) * plan.global_batch + partition) // count
        found += order[low:high].tolist()
    return found


@given(st.integers(1, 300), st.integers(1, 60), st.sampled_from([1, 5, 12, 200, 1000]), st.integers(1, 5), st.data())
def test_batches_have_the_rows_of_each_partition_by_itself(rows, batch, partitions, ranks, data):
    plan = BatchPlan(rows, batch, partitions, data.draw(st.integers(0, ranks - 1)), ranks, seed=3)
    orders = plan.orders(2)
    for step in range(plan.steps):
        assert plan.batch(orders, step).tolist() == partition_by_partition(plan, 2, step)


def test_more_partitions_than_rows_are_refused_and_small_partitions_are_reported(caplog, monkeypatch):
    monkeypatch.setattr("rcdp_hpc.runtime.logs._logged_once", set())
    with pytest.raises(InputError, match=r"partition\.count = 100000 is more than the 1240 training rows"):
        check_batch(config_of(partition__count=100_000), 1240, 1)
    check_batch(config_of(partition__count=12, training__batch=4), 10, 1)
    assert not caplog.text
    check_batch(config_of(partition__count=600), 1240, 1)
    assert "partition.count = 600 gives each partition about 2.07 of the 1240 training rows" in caplog.text


speeds_of_some = st.lists(st.floats(0.01, 100), min_size=1, max_size=17)


@given(st.integers(0, 200), speeds_of_some)
def test_shares_by_speed_add_up_and_none_is_empty(more, speeds):
    dealt = shares(len(speeds) + more, speeds)
    assert sum(dealt) == len(speeds) + more
    assert min(dealt) >= 1
    order = np.argsort(speeds, kind="stable")
    assert (np.diff(np.array(dealt)[order]) >= 0).all() or len(set(speeds)) < len(speeds)


@given(st.integers(1, 40), st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_integer_shares_are_exact(each, speeds):
    assert shares(each * sum(speeds), speeds) == [each * speed for speed in speeds]


@settings(deadline=None, max_examples=50)
@given(st.integers(17, 400), st.integers(1, 60), speeds_of_some)
def test_speeds_change_the_rank_of_a_partition_and_not_the_batches(rows, batch, speeds):
    even = global_batches(plans(rows, batch, 12, len(speeds)), epoch=1)
    uneven = global_batches(uneven_plans(rows, batch, 12, speeds), epoch=1)
    for one, other in zip(even, uneven, strict=True):
        assert one.tolist() == other.tolist()


@given(st.integers(0, 300), speeds_of_some)
def test_rows_by_speed_are_disjoint_and_complete(rows, speeds):
    bounds = [rows_by_speed(rows, rank, len(speeds), tuple(speeds)) for rank in range(len(speeds))]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == rows
    assert all(before[1] == after[0] for before, after in itertools.pairwise(bounds))
    assert rows_by_speed(rows, 0, 3, ()) == (0, rows // 3)

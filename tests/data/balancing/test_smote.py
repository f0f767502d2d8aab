import logging

import numpy as np
import pytest
from data.conftest import uneven_data
from imblearn.over_sampling import SMOTE
from threadpoolctl import threadpool_limits

from rcdp_hpc.data.balancing.row_numbers import class_seed
from rcdp_hpc.data.balancing.smote import draw_smote, plan_smote
from rcdp_hpc.data.rows import on_segment
from rcdp_hpc.errors import InputError


def plan(x, y, neighbours=7, seed=1, **options):
    members = [np.flatnonzero(y == label) for label in range(int(y.max()) + 1)]
    draws = draw_smote(members, [f"c{i}" for i in range(len(members))], neighbours, seed)
    return plan_smote(lambda rows: x[rows], members, draws, **options)


def made_rows(x, plan):
    return on_segment(x[plan.source], x[plan.neighbour], plan.step)


def nearest_others(x, members, row, k):
    """Return the k nearest other rows by brute force in float64, including ties."""
    distance = ((x[members].astype(float) - x[row].astype(float)) ** 2).reshape(len(members), -1).sum(axis=1)
    reach = np.sort(distance[members != row])[k - 1]
    return set(members[(distance <= reach * (1 + 1e-9)) & (members != row)].tolist())


def test_every_class_is_brought_up_to_the_largest():
    x, y = uneven_data((60, 30, 12))
    plans = plan(x, y)
    assert {p.y[0]: len(p.step) for p in plans} == {1: 30, 2: 48}


def test_neighbours_are_searched_only_for_the_samples_in_use():
    x, y = uneven_data((100, 96, 12))
    members = [np.flatnonzero(y == label) for label in range(3)]
    searched = []
    draws = draw_smote(members, ["a", "b", "c"], 7, 1)
    plans = plan_smote(lambda rows: x[rows], members, draws, searched.append)
    assert sum(searched) == sum(len(np.unique(p.source)) for p in plans) <= 4 + 12


def test_balanced_classes_get_no_rows():
    x, y = uneven_data((20, 20))
    assert plan(x, y) == []


@pytest.mark.parametrize("shape", [(5,), (4, 6)])
def test_sources_and_neighbours_are_of_the_class_and_nearest(shape):
    x, y = uneven_data((80, 25, 40), shape)
    for p in plan(x, y):
        members = np.flatnonzero(y == p.y[0])
        assert ((p.step >= 0) & (p.step <= 1)).all()
        for source, neighbour in zip(p.source.tolist(), p.neighbour.tolist(), strict=True):
            assert source in members
            assert neighbour in nearest_others(x, members, source, 7)


@pytest.mark.parametrize("shape", [(5,), (8, 8)])
def test_rows_are_those_of_imbalanced_learn(shape):
    x, y = uneven_data((70, 25), shape)
    (p,) = plan(x, y, seed=11)
    flat = x[y == 1].reshape(25, -1)
    plain = SMOTE(k_neighbors=7, random_state=class_seed(11, 1), sampling_strategy={1: 70})
    # imbalanced-learn needs a second class; its single row does not change the first.
    both, _ = plain.fit_resample(np.concatenate([flat, flat[:1]]), np.array([1] * 25 + [0]))
    np.testing.assert_allclose(made_rows(x, p).reshape(45, -1), both[26:], rtol=1e-5, atol=1e-6)


def test_neighbours_are_those_of_imbalanced_learn_in_real_data_with_ties(digits):
    x, y = digits
    mask = y == 8
    (p,) = [p for p in plan(x, np.where(mask, 1, 0)) if p.y[0] == 1]
    flat = x[mask].reshape(int(mask.sum()), -1)
    plain = SMOTE(k_neighbors=7, random_state=class_seed(1, 1), sampling_strategy={1: int((~mask).sum())})
    both, _ = plain.fit_resample(np.concatenate([flat, flat[:1]]), np.array([1] * len(flat) + [0]))
    made = made_rows(x, p).reshape(len(p.step), -1)
    assert (np.abs(made - both[len(flat) + 1 :]).max(axis=1) < 1e-5).mean() == 1


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images / 16).astype(np.float32), data.target


def test_the_plan_of_a_class_does_not_depend_on_other_classes():
    x, y = uneven_data((60, 30, 12))
    before = {p.y[0]: p for p in plan(x, y)}[2]
    moved = x.copy()
    moved[y == 1] *= 3
    after = {p.y[0]: p for p in plan(moved, y)}[2]
    for name in ("source", "neighbour", "step"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_the_plan_depends_on_the_seed():
    x, y = uneven_data((60, 30))
    first, again, other = (plan(x, y, seed=seed)[0].source.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_threads_do_not_change_the_plan(digits):
    x, y = digits
    keep = (y != 3) | (np.arange(len(y)) % 3 == 0)
    plans = []
    for threads in (1, 2, 5):
        with threadpool_limits(limits=threads):
            plans.append(plan(x[keep], y[keep]))
    for other in plans[1:]:
        for one, two in zip(plans[0], other, strict=True):
            np.testing.assert_array_equal(one.source, two.source)
            np.testing.assert_array_equal(one.neighbour, two.neighbour)
            np.testing.assert_array_equal(one.step, two.step)


def test_a_small_class_uses_fewer_neighbours_with_one_warning(caplog):
    x, y = uneven_data((60, 8, 7, 2))
    with caplog.at_level(logging.WARNING):
        plans = {p.y[0]: p for p in plan(x, y)}
    assert [record.getMessage() for record in caplog.records] == [
        "too few training samples for SMOTE with k = data.smote_neighbours = 7: class c2 has 7 and takes k = 6, "
        "class c3 has 2 and takes k = 1",
    ]
    pair = np.flatnonzero(y == 3)
    assert set(plans[3].source) == set(plans[3].neighbour) == set(pair)


def test_a_class_of_one_sample_is_refused():
    x, y = uneven_data((60, 1))
    with pytest.raises(InputError, match=r"class c1 has 1 training sample .*data\.balance = 'random_over' or 'none'"):
        plan(x, y)


def test_equal_rows_never_become_their_own_neighbour():
    x, y = uneven_data((60, 20))
    x[y == 1] = 1.0
    x[np.flatnonzero(y == 1)[:3]] = 2.0
    (p,) = plan(x, y)
    assert (p.source != p.neighbour).all()
    for source, neighbour in zip(p.source.tolist(), p.neighbour.tolist(), strict=True):
        assert neighbour in nearest_others(x, np.flatnonzero(y == 1), source, 7)


def test_progress_can_stop_the_search():
    x, y = uneven_data((60, 30, 12))

    def stop(rows):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        plan(x, y, advance=stop)


@pytest.mark.parametrize("cores", [2, 5])
def test_cores_do_not_change_the_plan(monkeypatch, digits, cores):
    x, y = digits
    y = np.where(y < 6, 0, 1)
    plans = []
    for number in (1, cores):
        monkeypatch.setattr("rcdp_hpc.data.balancing.neighbours.available_cores", lambda number=number: number)
        plans.append(plan(x, y)[0])
    for name in ("source", "neighbour", "step"):
        np.testing.assert_array_equal(getattr(plans[0], name), getattr(plans[1], name))


def test_blocks_of_queries_do_not_change_the_neighbours(monkeypatch, digits):
    x, y = digits
    y = np.where(y < 5, 0, 1)
    whole = plan(x, y)[0]
    monkeypatch.setattr("rcdp_hpc.data.balancing.neighbours.QUERY_ROWS", 100)
    blocks = plan(x, y)[0]
    np.testing.assert_array_equal(whole.neighbour, blocks.neighbour)

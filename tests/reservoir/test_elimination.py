"""Backward elimination in closed form, against fits from scratch and against trying every removal."""

import numpy as np
import pytest

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.elimination import COLUMNS_AT_ONCE, Elimination, sums_of_features
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.ridge import one_hot, solve

CLASSES = 3
PENALTY = 1e-3


def problem(rows, features, seed=0):
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((features, features)) / np.sqrt(features)
    x = generator.standard_normal((rows, features)) @ mixing + generator.standard_normal(features)
    x *= 10.0 ** generator.uniform(-2, 2, features)
    labels = (x[:, :CLASSES] + generator.standard_normal((rows, CLASSES))).argmax(1)
    return x.astype(np.float32), one_hot(labels, CLASSES)


def sums_of(x, y, precision="double"):
    sums = GramSums(x.shape[1], y.shape[1], precision)
    sums.add_all(x, y, 64)
    return sums


def objective(x, y, penalty=PENALTY):
    """The penalised squared error of the best readout, over standardised features and centred targets."""
    x = x.astype(np.float64)
    spread = x.std(0)
    spread[spread == 0] = np.inf
    standard = (x - x.mean(0)) / spread
    centred = (y - y.mean(0)).astype(np.float64)
    gram = standard.T @ standard + penalty * len(x) * np.eye(x.shape[1])
    crossed = standard.T @ centred
    return (centred**2).sum() - (crossed * np.linalg.solve(gram, crossed)).sum()


def grouped(features, size, seed=1):
    return np.random.default_rng(seed).permutation(features).reshape(-1, size)


@pytest.mark.parametrize("size", [1, 3])
def test_each_removal_is_the_one_that_costs_least(size):
    x, y = problem(80, 12)
    groups = grouped(12, size)
    blocks = list(Elimination(sums_of(x, y), PENALTY, groups).blocks())
    order = [group for block in blocks for group in block.groups]
    losses = [loss for block in blocks for loss in block.losses]
    left = list(range(len(groups)))
    for removed, loss in zip(order, losses, strict=True):
        before = objective(x[:, groups[left].ravel()], y)
        costs = {one: objective(x[:, groups[[g for g in left if g != one]].ravel()], y) - before for one in left}
        assert removed == min(costs, key=costs.get)
        assert loss == pytest.approx(costs[removed], rel=1e-6)
        left.remove(removed)
    assert len(left) == 1


@pytest.mark.parametrize("size", [1, 4, 2 * COLUMNS_AT_ONCE])
def test_weights_are_those_of_a_fit_from_scratch_at_every_block(size):
    features = 2 * COLUMNS_AT_ONCE * 2
    x, y = problem(600, features)
    sums = sums_of(x, y)
    elimination = Elimination(sums, PENALTY, grouped(features, size))
    seen = []
    for _ in elimination.blocks():
        left = elimination.features_left
        expected = solve(sums_of_features(sums, left), PENALTY).weights
        weights = elimination.weights * elimination.scale[:, None]
        np.testing.assert_allclose(weights[left], expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())
        assert not np.delete(weights, left, 0).any()
        seen.append(len(left))
    assert seen[-1] == size


def test_the_columns_and_factors_of_a_block_give_every_readout_between():
    x, y = problem(100, 20)
    sums = sums_of(x, y)
    elimination = Elimination(sums, PENALTY)
    weights = elimination.weights
    (block,) = elimination.blocks()
    left = set(range(20))
    for number, group in enumerate(block.groups):
        weights[block.features] -= np.outer(block.columns[:, number], block.factors[number])
        left.remove(group)
        features = np.array(sorted(left))
        expected = solve(sums_of_features(sums, features), PENALTY).weights / elimination.scale[features][:, None]
        np.testing.assert_allclose(weights[features], expected, rtol=1e-6)
        np.testing.assert_allclose(np.delete(weights, features, 0), 0, atol=1e-12)


def test_constant_features_leave_first_and_cost_nothing():
    x, y = problem(100, 10)
    x[:, [2, 7]] = 0.25
    block = next(Elimination(sums_of(x, y), PENALTY).blocks(keep=5))
    assert set(block.groups[:2]) == {2, 7}
    assert block.losses[:2] == [0, 0]


def test_a_number_of_groups_can_stay():
    x, y = problem(100, 10)
    elimination = Elimination(sums_of(x, y), PENALTY)
    assert sum(len(block.groups) for block in elimination.blocks(keep=4)) == 6
    assert len(elimination.features_left) == 4
    assert not list(elimination.blocks(keep=4))


def test_sums_of_some_features_are_those_of_their_columns():
    x, y = problem(100, 10)
    some = np.array([1, 4, 5])
    part, expected = sums_of_features(sums_of(x, y), some), sums_of(x[:, some], y)
    for name in ("xy", "x", "y", "yy", "total", "rows"):
        np.testing.assert_allclose(getattr(part, name), getattr(expected, name), rtol=1e-12)
    np.testing.assert_allclose(np.triu(part.xx), np.triu(expected.xx), rtol=1e-12)


def test_sums_in_single_precision_give_the_same_order():
    x, y = problem(300, 30)
    first, second = (
        [group for block in Elimination(sums_of(x - x.mean(0), y, kind), 1e-2).blocks() for group in block.groups]
        for kind in ("double", "single")
    )
    assert first[:20] == second[:20]


def test_groups_that_do_not_contain_each_feature_once_are_refused():
    x, y = problem(50, 6)
    for groups in ([[0, 1], [2, 3]], [[0, 1], [2, 3], [4, 4]], [0, 1, 2, 3, 4, 5]):
        with pytest.raises(ValueError, match="do not contain each of 6 features once"):
            Elimination(sums_of(x, y), PENALTY, np.array(groups))


def test_a_penalty_too_small_for_the_sums_is_refused():
    x, y = problem(5, 12)
    with pytest.raises(CandidateError, match="12 features cannot be solved with a penalty of 0 per row"):
        Elimination(sums_of(np.hstack([x[:, :6], x[:, :6]]), y), 0.0)

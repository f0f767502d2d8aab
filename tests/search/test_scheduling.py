from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from search.fake_fitness import cheap_config

from rcdp_hpc.search.box import box_of
from rcdp_hpc.search.cost_model import CostModel
from rcdp_hpc.search.scheduling import assign_longest_first, choose_group_ranks, padded_table
from rcdp_hpc.search.space import searched_space


def test_candidates_are_assigned_longest_first_to_the_first_free_worker():
    assert assign_longest_first(np.array([1.0, 5, 3, 4, 2]), 2) == [[1, 4, 0], [3, 2]]


@given(st.lists(st.floats(0, 100), max_size=40), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_every_candidate_is_assigned_once_and_evenly(costs, workers):
    assignment = assign_longest_first(np.array(costs), workers)
    assert sorted(candidate for candidates in assignment for candidate in candidates) == list(range(len(costs)))
    assert max(map(len, assignment)) - min(map(len, assignment)) <= 1 or len(set(costs)) > 1


@given(st.lists(st.integers(0, 100), min_size=1, max_size=6), st.integers(1, 3))
@example([1, 1, 2], 2)
@settings(max_examples=60, deadline=None)
def test_the_last_worker_finishes_within_the_bound_of_graham(costs, workers):
    assignment = assign_longest_first(np.array(costs, float), workers)
    longest = max(sum(costs[candidate] for candidate in candidates) for candidates in assignment)
    ways = itertools.product(range(workers), repeat=len(costs))
    best = min(max(np.bincount(owners, costs, workers)) for owners in ways)
    assert 3 * workers * longest <= (4 * workers - 1) * best  # 4/3 - 1/(3·workers), in integers


def test_a_table_for_scatter():
    assert padded_table([[2, 0], [1]], [0, 2], 3).tolist() == [[2, 0], [-1, -1], [1, -1]]
    assert padded_table([[], []], [0, 1], 2).shape == (2, 0)


@pytest.mark.parametrize(
    ("candidates", "ranks", "share", "expected"),
    [(50, 4, 0.9, 1), (4, 4, 0.9, 1), (2, 4, 0.9, 2), (1, 4, 0.9, 4), (1, 8, 0.0, 1), (5, 6, 0.9, 1)],
)
def test_ranks_form_groups_if_some_would_be_idle(candidates, ranks, share, expected):
    assert choose_group_ranks(candidates, ranks, share) == expected


def test_costs_are_learned_from_measured_seconds():
    space = searched_space(cheap_config().search)
    model, generator = CostModel(space), np.random.default_rng(0)
    values = space.decode_rows(generator.uniform(space.lower, space.upper, (40, 3)))
    prior = model.predict(values)
    assert (np.argsort(prior) == np.argsort(values[:, 0])).all()  # the cost grows with the density
    for row in values:
        model.observe(row, 2.0 + 3.0 * row[2])
    np.testing.assert_allclose(model.predict(values), 2.0 + 3.0 * values[:, 2], rtol=1e-6)
    assert (model.predict(values * -100) > 0).all()


def test_costs_of_architectures_follow_products_of_their_sizes():
    bounds = {"low": 1, "high": 4}
    space = {
        "density": {"low": 0.1, "high": 0.5},
        "nodes": {"choices": [50, 100, 200, 400]},
        "layers": bounds,
        "readout_activation": {"choices": ["relu", "tanh", "sigmoid"]},
        "batch": {"low": 16, "high": 256, "log": True},
    }
    space = searched_space(cheap_config(space=space, evaluation="train").search)
    model, generator = CostModel(space), np.random.default_rng(0)
    values = space.decode_rows(generator.uniform(space.lower, space.upper, (120, 5)))
    named = [space.named(row) for row in values]
    slow = {"relu": 0.0, "tanh": 0.4, "sigmoid": 0.7}
    seconds = [
        0.5 + 1e-5 * one["layers"] * one["nodes"] ** 2 + 20 / one["batch"] + slow[one["readout_activation"]]
        for one in named
    ]
    prior = model.predict(values)
    largest, smallest = (fn(range(120), key=lambda row: seconds[row]) for fn in (max, min))
    assert prior[largest] > 2 * prior[smallest]
    for row, one in zip(values[:90], seconds[:90], strict=True):
        model.observe(row, one)
    np.testing.assert_allclose(model.predict(values[90:]), seconds[90:], rtol=1e-3)


@pytest.mark.parametrize("choices", [[0, -3], [1e308, -1e308], ["a", 2], [10**400, 1]])
def test_any_function_may_name_its_values_as_sizes(choices):
    model = CostModel(box_of({"batch": {"choices": choices}, "nodes": (-2.0, 2.0), "layers": (0, 5, "integer")}))
    values = np.array([[place % 2, place / 10 - 1, place % 6] for place in range(20)], dtype=float)
    for row in values:
        assert np.isfinite(model.predict(values)).all()
        model.observe(row, 1.0 + row[0])
    np.testing.assert_allclose(model.predict(values), 1.0 + values[:, 0], rtol=1e-3)

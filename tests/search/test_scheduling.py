from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from search.fake_fitness import cheap_config

from rcdp_hpc.search.scheduling import CostModel, assign_longest_first, choose_group_ranks, padded_table
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

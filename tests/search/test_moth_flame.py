"""Moth-flame against cases computed by hand; no other implementation is used as a reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search.fixed_random_numbers import squares, with_numbers

from rcdp_hpc.search.optimizers.moth_flame import MothFlame


def test_three_generations_in_literal_numbers():
    # Bounds [-10, 10]: 0.7 and 0.4 place the moths at 4 and -2, of costs 16 and 4: the flames are -2 and 4.
    # After generation 1 of 3: round(2 - 1/3) = 2 flames, r = -4/3. The draws give t = 0 (factor 1) and t = -1/2
    # (factor -e^(-1/2)), with D = 6 for both: -2 + 6 = 4 and 4 - 3.63918396 = 0.36081604.
    # After generation 2: flames 0.36081604 and -2; round(2 - 2/3) = 1 is left, r = -5/3. Moth 1: D = 3.63918396,
    # t = 1/2 (factor -e^(1/2)): 0.36081604 - 6. Moth 2 is beyond the last flame, circles the first and sits on it.
    numbers = [[0.7, 0.4], [4 / 7, 5 / 14], [13 / 16, 0.3]]
    search = with_numbers(MothFlame, numbers, -10, 10, 2, 3, 0)
    np.testing.assert_allclose(search.ask(), [[4], [-2]], rtol=1e-14)
    search.tell(squares(search.ask()))
    np.testing.assert_allclose(search.flames, [[-2], [4]], rtol=1e-14)
    np.testing.assert_allclose(search.ask(), [[4], [0.36081604]], rtol=1e-8)
    search.tell(squares(search.ask()))
    np.testing.assert_allclose(search.flames, [[0.36081604], [-2]], rtol=1e-8)
    np.testing.assert_allclose(search.ask(), [[-5.63918396], [0.36081604]], rtol=1e-8)


def test_excess_moths_circle_the_last_flame_in_distance_and_centre():
    # As above, but 3 moths and T = 2 leave round(3 - 1) = 2 flames: moth 3 circles flame 2.
    numbers = [[0.7, 0.4, 0.9], [0.6, 0.6, 0.6]]  # r = -3/2: 0.6 gives t = 0, factor 1
    search = with_numbers(MothFlame, numbers, -10, 10, 3, 2, 0)
    search.tell(squares(search.ask()))
    assert search.flame_count(1) == 2
    np.testing.assert_allclose(search.flames, [[-2], [4], [8]], rtol=1e-14)
    # moth 3 at 8, flame 2 at 4: 4 + |4 - 8| = 8; with its own flame in D it would stay at 4
    np.testing.assert_allclose(search.ask()[2], [8], rtol=1e-14)


def by_loops(lower: list[float], upper: list[float], moths: int, last: int, seed: int, generations: int) -> list:
    """Return the positions of the first generations, computed with plain loops."""
    dimensions = len(lower)

    def drawn(generation: int) -> list[list[float]]:
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, generation])))
        return generator.random((moths, dimensions)).tolist()

    first = drawn(1)
    position = [[lower[j] + first[i][j] * (upper[j] - lower[j]) for j in range(dimensions)] for i in range(moths)]
    history, flames = [position], []
    for l in range(1, generations):  # noqa: E741 - the symbol of the paper
        flames = sorted(flames + [(sum(v * v for v in p), p) for p in position], key=lambda pair: pair[0])[:moths]
        left = math.floor(moths - l * (moths - 1) / last + 0.5)
        r, draws = -1 - l / last, drawn(l + 1)
        moved = []
        for i in range(moths):
            flame = flames[min(i, left - 1)][1]
            row = []
            for j in range(dimensions):
                t = r + (1 - r) * draws[i][j]
                new = abs(flame[j] - position[i][j]) * math.exp(t) * math.cos(2 * math.pi * t) + flame[j]
                row.append(min(max(new, lower[j]), upper[j]))
            moved.append(row)
        position = moved
        history.append(position)
    return history


@pytest.mark.parametrize("seed", [0, 1, 17])
def test_generations_agree_with_plain_loops(seed):
    lower, upper = [-3.0, -1.0, 0.5], [2.0, 4.0, 9.0]
    search = MothFlame(lower, upper, 6, 8, seed)
    for expected in by_loops(lower, upper, 6, 8, seed, 8):
        np.testing.assert_allclose(search.ask(), expected, rtol=1e-9, atol=1e-12)
        search.tell(squares(search.ask()))
    assert search.done


def test_flame_count_rounds_halves_up_and_ends_at_one():
    search = MothFlame(0, 1, 4, 2, 0)
    assert [search.flame_count(l) for l in (1, 2)] == [3, 1]  # noqa: E741 - 4 - 3/2 = 2.5
    search = MothFlame(0, 1, 50, 100, 0)
    counts = [search.flame_count(generation) for generation in range(1, 101)]
    assert counts[-1] == 1
    assert counts == sorted(counts, reverse=True)
    assert counts == [math.floor(50 - l * 49 / 100 + 0.5) for l in range(1, 101)]  # noqa: E741


@given(
    st.integers(1, 9), st.integers(1, 7), st.integers(0, 1000), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6),
    st.floats(0, 1),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_moths_stay_within_the_bounds_if_candidates_fail(population, generations, seed, lower, width, failing):
    search = MothFlame([lower, 0], [lower + width, 1], population, generations, seed)
    generator = np.random.default_rng(seed)
    while not search.done:
        positions = search.ask()
        assert positions.shape == (population, 2)
        assert (positions >= search.lower).all()
        assert (positions <= search.upper).all()
        costs = generator.standard_normal(population)
        costs[generator.random(population) < failing] = np.inf
        search.tell(costs)
    assert np.isfinite(search.best()[0]).all()


def test_failed_candidates_come_last_and_leave_no_nan():
    search = MothFlame([0, 0], [1, 1], 4, 3, 5)
    search.tell([np.inf, 2.0, np.inf, 1.0])
    assert search.flame_costs.tolist() == [1.0, 2.0, np.inf, np.inf]
    assert np.isfinite(search.ask()).all()
    search.tell([np.inf] * 4)
    assert search.best()[1] == 1.0
    assert np.isfinite(search.ask()).all()


def test_random_numbers_are_those_of_the_generator():
    search = MothFlame([0, 0, 0], [1, 1, 1], 5, 2, 12)
    expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence([12, 2]))).random((5, 3))
    assert search.random_numbers(2, 5, 3).tobytes() == expected.tobytes()

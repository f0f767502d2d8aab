from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcdp_hpc.data.split import interleave, sample_indices, slab_bounds, split_indices, uneven_indices
from rcdp_hpc.errors import InputError

counts_of_classes = st.lists(st.integers(1, 40), min_size=1, max_size=9)


def labels(counts, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


@given(
    st.lists(st.integers(4, 60), min_size=2, max_size=6), st.floats(0.05, 0.5), st.floats(0.05, 0.5), st.integers(0, 9)
)
def test_split_is_complete_disjoint_and_stratified(counts, validation, test, seed):
    y = labels(counts)
    split = split_indices(y, validation, test, seed)
    assert sorted(np.concatenate(list(split.values()))) == list(range(len(y)))
    for label, count in enumerate(counts):
        got = {name: int((y[rows] == label).sum()) for name, rows in split.items()}
        assert got["test"] >= 1
        assert got["validation"] >= 1
        assert got["train"] >= 2
        if got["train"] > 2:
            assert abs(got["test"] - max(1, test * count)) <= 0.5
            assert abs(got["validation"] - max(1, validation * (count - got["test"]))) <= 0.5


def test_known_split():
    y = np.repeat([0, 1, 2, 3, 4], [100, 4, 3, 2, 1])
    split = split_indices(y, 0.1, 0.2, seed=1)
    got = {name: np.bincount(y[rows], minlength=5).tolist() for name, rows in split.items()}
    assert got == {"train": [72, 2, 2, 2, 1], "validation": [8, 1, 0, 0, 0], "test": [20, 1, 1, 0, 0]}


def test_split_follows_the_seed():
    y = labels([30, 20])
    first, again, other = (split_indices(y, 0.2, 0.2, seed)["test"].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_split_of_a_source_with_its_own_test():
    assert set(split_indices(labels([30, 20]), 0.2, None, 1)) == {"train", "validation"}


@pytest.mark.parametrize(("counts", "missing"), [([2, 2], "validation|test"), ([3, 3], "validation")])
def test_split_without_rows_for_a_part(counts, missing):
    with pytest.raises(InputError, match=f"no row for ({missing})"):
        split_indices(labels(counts), 0.1, 0.2, 1)


def test_uneven_indices():
    y = labels([100, 100, 10])
    chosen = uneven_indices(y, [1, 0.25, 0.01], ["a", "b", "c"], seed=3)
    assert np.bincount(y[chosen]).tolist() == [100, 25, 1]
    assert (np.diff(chosen) > 0).all()
    assert uneven_indices(y, [], ["a", "b", "c"], 3).tolist() == list(range(210))
    with pytest.raises(InputError, match="2 entries for 3 classes"):
        uneven_indices(y, [1, 1], ["a", "b", "c"], 3)
    with pytest.raises(InputError, match=r"1\.5 of class b"):
        uneven_indices(y, [1, 1.5, 1], ["a", "b", "c"], 3)


def test_exact_counts():
    y = labels([100, 100, 10])
    chosen = uneven_indices(y, [], ["a", "b", "c"], seed=3, counts=[100, 25, 1])
    assert np.bincount(y[chosen]).tolist() == [100, 25, 1]
    # The same samples as of fractions that come to these numbers.
    assert chosen.tolist() == uneven_indices(y, [1, 0.25, 0.01], ["a", "b", "c"], seed=3).tolist()
    for counts, words in (
        ([1, 1], "class_keep_counts has 2 entries for 3 classes"),
        ([1, 0, 1], "0 of class b must be 1 or more"),
        ([1, 1, 11], "class c should keep 11 training samples and has 10, after validation and test"),
    ):
        with pytest.raises(InputError, match=words):
            uneven_indices(y, [], ["a", "b", "c"], 3, counts)


@given(counts_of_classes, st.integers(0, 5))
@settings(deadline=None)
def test_interleave_is_a_permutation_within_the_bound_for_every_prefix(counts, seed):
    y = labels(counts)
    order = interleave(y, seed)
    assert sorted(order) == list(range(len(y)))
    bound = 1 - Fraction(1, 2 * len(counts) - 2) if len(counts) > 1 else 0
    for label, count in enumerate(counts):
        seen = np.cumsum(y[order] == label)
        for step, number in enumerate(seen.tolist(), 1):
            assert abs(number - Fraction(step * count, len(y))) <= bound


@given(counts_of_classes, st.data())
@settings(deadline=None)
def test_every_slice_is_within_two_of_its_share(counts, data):
    y = labels(counts)
    ordered = y[interleave(y, 1)]
    start = data.draw(st.integers(0, len(y)))
    stop = data.draw(st.integers(start, len(y)))
    for label, count in enumerate(counts):
        assert abs((ordered[start:stop] == label).sum() - (stop - start) * count / len(y)) < 2


def tijdeman(counts):
    """Return the order of Tijdeman's algorithm, computed step by step as published."""
    total, slack = sum(counts), Fraction(1, 2 * len(counts) - 2)
    shares, done, turns = [Fraction(count, total) for count in counts], [0] * len(counts), []
    for step in range(1, total + 1):
        lag = [step * share - number for share, number in zip(shares, done, strict=True)]
        urgent = [(1 - slack - lag[c]) / shares[c] if lag[c] >= slack else None for c in range(len(counts))]
        _, chosen = min((value // 1, c) for c, value in enumerate(urgent) if value is not None)
        done[chosen] += 1
        turns.append(chosen)
    return turns


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 15), min_size=2, max_size=6))
def test_interleave_is_tijdemans_algorithm(counts):
    y = labels(counts)
    divisor = int(np.gcd.reduce(counts))
    assert y[interleave(y, 1)].tolist() == tijdeman([count // divisor for count in counts]) * divisor


def test_interleave_shuffles_within_classes_and_keeps_balanced_classes_in_turn():
    y = labels([50, 50, 50])
    order = interleave(y, 1)
    assert all(sorted(y[order][start : start + 3]) == [0, 1, 2] for start in range(0, 150, 3))
    assert interleave(y, 2).tolist() != order.tolist()
    assert (np.diff(order[y[order] == 0]) < 0).any()


def test_interleave_of_extreme_shares_is_exact():
    y = np.repeat([0, 1, 2], [99_991, 7, 1])
    ordered = y[interleave(y, 1)]
    for label, count in ((0, 99_991), (1, 7), (2, 1)):
        seen = np.cumsum(ordered == label)
        assert (np.abs(4 * (seen * len(y) - np.arange(1, len(y) + 1) * count)) <= 3 * len(y)).all()


@given(st.integers(0, 1000), st.integers(1, 17))
@settings(deadline=None)
def test_slabs_are_disjoint_complete_and_equal(rows, size):
    bounds = [slab_bounds(rows, rank, size) for rank in range(size)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == rows
    assert all(low[1] == high[0] for low, high in pairwise(bounds))
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) - min(sizes) <= 1


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    ranks=st.integers(1, 17),
    shards=st.integers(1, 13),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_slabs_of_ranks_over_shards_are_stratified_disjoint_and_complete(counts, ranks, shards, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    order = interleave(y, seed)
    pieces = [order[slice(*slab_bounds(len(y), number, shards))] for number in range(shards)]
    read = np.concatenate(pieces)
    slabs = [read[slice(*slab_bounds(len(y), rank, ranks))] for rank in range(ranks)]
    np.testing.assert_array_equal(np.sort(np.concatenate(slabs)), np.arange(len(y)))
    sizes = [len(slab) for slab in slabs]
    assert max(sizes) - min(sizes) <= 1
    for slab in (*slabs, *pieces):
        share = len(slab) * np.array(counts) / len(y)
        assert (np.abs(np.bincount(y[slab], minlength=len(counts)) - share) < 2).all()


@given(st.lists(st.integers(1, 60), min_size=2, max_size=5), st.integers(1, 120))
def test_a_sample_has_the_proportions_of_the_whole(counts, most):
    y = np.repeat(np.arange(len(counts)), counts)
    rows = sample_indices(y, most, seed=3)
    assert (np.diff(rows) > 0).all()
    drawn = np.bincount(y[rows], minlength=len(counts))
    if most >= len(y):
        assert len(rows) == len(y)
        return
    for count, number in zip(counts, drawn, strict=True):
        assert number == min(count, max(4, np.floor(most * count / len(y) + 0.5)))

"""Groups stay together, classes are divided evenly within a proven bound, and no part or class is lost needlessly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcdp_hpc.data.group_assignment import assign_groups
from rcdp_hpc.data.split import fold_numbers
from rcdp_hpc.errors import InputError


def fractions(y, parts, number):
    """Return the fraction of each class, and of all rows, in each part."""
    counts = np.array([np.bincount(y[parts == part], minlength=y.max() + 1) for part in range(number)])
    return np.column_stack([counts / counts.sum(axis=0), counts.sum(axis=1) / len(y)])


@st.composite
def grouped_rows(draw):
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    groups, classes = draw(st.integers(6, 60)), draw(st.integers(2, 5))
    mixes = generator.dirichlet(np.full(classes, draw(st.sampled_from([0.2, 1.0, 50.0]))), groups)
    sizes = generator.integers(1, draw(st.sampled_from([2, 30])), groups)
    code = np.repeat(generator.permutation(1000)[:groups], sizes)
    y = np.concatenate([generator.choice(classes, size, p=mix) for size, mix in zip(sizes, mixes, strict=True)])
    return np.unique(y, return_inverse=True)[1], code


@given(rows=grouped_rows(), folds=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_no_group_is_on_two_sides_and_classes_are_even_within_the_bound(rows, folds, seed):
    y, groups = rows
    shares = np.array([0.25] * 4 if folds else [0.7, 0.1, 0.2])
    parts = assign_groups(y, groups, shares, seed, folds)
    codes = np.unique(groups, return_inverse=True)[1]
    assert all(len(np.unique(parts[codes == code])) == 1 for code in range(codes.max() + 1))
    np.testing.assert_array_equal(parts, assign_groups(y, groups, shares, seed, folds))
    counts = np.array([np.bincount(y[codes == code], minlength=y.max() + 1) for code in range(codes.max() + 1)])
    spread = (counts > 0).sum(axis=0)
    held = fractions(y, parts, len(shares))
    # The bound holds unless groups had to move to a part without rows, or for a class that training had lost.
    repaired = (spread < 4).any() or len(counts) < 12
    each = np.column_stack([counts / counts.sum(axis=0), counts.sum(axis=1) / len(y)])
    bound = (1 - (shares**2).sum()) * (each**2).sum()
    assert repaired or ((held - shares[:, None]) ** 2).sum() <= bound + 1e-9
    if folds:
        assert ((held[:, :-1] > 0).sum(axis=0) >= np.minimum(2, spread)).all()
    else:
        assert (held[0] > 0).all()


def test_parts_are_as_even_as_equal_groups_allow():
    y, groups = np.tile([0, 0, 0, 1], 50), np.repeat(np.arange(20), 10)
    for seed in range(5):
        parts = assign_groups(y, groups, [0.7, 0.1, 0.2], seed)
        np.testing.assert_allclose(fractions(y, parts, 3)[:, -1], [0.7, 0.1, 0.2])
        folds = fold_numbers(y, ["a", "b"], 5, seed, groups=groups)
        np.testing.assert_allclose(fractions(y, folds, 5), 0.2, atol=0.03)


def test_the_seed_decides_which_groups_of_equal_size_are_together():
    y, groups = np.zeros(40, np.int64), np.repeat(np.arange(20), 2)
    assert len({tuple(assign_groups(y, groups, [0.5, 0.5], seed)) for seed in range(5)}) == 5


def test_a_class_of_a_single_group_is_in_training():
    y = np.repeat([0, 1], [90, 30])
    groups = np.concatenate([np.arange(90) % 9, np.full(30, 77)])
    parts = assign_groups(y, groups, [0.5, 0.25, 0.25], 3)
    assert set(parts[y == 1]) == {0}
    assert set(parts) == {0, 1, 2}


def test_fewer_groups_than_folds_are_refused():
    with pytest.raises(InputError, match=r"search\.folds = 5: there are only 3 groups; set search\.folds to at most 3"):
        fold_numbers(np.tile([0, 1], 30), ["a", "b"], 5, 0, "search.folds", np.repeat([4, 5, 6], 20))

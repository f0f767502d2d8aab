"""Sums kept per fold: the solutions of all training parts from one pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search.ranks import Ranks

from rcdp_hpc.reservoir.device_sums import make_sums
from rcdp_hpc.reservoir.fold_sums import NO_FOLD, FoldSums, fold_sums_bytes, synthetic_weights
from rcdp_hpc.reservoir.ridge import RidgeReadout, one_hot, solve

FOLDS, CLASSES, WIDTH = 5, 3, 12


def rows(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return states, labels and folds; one feature varies around a mean of 30."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(CLASSES, count, p=[0.7, 0.2, 0.1])
    states = generator.normal(labels[:, None], 1, (count, WIDTH)).astype(np.float32)
    states[:, 0] = 30 + states[:, 0]
    return states, labels, generator.permutation(count) % FOLDS


def solved(states: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, device: torch.device | None = None):
    sums = make_sums(WIDTH, CLASSES, device=device)
    sums.add(states, one_hot(labels, CLASSES), weights)
    return solve(sums, 1e-3)


def assert_equal(one: RidgeReadout, other: RidgeReadout) -> None:
    scale = abs(other.weights).max()
    np.testing.assert_allclose(one.weights, other.weights, rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(one.intercept, other.intercept, rtol=0, atol=1e-10 * max(1, abs(other.intercept).max()))


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
@pytest.mark.parametrize("by_class", [False, True])
def test_training_parts_equal_separate_solutions(by_class, device):
    states, labels, folds = rows(600)
    sums = FoldSums(WIDTH, CLASSES, FOLDS, by_class=by_class, device=device)
    for start in range(0, 600, 250):
        block = slice(start, start + 250)
        sums.add(torch.from_numpy(states[block]), labels[block], folds[block])
    class_weights = np.array([0.5, 1.5, 4.0]) if by_class else None
    for fold in range(FOLDS):
        kept = folds != fold
        weights = None if class_weights is None else class_weights[labels[kept]]
        part = sums.training(fold, class_weights)
        assert part.rows == kept.sum()
        assert_equal(solve(part, 1e-3), solved(states[kept], labels[kept], weights, device))
        assert_equal(solve(sums.held_out(fold), 1e-3), solved(states[~kept], labels[~kept], None, device))
    assert_equal(solve(sums.total(), 1e-3), solved(states, labels, None, device))
    assert (sums.counts == [np.bincount(labels[folds == fold], minlength=CLASSES) for fold in range(FOLDS)]).all()
    assert sums.nbytes <= fold_sums_bytes(WIDTH, CLASSES, FOLDS, by_class, pairs=False)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), folds=st.integers(2, 6))
def test_a_synthetic_row_counts_where_neither_parent_is_held_out(seed, folds):
    generator = np.random.default_rng(seed)
    states, labels, _ = rows(200, seed)
    ends = np.sort(generator.integers(NO_FOLD, folds, (2, 80)), axis=0)[:: generator.choice([-1, 1])]
    own = generator.integers(0, folds, 120)
    draws = generator.integers(0, 3, 120).astype(float)
    weights = synthetic_weights(*ends, folds)
    sums = FoldSums(WIDTH, CLASSES, folds)
    sums.add(states[:120], labels[:120], own, draws)
    sums.add_synthetic(states[120:], labels[120:], *ends, weights)
    for fold in range(folds):
        counts = np.concatenate([draws * (own != fold), weights * (ends != fold).all(axis=0)])
        kept = counts > 0
        assert_equal(solve(sums.training(fold), 1e-3), solved(states[kept], labels[kept], counts[kept]))
        kept[120:] = False
        assert_equal(
            solve(sums.training(fold, synthetic=False), 1e-3), solved(states[kept], labels[kept], counts[kept])
        )


def test_weights_give_a_synthetic_row_the_weight_of_an_original_row():
    first, second = np.array([0, 0, NO_FOLD, NO_FOLD]), np.array([0, 3, 2, NO_FOLD])
    counted = np.array([sum(fold not in pair for fold in range(5)) for pair in zip(first, second, strict=True)])
    np.testing.assert_allclose(synthetic_weights(first, second, 5) * counted, 4)
    assert synthetic_weights(np.array([0]), np.array([1]), 2).tolist() == [0]


def test_ranks_get_the_bits_of_a_single_rank():
    states, labels, folds = rows(480)
    slabs = np.split(np.arange(480), 8)

    def summed(comm) -> bytes:
        # Single precision adds in float32: only the rounded slabs are exact.
        sums = FoldSums(WIDTH, CLASSES, FOLDS, by_class=True, precision="single", largest=480 * 40.0**2)
        for slab in slabs[comm.rank * 8 // comm.size : (comm.rank + 1) * 8 // comm.size]:
            sums.add(states[slab], labels[slab], folds[slab])
            sums.flush()
        sums.reduce(comm)
        part = sums.training(2, np.array([1.0, 2.0, 0.5]))
        return part.xx.tobytes() + part.xy.tobytes() + sums.counts.tobytes()

    single = Ranks(1).run(summed)
    assert Ranks(3).run(summed) == single * 3


def test_what_does_not_fit_is_refused():
    states, labels, folds = rows(20)
    sums = FoldSums(WIDTH, CLASSES, FOLDS)
    with pytest.raises(ValueError, match="do not fit"):
        sums.add(states, labels[1:], folds)
    with pytest.raises(ValueError, match="class number is not one of 0 to 2"):
        sums.add(states, labels + 1, folds)
    with pytest.raises(ValueError, match="fold is not one of 0 to 4"):
        sums.add(states, labels, folds + 1)
    with pytest.raises(ValueError, match="below 0"):
        sums.add(states, labels, folds, -np.ones(20))
    sums.add(states, labels, folds)
    with pytest.raises(ValueError, match="need sums by class"):
        sums.training(0, np.ones(CLASSES))
    with pytest.raises(ValueError, match="fold 5 is not one"):
        sums.training(5)

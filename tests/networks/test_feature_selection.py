"""Selection of features by elimination and by a genetic search."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from rcdp_hpc.errors import InputError
from rcdp_hpc.networks import feature_selection
from rcdp_hpc.networks.feature_selection import select_features


def problem(features=10, samples=400, steps=1, seed=0):
    """Samples whose three classes depend on three features; some of the others are noisy copies of these."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((samples, steps, features))
    labels = (x[:, :, :3].mean(1) + 0.2 * generator.standard_normal((samples, 3))).argmax(1)
    x[:, :, 3:6] = x[:, :, :3] + 0.7 * generator.standard_normal((samples, steps, 3))
    return x.astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("method", ["greedy", "genetic"])
@pytest.mark.parametrize("steps", [1, 4])
def test_the_features_that_decide_are_selected(method, steps):
    x, labels = problem(steps=steps)
    found = select_features(x, labels, 3, method, 1)
    assert found.features.tolist() == [0, 1, 2]
    assert found.error < 1.2 * found.error_of_all


def test_the_genetic_search_finds_the_best_of_all_subsets():
    x, labels = problem(features=9, seed=3)
    judge = feature_selection._Judge(x, labels, np.random.default_rng([5, len(x)]))
    best = min((np.array(subset) for subset in combinations(range(9), 4)), key=judge.error)
    found = select_features(x, labels, 4, "genetic", 5)
    assert found.features.tolist() == best.tolist()
    assert found.error <= select_features(x, labels, 4, "greedy", 5).error


def test_the_error_is_that_of_held_out_samples():
    x, labels = problem()
    generator = np.random.default_rng([1, len(x)])
    held_out = np.zeros(len(x), dtype=bool)
    held_out[generator.permutation(len(x))[::5]] = True
    found = select_features(x, labels, 3, "greedy", 1)
    rows, targets = x[:, 0, found.features].astype(np.float64), np.eye(3)[labels]
    fitted = rows[~held_out]
    mean, spread = fitted.mean(0), fitted.std(0)
    standard = (fitted - mean) / spread
    gram = standard.T @ standard + 0.01 * len(fitted) * np.eye(3)
    weights = np.linalg.solve(gram, standard.T @ (targets[~held_out] - targets[~held_out].mean(0)))
    scores = (rows[held_out] - mean) / spread @ weights + targets[~held_out].mean(0)
    assert found.error == pytest.approx(np.mean((scores - targets[held_out]) ** 2), rel=1e-5)


@pytest.mark.parametrize("method", ["greedy", "genetic"])
def test_the_selection_repeats(method):
    x, labels = problem(features=30)
    one, two = (select_features(x, labels, 12, method, 4) for _ in range(2))
    assert one.features.tolist() == two.features.tolist()
    assert (np.diff(one.features) > 0).all()


@pytest.mark.parametrize("method", ["greedy", "genetic"])
def test_all_features_can_stay(method):
    x, labels = problem()
    found = select_features(x, labels, 10, method, 1)
    assert found.features.tolist() == list(range(10))
    assert found.error == found.error_of_all


def test_long_series_are_judged_by_the_means_of_segments(monkeypatch):
    monkeypatch.setattr(feature_selection, "SEGMENTED_VALUES", 40)
    x, labels = problem(steps=13)
    assert feature_selection._segmented(x).shape == (400, 4, 10)
    np.testing.assert_allclose(feature_selection._segmented(x)[:, 0], x[:, :3].mean(1), rtol=1e-5)
    assert select_features(x, labels, 3, "greedy", 1).features.tolist() == [0, 1, 2]


def test_too_many_features_and_too_few_samples_are_refused(monkeypatch):
    x, labels = problem()
    with pytest.raises(InputError, match="needs at least 10 training samples, and there are 9"):
        select_features(x[:9], labels[:9], 3, "greedy", 1)
    monkeypatch.setattr(feature_selection, "MOST_VALUES", 9)
    with pytest.raises(InputError, match="compares at most 9 features, and these samples have 10"):
        select_features(x, labels, 3, "greedy", 1)

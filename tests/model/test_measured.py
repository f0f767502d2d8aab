"""Values and intervals of all criteria, and two classifiers on the same samples."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from launch import REPOSITORY
from scipy.stats import binomtest

from rcdp_hpc.config.choices.criteria import CRITERIA
from rcdp_hpc.model.criteria import criterion
from rcdp_hpc.model.criteria.measured import TOO_MANY_ROWS, RowNumbers, measure, measure_probabilities
from rcdp_hpc.model.criteria.paired import compare_predictions
from rcdp_hpc.model.criteria.row_bootstrap import multiplicities
from rcdp_hpc.model.intervals import wilson

# No longer than the import: other modules there have names of packages of the tests.
sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import interval_coverage

sys.path.remove(str(REPOSITORY / "benchmarks"))

NAMES = ["a", "b", "c"]


def rows(counts, seed=0):
    """Labels, predictions and probabilities of a test with these class counts."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    scores = generator.random((len(labels), 3))
    scores[np.arange(len(labels)), labels] += 0.5
    return labels, scores.argmax(1), scores / scores.sum(1, keepdims=True)


def test_every_criterion_has_its_value_and_an_interval_around_it():
    labels, predicted, probabilities = rows((40, 12, 3))
    found = measure(labels, predicted, probabilities, NAMES)
    assert sorted(found.values) == sorted(found.intervals) == sorted(CRITERIA.names)
    for name, (low, high) in found.intervals.items():
        value = criterion(name, NAMES).value(labels, predicted, probabilities)
        np.testing.assert_allclose(found.values[name], value, rtol=1e-12)
        assert low < high
        assert name == "ece" or low <= value <= high
    right = int((labels == predicted).sum())
    assert found.intervals["accuracy"] == wilson(right, 55)
    assert found.intervals == measure(labels, predicted, probabilities, NAMES).intervals
    assert found.intervals["brier"] != measure(labels, predicted, probabilities, NAMES, seed=1).intervals["brier"]


def test_a_class_without_samples_has_no_scores_of_its_own():
    labels, predicted, probabilities = rows((20, 10, 0))
    predicted[:2] = 2
    found = measure(labels, predicted, probabilities, NAMES)
    for name in ("recall", "f1", "pr_auc", "roc_auc"):
        assert np.isnan(found.class_values[name]).tolist() == [False, False, True], name
        assert np.isnan(found.class_intervals[name][0]).tolist() == [False, False, True], name
    assert found.class_values["precision"][2] == 0  # it was predicted, never rightly
    assert not found.undefined
    one = measure(labels[labels == 1], predicted[labels == 1], probabilities[labels == 1], NAMES)
    expected = dict.fromkeys(("mcc", "kappa", "macro_pr_auc", "macro_roc_auc"), "all samples are of class b")
    assert one.undefined == expected
    assert not expected.keys() & one.intervals.keys()


def test_a_class_of_few_samples_without_an_error_has_an_interval_all_the_same():
    labels = np.repeat([0, 1], [60, 4])
    found = measure(labels, labels, np.eye(3)[labels] * 0.7 + 0.1, NAMES)
    low, high = found.intervals["balanced_accuracy"]
    assert high == 1
    assert 0.7 < low < 0.95  # Wilson's interval of 4 of 4 starts at 0.51, and half of the mean is of class a


def test_rows_without_a_bootstrap_say_so(monkeypatch):
    monkeypatch.setattr("rcdp_hpc.model.criteria.row_bootstrap.MOST_NUMBERS", 100)
    labels, _, probabilities = rows((20, 10, 5))
    found = measure_probabilities(labels, RowNumbers.of(labels, probabilities), NAMES)
    assert not found.intervals
    assert found.without_interval == dict.fromkeys(("log_loss", "brier", "ece"), TOO_MANY_ROWS)


def test_resamples_of_rows_keep_the_counts_of_the_classes():
    labels = rows((7, 3, 1))[0]
    drawn = np.concatenate(list(multiplicities(labels, 50)), 1)
    assert drawn.shape == (11, 50)
    for label, count in enumerate((7, 3, 1)):
        assert (drawn[labels == label].sum(0) == count).all()
    assert len(np.unique(drawn, axis=1).T) > 40


def test_a_mean_of_areas_with_a_class_of_one_sample_has_no_interval():
    found = measure(*rows((40, 12, 1)), NAMES)
    for name in ("macro_pr_auc", "macro_roc_auc"):
        assert name not in found.intervals, name
        assert "one sample" in found.without_interval[name]


def test_two_classifiers_on_the_same_samples():
    labels, first, _ = rows((80, 30, 10))
    other = rows((80, 30, 10), seed=1)[1][np.argsort(np.argsort(labels, kind="stable"))]
    found = compare_predictions(labels, first, other, NAMES)
    right, right_other = first == labels, other == labels
    counts = int((right & ~right_other).sum()), int((right_other & ~right).sum())
    assert (found.only_first, found.only_other) == counts
    assert found.p == binomtest(counts[0], sum(counts)).pvalue
    for name, difference in found.differences.items():
        one = criterion(name, NAMES)
        assert difference.value == pytest.approx(one.value(labels, first) - one.value(labels, other), abs=1e-12)
        assert difference.interval[0] < difference.value < difference.interval[1]
    same = compare_predictions(labels, first, first, NAMES)
    assert same.p == 1
    assert all(one.value == 0 and -0.1 < one.interval[0] < 0 < one.interval[1] < 0.1
               for name, one in same.differences.items() if name in ("accuracy", "mcc"))  # fmt: skip


def test_intervals_cover_the_true_value_about_as_often_as_they_say():
    population = interval_coverage.Population([60, 20, 8], [2.0, 1.5, 1.5])
    found = {name: share for name, (share, _) in interval_coverage.coverage(population, 40, seed=0).items()}
    assert all(found[name] >= 0.85 for name in CRITERIA.names if name not in ("ece", "macro_roc_auc")), found
    assert np.mean([found[name] for name in ("accuracy", "balanced_accuracy", "macro_f1", "g_mean", "mcc")]) >= 0.9

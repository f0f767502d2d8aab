"""Answers, differences and the sentence at the end."""

from __future__ import annotations

import numpy as np
import pytest

from rcdp_hpc.balance_check.calibrated import calibrated_probabilities, ece
from rcdp_hpc.balance_check.comparison import Answers, Comparing
from rcdp_hpc.balance_check.intervals import fold_interval
from rcdp_hpc.balance_check.measures import measure_of, measures_of
from rcdp_hpc.balance_check.methods.base import HeldOut
from rcdp_hpc.balance_check.methods.logit_adjustment import LogitAdjustment
from rcdp_hpc.balance_check.verdict import verdict
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.criteria.confusion import Counts

CLASSES = ["a", "b", "c"]
KEYS = {name: {"data.balance": name} for name in ("none", "cheap", "dear")}


def rows(seed: int = 0, count: int = 3000):
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, count, p=[0.8, 0.15, 0.05])
    return labels, generator.permutation(np.arange(count) % 5), generator


def answered(labels, generator, right: list[float]) -> np.ndarray:
    """Answers with this recall for each class; wrong ones are class 0, or class 1 for class 0."""
    wrong = np.where(labels == 0, 1, 0)
    return np.where(generator.random(len(labels)) < np.array(right)[labels], labels, wrong)


def compared(recalls: dict[str, list[float]], current: str | None = None):
    labels, folds, generator = rows()
    comparing = Comparing(labels, folds, 3, measures_of("balanced_accuracy", CLASSES), 0)
    results = comparing.compared(
        [Answers(name, "", answered(labels, generator, right), 1, [], {}) for name, right in recalls.items()]
    )
    return verdict(
        results, "balanced_accuracy", KEYS, current, lambda one, two: comparing.differences(one.answers, two.answers)
    )


def test_the_cheapest_of_equals_is_chosen_and_its_price_is_named():
    found = compared({"none": [0.95, 0.5, 0.2], "cheap": [0.7, 0.7, 0.6], "dear": [0.7, 0.7, 0.61]})
    assert (found.method, found.matters) == ("cheap", True)
    assert found.sentence.startswith('Set data.balance = "cheap": balanced accuracy rises by ')
    assert "it lowers" in found.sentence
    assert "accuracy by" in found.sentence


def test_a_dearer_way_is_chosen_if_it_is_measurably_better():
    found = compared({"none": [0.95, 0.5, 0.2], "cheap": [0.95, 0.6, 0.4], "dear": [0.95, 0.9, 0.9]})
    assert found.method == "dear"


def test_what_does_not_matter_is_said():
    found = compared({"none": [0.9, 0.7, 0.6], "cheap": [0.9, 0.7, 0.6], "dear": [0.7, 0.3, 0.2]})
    assert (found.method, found.matters) == ("none", False)
    assert found.sentence.startswith("It does not matter here")
    harmful = compared({"none": [0.9, 0.7, 0.6], "cheap": [0.9, 0.7, 0.6], "dear": [0.7, 0.3, 0.2]}, current="dear")
    assert harmful.sentence.startswith('Set data.balance = "none": dear, which the configuration has, lowers')


def test_intervals_over_folds_are_those_of_the_corrected_t_test():
    # mean 2, deviation sqrt(2.5), t(4) at 0.975 = 2.7764, sqrt(1/5 + 1/4) = 0.67082
    low, high = fold_interval([0, 1, 2, 3, 4])
    assert high - 2 == pytest.approx(2 - low) == pytest.approx(2.7764 * 0.67082 * np.sqrt(2.5), rel=1e-4)
    assert fold_interval([1.0, float("nan")]) is None


def test_a_class_without_rows_is_undefined_and_no_measure_counts_it():
    counts = Counts.of_rows(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)
    assert float(measure_of("worst_recall", CLASSES)(counts)) == 0.5
    assert float(measure_of("balanced_accuracy", CLASSES)(counts)) == 0.75
    with pytest.raises(InputError, match="decides by answers"):
        measure_of("log_loss", CLASSES)
    with pytest.raises(InputError, match="there is no class 'd'"):
        measure_of("recall:d", CLASSES)


def held_out(labels, folds, probabilities):
    shares = np.tile(np.bincount(labels) / len(labels), (5, 1))

    def worth(true, predicted):
        return float(np.nanmean(Counts.of_rows(true, predicted, 3).recall))

    return HeldOut(probabilities, probabilities, labels, folds, shares, worth)


def test_tau_of_a_fold_does_not_depend_on_its_rows_and_its_costs_give_the_same_answers():
    labels, folds, generator = rows(count=600)
    scores = np.eye(3)[labels] + generator.normal(0, 1.2, (600, 3)) + np.array([1.0, 0, -0.5])
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    method, here = LogitAdjustment("logit_adjustment", ""), folds == 3
    first = method.answers(held_out(labels, folds, probabilities))
    shuffled = labels.copy()
    shuffled[here] = generator.permutation(labels[here])  # the same shares, other rows
    assert (method.answers(held_out(shuffled, folds, probabilities)).predicted[here] == first.predicted[here]).all()
    assert np.nanmean(Counts.of_rows(labels, first.predicted, 3).recall) > 0.02 + np.nanmean(
        Counts.of_rows(labels, probabilities.argmax(1), 3).recall
    )
    costs, tau = np.array(first.chosen["costs"]), first.chosen["tau"]
    adjusted = (np.log(probabilities) - tau * np.log(np.bincount(labels) / 600)).argmax(1)
    assert ((probabilities * costs).argmax(1) == adjusted).mean() > 0.995


def test_probabilities_are_calibrated_by_the_other_folds():
    labels, folds, generator = rows()
    true = np.eye(3)[labels] + generator.normal(0, 0.3, (len(labels), 3))
    probabilities, methods = calibrated_probabilities(0.3 * true + 0.2, labels, folds, CLASSES)
    assert methods == ["vector"] * 5
    assert ece(probabilities, labels) < 0.02
    changed = labels.copy()
    changed[folds == 1] = 0
    assert np.array_equal(
        calibrated_probabilities(0.3 * true + 0.2, changed, folds, CLASSES)[0][folds == 1], probabilities[folds == 1]
    )

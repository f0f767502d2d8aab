from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.metrics import geometric_mean_score
from sklearn import metrics
from sklearn.preprocessing import label_binarize

from rcdp_hpc.config.choices.criteria import CRITERIA, criterion_accepted
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.criteria import all_criteria, criterion

EQUAL = {"rtol": 1e-12, "atol": 1e-12}


def one_against_rest(score, labels, probabilities, weights):
    """The mean of a score of scikit-learn over the classes with samples, each against the rest."""
    present = np.unique(labels)
    return np.mean([score(labels == k, probabilities[:, k], sample_weight=weights) for k in present])


def expected_error(labels, probabilities, weights):
    """The expected calibration error, bin by bin."""
    top, total, error = probabilities.max(1), weights.sum(), 0.0
    for low in range(15):
        chosen = (top > low / 15) & (top <= (low + 1) / 15)
        if weights[chosen].sum():
            right = (probabilities.argmax(1) == labels)[chosen]
            gap = np.average(right, weights=weights[chosen]) - np.average(top[chosen], weights=weights[chosen])
            error += weights[chosen].sum() / total * abs(gap)
    return error


def of_libraries(labels, predicted, probabilities, weights):
    """Every criterion as scikit-learn and imbalanced-learn compute it."""
    names, weighted = list(range(probabilities.shape[1])), {"sample_weight": weights}
    # The F1 scores of a class that does not occur do not count; a resampled row counts as often as its weight.
    return {
        "accuracy": metrics.accuracy_score(labels, predicted, **weighted),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted, **weighted),
        "macro_f1": metrics.f1_score(labels, predicted, average="macro", zero_division=0, **weighted),
        "weighted_f1": metrics.f1_score(labels, predicted, average="weighted", zero_division=0, **weighted),
        "g_mean": geometric_mean_score(labels, predicted, labels=np.unique(labels), **weighted),
        "mcc": metrics.matthews_corrcoef(labels, predicted, **weighted),
        "kappa": metrics.cohen_kappa_score(labels, predicted, **weighted),
        "macro_pr_auc": one_against_rest(metrics.average_precision_score, labels, probabilities, weights),
        "macro_roc_auc": one_against_rest(metrics.roc_auc_score, labels, probabilities, weights),
        "log_loss": metrics.log_loss(labels, probabilities, labels=names, **weighted),
        "brier": metrics.brier_score_loss(labels, probabilities, labels=names, **weighted),
        "ece": expected_error(labels, probabilities, weights),
    }


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(2, 40), st.integers(0, 2**31), st.booleans(), st.booleans())
def test_values_are_those_of_scikit_learn_and_imbalanced_learn(classes, rows, seed, ties, weighted):
    generator = np.random.default_rng(seed)
    # The last class may be absent, and is then predicted all the same.
    labels = generator.integers(0, max(2, classes - seed % 2), rows)
    labels[:2] = 0, 1
    raw = generator.integers(1, 4, (rows, classes)) if ties else generator.random((rows, classes)) ** 3
    probabilities = raw / raw.sum(1, keepdims=True)
    predicted = generator.integers(0, classes, rows)
    weights = generator.integers(1, 4, rows).astype(float) if weighted else np.ones(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class that is predicted and has no samples
        expected = of_libraries(labels, predicted, probabilities, weights)
    found = {
        one.name: one.value(labels, predicted, probabilities, weights if weighted else None)
        for one in all_criteria([str(k) for k in range(classes)])
    }
    assert list(found) == CRITERIA.names == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, err_msg=name, **EQUAL)


def test_areas_are_the_macro_averages_of_scikit_learn():
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 4, 60)
    probabilities = generator.dirichlet(np.ones(4), 60)
    one_hot = label_binarize(labels, classes=range(4))
    pr, roc = (
        criterion(name, list("abcd")).value(labels, labels, probabilities) for name in ("macro_pr_auc", "macro_roc_auc")
    )
    np.testing.assert_allclose(pr, metrics.average_precision_score(one_hot, probabilities, average="macro"), **EQUAL)
    np.testing.assert_allclose(roc, metrics.roc_auc_score(labels, probabilities, multi_class="ovr"), **EQUAL)


def test_a_recall_of_a_named_class_needs_that_class():
    labels, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    assert criterion("recall:sick", ["well", "sick", "dead"]).value(labels, predicted) == 2 / 3
    dead = criterion("recall:dead", ["well", "sick", "dead"])
    assert np.isnan(dead.value(labels, predicted))
    assert dead.undefined(labels, dead.classes) == "class dead has no samples"
    with pytest.raises(InputError, match=r"recall:ill: there is no class 'ill'\. The classes are well, sick\."):
        criterion("recall:ill", ["well", "sick"])
    with pytest.raises(InputError, match="'speed' is not a criterion"):
        criterion("speed", ["well", "sick"])


@pytest.mark.parametrize("name", [*CRITERIA.names, "recall:b"])
def test_what_is_undefined_is_nan_with_a_reason_and_never_0(name):
    one = criterion(name, ["a", "b", "c"])
    empty, single = np.zeros(0, np.int64), np.zeros(3, np.int64)
    probabilities = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3]])
    assert np.isnan(one.value(empty, empty, probabilities[:0]))
    assert one.undefined(empty, one.classes) == "there are no samples"
    value = one.value(single, probabilities.argmax(1), probabilities)
    assert np.isnan(value) == (one.undefined(single, one.classes) is not None)
    assert np.isnan(value) == (name in ("mcc", "kappa", "macro_pr_auc", "macro_roc_auc", "recall:b"))
    if one.needs_two_classes:
        assert one.undefined(single, one.classes) == "all samples are of class a"
    # Nothing is undefined for two classes that both have samples.
    both = criterion(name, ["a", "b"])
    labels = np.array([0, 1, 0])
    assert both.undefined(labels, both.classes) is None
    assert np.isfinite(both.value(labels, labels[::-1], probabilities[:, :2]))


def test_a_larger_fitness_is_better():
    labels, wrong = np.array([0, 1, 1, 0]), np.array([1, 0, 1, 0])
    sure, poor = np.eye(2)[labels] * 0.8 + 0.1, np.eye(2)[wrong] * 0.8 + 0.1
    for one in all_criteria(["a", "b"]):
        assert one.fitness(labels, labels, sure) > one.fitness(labels, wrong, poor)


def test_a_name_is_accepted_with_the_class_of_a_recall():
    assert criterion_accepted("recall:any class: at all") == "recall:any class: at all"
    assert criterion_accepted("auto", ("auto",)) == "auto"
    for wrong in ("recall:", "auto", "f1"):
        with pytest.raises(ValueError, match="expected one of"):
            criterion_accepted(wrong)

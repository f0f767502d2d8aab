from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from rcdp_hpc.model import metrics

labelled = st.integers(2, 6).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.lists(st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1)), min_size=1, max_size=60),
    )
)


@given(labelled)
def test_scores_equal_scikit_learns(case):
    classes, pairs = case
    true, predicted = np.array(pairs).T
    confusion = metrics.confusion_matrix(true, predicted, classes)
    names = list(range(classes))
    np.testing.assert_array_equal(confusion, confusion_matrix(true, predicted, labels=names))
    ours = metrics.scores(confusion)
    precision, recall, f1, _ = precision_recall_fscore_support(true, predicted, labels=names, zero_division=0)
    assert ours["accuracy"] == accuracy_score(true, predicted)
    np.testing.assert_allclose(ours["precision"], precision)
    np.testing.assert_allclose(ours["recall"], recall)
    np.testing.assert_allclose(ours["f1"], f1)
    # Over the classes that occur, the default of scikit-learn.
    np.testing.assert_allclose(ours["macro_f1"], f1_score(true, predicted, average="macro", zero_division=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class that is predicted and has no samples
        np.testing.assert_allclose(ours["balanced_accuracy"], balanced_accuracy_score(true, predicted))


def test_matrices_of_parts_add_up_to_the_matrix_of_all_rows():
    generator = np.random.default_rng(0)
    true, predicted = generator.integers(0, 4, (2, 101))
    parts = [metrics.confusion_matrix(true[a:b], predicted[a:b], 4) for a, b in ((0, 30), (30, 31), (31, 101))]
    np.testing.assert_array_equal(sum(parts), metrics.confusion_matrix(true, predicted, 4))


def test_a_class_that_does_not_occur_does_not_count_in_macro_f1():
    assert metrics.scores(np.diag([5, 3, 0]))["macro_f1"] == 1
    # A class that is predicted once by mistake occurs: its F1 of 0 counts.
    assert metrics.scores(np.array([[5, 0, 0], [0, 2, 1], [0, 0, 0]]))["macro_f1"] == pytest.approx((1 + 0.8 + 0) / 3)
    assert metrics.scores(np.zeros((3, 3), np.int64))["macro_f1"] == 0


def test_a_class_without_samples_does_not_count_in_balanced_accuracy():
    assert metrics.scores(np.array([[3, 1, 0], [0, 1, 1], [0, 0, 0]]))["balanced_accuracy"] == (0.75 + 0.5) / 2
    assert metrics.scores(np.zeros((3, 3), np.int64))["balanced_accuracy"] == 0

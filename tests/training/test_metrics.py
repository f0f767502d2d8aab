from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from rcdp_hpc.training import metrics

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
    np.testing.assert_allclose(
        ours["macro_f1"], f1_score(true, predicted, labels=names, average="macro", zero_division=0)
    )


def test_matrices_of_slabs_add_up_to_that_of_the_whole():
    generator = np.random.default_rng(0)
    true, predicted = generator.integers(0, 4, (2, 101))
    parts = [metrics.confusion_matrix(true[a:b], predicted[a:b], 4) for a, b in ((0, 30), (30, 31), (31, 101))]
    np.testing.assert_array_equal(sum(parts), metrics.confusion_matrix(true, predicted, 4))

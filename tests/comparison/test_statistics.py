"""Tests and corrections, against scipy and by hand."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from rcdp_hpc.comparison.statistics import corrected_t, holm, mcnemar, mean_and_deviation, paired_t

FIRST, OTHER = [0.91, 0.93, 0.92, 0.95], [0.90, 0.91, 0.92, 0.91]
DIFFERENCES = [one - other for one, other in zip(FIRST, OTHER, strict=True)]


def test_the_paired_t_test_is_that_of_scipy():
    expected = stats.ttest_rel(FIRST, OTHER)
    tested = paired_t(DIFFERENCES)
    assert (tested.statistic, tested.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_the_corrected_test_by_hand():
    """Five folds, differences 1, 2, 3, 4, 5: mean 3, variance 2.5, t = 3 / sqrt((1/5 + 1/4) 2.5) = 2.8284."""
    tested = corrected_t([1.0, 2.0, 3.0, 4.0, 5.0], 1 / 4)
    assert tested.statistic == pytest.approx(3 / math.sqrt(0.45 * 2.5))
    assert tested.p == pytest.approx(2 * stats.t.sf(tested.statistic, 4))
    # Without the correction the variance of the mean is too small.
    assert tested.p > paired_t([1.0, 2.0, 3.0, 4.0, 5.0]).p


def test_mcnemar_is_the_sign_test_of_the_samples_on_which_one_is_right():
    tested = mcnemar(9, 1)
    assert tested.p == pytest.approx(22 / 1024)  # (1 + 10 + 10 + 1) / 2^10: 0, 1, 9 and 10 of ten
    assert tested.p == pytest.approx(stats.binomtest(1, 10).pvalue)
    assert mcnemar(0, 0).p == 1.0


@pytest.mark.parametrize("test", [paired_t, lambda values: corrected_t(values, 0.25)])
def test_tests_that_cannot_be_made_say_why(test):
    assert test([0.1]).p is None
    assert "two or more repetitions" in test([0.1]).note
    # 0.3 - 0.2 and 0.2 - 0.1 differ in their last digits.
    same = test([0.3 - 0.2, 0.2 - 0.1, 0.1])
    assert same.p is None
    assert "same in every repetition" in same.note
    assert test([0.0, 0.0]).p == 1.0


def test_holm_by_hand():
    """0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1, each no less than the one before: 0.04, 0.06, 0.06, 0.06."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, None, 0.7]) == [1.0, None, 1.0]
    assert holm([]) == []


def test_mean_and_deviation():
    assert mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_deviation([1.0]) == (1.0, None)
    assert mean_and_deviation([]) == (None, None)

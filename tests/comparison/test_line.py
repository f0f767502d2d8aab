"""The line of least squares: a case by hand, and cases without errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import linregress

from rcdp_hpc.comparison.paper.line import Line


def test_line_and_prediction_by_hand():
    # m = 7/3, S = 14/3, sum (x - m)(y - 6) = 11; residuals 1/7, -3/14, 1/14, so s^2 = RSS = 1/14.
    line = Line.through([1, 2, 4], [3, 5, 10])
    assert line is not None
    assert (line.slope, line.intercept) == (pytest.approx(33 / 14), pytest.approx(1 / 2))
    assert line.deviation == pytest.approx(math.sqrt(1 / 14))
    assert line.slope_error == pytest.approx(math.sqrt(3) / 14)
    assert line.intercept_error == pytest.approx(math.sqrt(3 / 28))
    # (7 - m)^2 / S = S: s^2 (1 + 1/3 + 14/3) = 6/14. The quantile of Student's t with 1 degree of freedom is 12.706.
    far = line.at(7)
    assert (far.x, far.value) == (7, pytest.approx(17))
    assert far.error == pytest.approx(math.sqrt(3 / 7))
    assert far.half_width == pytest.approx(12.7062 * math.sqrt(3 / 7), rel=1e-5)


def test_line_is_that_of_scipy():
    random = np.random.default_rng(1)
    x, y = random.random(9).tolist(), random.random(9).tolist()
    line, other = Line.through(x, y), linregress(x, y)
    assert line is not None
    assert (line.slope, line.intercept) == (pytest.approx(other.slope), pytest.approx(other.intercept))
    assert (line.slope_error, line.intercept_error) == (
        pytest.approx(other.stderr),
        pytest.approx(other.intercept_stderr),
    )


def test_two_points_have_a_line_without_errors_and_one_has_none():
    line = Line.through([1, 2], [5, 8])
    assert line is not None
    assert (line.slope, line.intercept, line.slope_error, line.deviation) == (3, 2, None, None)
    assert (line.at(10).value, line.at(10).error, line.at(10).half_width) == (32, None, None)
    assert Line.through([3], [1]) is None
    assert Line.through([3, 3], [1, 2]) is None

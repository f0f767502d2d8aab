import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir import device_ridge
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.left_out import solve_rows
from rcdp_hpc.reservoir.ridge import RidgeReadout, best_by, one_hot, score_moments, solve


def sums_of(x, y, block=64):
    sums = GramSums(x.shape[1], y.shape[1])
    sums.add_all(x, y, block)
    return sums


@pytest.fixture
def problem(rng):
    x = rng.standard_normal((300, 40)) @ rng.standard_normal((40, 40)) + 3
    y = one_hot(rng.integers(0, 4, 300), 4)
    return x.astype(np.float32), y


@pytest.mark.parametrize("penalty", [1e-6, 1e-2, 10])
def test_agrees_with_scikit_learn_on_standardised_features(problem, penalty):
    x, y = problem
    x *= np.float32(10) ** np.arange(-2, 2).repeat(10).astype(np.float32)
    readout = solve(sums_of(x, y), penalty)
    peer = make_pipeline(StandardScaler(), Ridge(alpha=penalty * len(x))).fit(x.astype(np.float64), y)
    np.testing.assert_allclose(readout.predict(x), peer.predict(x), atol=1e-4)
    np.testing.assert_allclose(readout.weights, (peer[1].coef_ / peer[0].scale_).T, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_sums_give_the_readout_of_rows(problem, penalty):
    x, y = problem
    from_rows = solve_rows(x, y.argmax(1), 4, penalty)
    readout = solve(sums_of(x, y), penalty)
    np.testing.assert_allclose(readout.weights, from_rows.weights, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(readout.intercept, from_rows.intercept, rtol=1e-6)


@pytest.mark.parametrize("precision", ["double", "single"])
def test_a_constant_feature_has_no_weight(problem, precision):
    x, y = problem
    still = np.hstack([x, np.full((300, 1), 0.3, np.float32), np.zeros((300, 1), np.float32)])
    sums = GramSums(42, 4, precision)
    sums.add(still, y)
    readout = solve(sums, 1e-3)
    assert np.all(readout.weights[-2:] == 0)
    np.testing.assert_allclose(readout.predict(still), solve(sums_of(x, y), 1e-3).predict(x), atol=1e-2)


def test_moments_of_scores_follow_from_the_sums(problem):
    x, y = problem
    sums = sums_of(x, y)
    readout = solve(sums, 0.01)
    means, deviations = score_moments(sums, readout, 0.01)
    scores = x.astype(np.float64) @ readout.weights + readout.intercept
    np.testing.assert_allclose(means, scores.mean(0), rtol=1e-9)
    np.testing.assert_allclose(deviations, scores.std(0), rtol=1e-7)


LIST = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0]


@pytest.mark.parametrize("valley", LIST)
def test_the_search_from_the_middle_reaches_the_least_error(valley):
    tried = []

    def error_of(penalty):
        tried.append(penalty)
        return abs(np.log10(penalty / valley))

    penalty, errors = best_by(error_of, LIST[::-1])
    assert penalty == valley
    assert sorted(errors) == sorted(tried)
    assert len(tried) <= abs(np.log10(valley / 0.1)) + 3


def test_of_equal_errors_the_larger_penalty_is_chosen():
    assert best_by(lambda penalty: 1.0, LIST)[0] == 100.0


def test_penalties_without_a_solution_are_skipped():
    def error_of(penalty):
        if penalty < 5:
            raise CandidateError("too small")
        return penalty

    penalty, errors = best_by(error_of, LIST)
    assert penalty == 10.0
    assert errors[1.0] == np.inf
    with pytest.raises(CandidateError, match="too small"):
        best_by(error_of, [1e-3, 1e-2])


def test_solve_leaves_the_sums_as_they_are(problem):
    sums = sums_of(*problem)
    first, again = solve(sums, 0.1), solve(sums, 0.1)
    np.testing.assert_array_equal(first.weights, again.weights)


def test_bfloat16_features_are_summed_exactly(problem):
    x, y = torch.from_numpy(problem[0]).bfloat16(), problem[1]
    half, double = sums_of(x, y), sums_of(x.double().numpy(), y)
    np.testing.assert_array_equal(half.xx, double.xx)
    np.testing.assert_array_equal(half.xy, double.xy)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(2, 60), block=st.integers(1, 70), seed=st.integers(0, 1000))
def test_sums_do_not_depend_on_the_blocks(rows, block, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((rows, 5)), rng.standard_normal((rows, 2))
    sums = sums_of(x, y, block)
    assert sums.rows == rows
    np.testing.assert_allclose(np.triu(sums.xx), np.triu(x.T @ x), atol=1e-12)
    np.testing.assert_allclose(sums.xy, x.T @ y, atol=1e-12)
    np.testing.assert_allclose(sums.x, x.sum(0), atol=1e-12)
    np.testing.assert_allclose(sums.y, y.sum(0), atol=1e-12)
    np.testing.assert_allclose(sums.yy, (y**2).sum(0), atol=1e-12)


def test_merged_parts_equal_the_whole_and_repeat_to_the_bit(problem):
    x, y = problem
    whole = sums_of(x, y)
    merged = [sums_of(x[:128], y[:128]) for _ in range(2)]
    for sums in merged:
        sums.merge(sums_of(x[128:], y[128:]))
    assert merged[0].rows == whole.rows
    for name in ("xx", "xy", "x", "y", "yy"):
        np.testing.assert_allclose(getattr(merged[0], name), getattr(whole, name), rtol=1e-12)
        np.testing.assert_array_equal(getattr(merged[0], name), getattr(merged[1], name))


def test_mean_squared_error_from_sums(problem):
    x, y = problem
    sums = sums_of(x, y)
    readout = solve(sums, 0.1)
    direct = np.mean((x.astype(np.float64) @ readout.weights + readout.intercept - y) ** 2)
    assert sums.mean_squared_error(readout) == pytest.approx(direct, rel=1e-9)


def test_prediction_does_not_depend_on_the_block(problem, monkeypatch):
    readout = RidgeReadout(np.ones((40, 2)), np.array([1.0, 2.0]))
    whole = readout.predict(problem[0])
    monkeypatch.setattr(device_ridge, "ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(readout.predict(torch.from_numpy(problem[0])), whole, rtol=1e-5)
    assert whole.dtype == np.float32


def test_singular_sums_are_explained():
    sums = GramSums(2, 1)
    sums.add(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), np.ones((3, 1)))
    sums.xx[0, 1] += 1  # as if by rounding
    with pytest.raises(CandidateError, match=r"penalty of 1e-06 per row .* readout\.ridge_penalties"):
        solve(sums, 1e-6)


def test_sums_that_are_not_finite_are_explained():
    sums = GramSums(2, 1)
    sums.add(np.array([[np.nan, 1.0]]), np.ones((1, 1)))
    with pytest.raises(CandidateError, match="finite"):
        solve(sums, 1.0)


def test_blocks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        GramSums(3, 1).add(np.ones((4, 3)), np.ones((5, 1)))
    with pytest.raises(ValueError, match="no rows"):
        solve(GramSums(3, 1), 1.0)


def test_one_hot():
    np.testing.assert_array_equal(one_hot(np.array([2, 0], dtype=np.uint8), 3), [[0, 0, 1], [1, 0, 0]])

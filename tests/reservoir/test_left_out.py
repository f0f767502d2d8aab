"""Exact leave-one-out of ridge readouts, compared with fits without each row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir import left_out as module
from rcdp_hpc.reservoir.left_out import left_out, solve_rows

PENALTIES = [1e-4, 1e-2, 1.0, 30.0]
CLASSES = 3
Floats = NDArray[np.float64]


def draw(rows: int, features: int, seed: int = 5) -> tuple[NDArray[np.float32], NDArray[np.int64], Floats]:
    """Return features of very different scales and means, labels that depend on some of them, and weights."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-2, 2, features)
    labels = np.arange(rows) % CLASSES
    x = rng.normal(size=(rows, features))
    x[:, : features // 2] += rng.normal(size=(CLASSES, features // 2))[labels]
    return ((x + rng.normal(size=features)) * scale).astype(np.float32), labels, rng.uniform(0.3, 3, rows)


def by_augmented_fit(x: Floats, y: Floats, weights: Floats, scale: Floats, shrink: float) -> tuple[Floats, Floats]:
    """Fit x / scale by weighted least squares with one row sqrt(shrink) for each weight; return weights, intercept."""
    width = x.shape[1]
    root = np.sqrt(weights)[:, None]
    design = np.block([[root * (x / scale), root], [np.sqrt(shrink) * np.eye(width), np.zeros((width, 1))]])
    result = np.linalg.lstsq(design, np.concatenate([root * y, np.zeros((width, y.shape[1]))]), rcond=None)[0]
    return result[:-1] / scale[:, None], result[-1]


def refitted(x: NDArray[np.float32], labels: NDArray[np.int64], weights: Floats, penalty: float) -> Floats:
    """Return left-out scores of fits without each row, with the scale and the penalty of all rows."""
    exact, y = x.astype(np.float64), np.eye(CLASSES)[labels]
    mean = np.average(exact, axis=0, weights=weights)
    scale = np.sqrt(np.average(np.square(exact - mean), axis=0, weights=weights))
    scores = np.empty((len(x), CLASSES))
    for row in range(len(x)):
        others = np.arange(len(x)) != row
        coefficients, intercept = by_augmented_fit(
            exact[others], y[others], weights[others], scale, penalty * weights.sum()
        )
        scores[row] = exact[row] @ coefficients + intercept
    return scores


def after_scaling(scores: Floats, labels: NDArray[np.int64], weights: Floats) -> float:
    """Return the weighted squared error after the best of many scalings of the scores about the class shares."""
    targets = np.eye(CLASSES)[labels]
    shares = np.average(targets, axis=0, weights=weights)
    factors = np.linspace(0, 20, 20_001)
    squares = [np.square(k * (scores - shares) + shares - targets).mean(axis=1) @ weights for k in factors]
    return float(min(squares) / weights.sum())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(40, 6), (15, 30), (20, 20)])
def test_scores_are_those_of_fits_without_each_row(shape: tuple[int, int], weighted: bool) -> None:
    x, labels, weights = draw(*shape)
    weights = weights if weighted else np.ones(len(x))
    errors = {}
    for penalty in PENALTIES:
        expected = refitted(x, labels, weights, penalty)
        result = left_out(x, labels, CLASSES, [penalty], weights if weighted else None)
        np.testing.assert_allclose(result.scores, expected, rtol=1e-6, atol=1e-7)
        squared = np.square(expected - np.eye(CLASSES)[labels]).mean(axis=1)
        assert result.error == pytest.approx(np.average(squared, weights=weights))
        errors[penalty] = after_scaling(expected, labels, weights)
        assert result.accuracy == np.mean(expected.argmax(axis=1) == labels)
    best = left_out(x, labels, CLASSES, PENALTIES, weights if weighted else None)
    assert best.penalty == min(errors, key=errors.__getitem__)
    assert best.errors == pytest.approx(errors, rel=1e-4)
    np.testing.assert_allclose(best.scores, refitted(x, labels, weights, best.penalty), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(40, 6), (15, 30)])
@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_the_readout_is_the_fit_to_all_rows_in_raw_features(shape: tuple[int, int], penalty: float) -> None:
    x, labels, weights = draw(*shape)
    exact = x.astype(np.float64)
    mean = np.average(exact, axis=0, weights=weights)
    scale = np.sqrt(np.average(np.square(exact - mean), axis=0, weights=weights))
    expected, intercept = by_augmented_fit(exact, np.eye(CLASSES)[labels], weights, scale, penalty * weights.sum())
    for readout in (
        left_out(x, labels, CLASSES, [penalty], weights).readout,
        solve_rows(x, labels, CLASSES, penalty, weights),
    ):
        np.testing.assert_allclose(readout.weights * scale[:, None], expected * scale[:, None], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(readout.intercept, intercept, rtol=1e-6, atol=1e-7)


def test_a_whole_weight_counts_as_that_many_rows_in_the_readout() -> None:
    x, labels, _ = draw(20, 5)
    times = 1 + np.arange(20) % 3
    repeated = solve_rows(np.repeat(x, times, axis=0), np.repeat(labels, times), CLASSES, 1e-2)
    weighted = left_out(x, labels, CLASSES, [1e-2], times).readout
    np.testing.assert_allclose(weighted.weights, repeated.weights, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(weighted.intercept, repeated.intercept, rtol=1e-8)


@pytest.mark.parametrize("width", [6, 60])
def test_a_constant_feature_has_no_weight_and_changes_nothing(width: int) -> None:
    x, labels, _ = draw(30, width)
    still = np.concatenate([x, np.full((30, 1), 0.1, np.float32), np.zeros((30, 1), np.float32)], axis=1)
    result, expected = left_out(still, labels, CLASSES, PENALTIES), left_out(x, labels, CLASSES, PENALTIES)
    assert np.all(result.readout.weights[-2:] == 0)
    np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-9, atol=1e-12)


def test_the_units_of_features_change_nothing() -> None:
    x, labels, _ = draw(25, 8)
    units = np.float32(2.0) ** np.arange(-4, 4)
    result, expected = left_out(x * units, labels, CLASSES, PENALTIES), left_out(x, labels, CLASSES, PENALTIES)
    np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-9)
    np.testing.assert_allclose(result.readout.weights * units[:, None], expected.readout.weights, rtol=1e-7, atol=1e-12)


def test_the_number_of_blocks_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels, weights = draw(12, 33)
    expected = left_out(torch.from_numpy(x), labels, CLASSES, PENALTIES, weights)
    monkeypatch.setattr(module, "BLOCK_COLUMNS", 7)
    result = left_out(torch.from_numpy(x), labels, CLASSES, PENALTIES, weights)
    np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-9)
    np.testing.assert_allclose(result.readout.weights, expected.readout.weights, rtol=1e-9)


def test_of_equal_errors_the_larger_penalty_is_chosen() -> None:
    labels = np.arange(9) % CLASSES
    assert left_out(np.ones((9, 2), np.float32), labels, CLASSES, PENALTIES).penalty == 30.0


def test_a_class_of_one_row_is_left_out_too() -> None:
    x, labels, _ = draw(12, 4)
    labels[:] = 0
    labels[0], labels[1:5] = 2, 1
    result = left_out(x, labels, CLASSES, [1.0])
    assert result.scores[0, 2] == pytest.approx(0, abs=1e-12)  # without its row the class has no targets


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    x, labels, _ = draw(12, 4)
    x[3, 2] = value
    with pytest.raises(CandidateError, match="finite"):
        left_out(x, labels, CLASSES, PENALTIES)


def test_one_row_is_refused() -> None:
    with pytest.raises(CandidateError, match="at least two"):
        left_out(np.ones((1, 3), np.float32), [0], CLASSES, PENALTIES)


def test_weights_must_be_above_zero() -> None:
    x, labels, weights = draw(12, 4)
    weights[4] = 0
    with pytest.raises(ValueError, match="above 0"):
        left_out(x, labels, CLASSES, PENALTIES, weights)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(40, 6), (15, 30)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_agrees_with_lapack(shape: tuple[int, int], weighted: bool, dtype: torch.dtype) -> None:
    x, labels, weights = draw(*shape)
    features, factors = torch.from_numpy(x).to(dtype), np.linspace(0.5, 2, shape[1])
    given = (features, labels, CLASSES, PENALTIES, weights if weighted else None, factors)
    expected, result = left_out(*given), left_out(*given, device=torch.device("cpu"))
    assert (result.penalty, result.accuracy) == (expected.penalty, expected.accuracy)
    assert result.errors == pytest.approx(expected.errors, rel=1e-6)
    assert result.error == pytest.approx(expected.error, rel=1e-6)
    np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-6, atol=1e-7)
    scale = x.std(0)[:, None]
    solved = [solve_rows(*given[:3], 1e-2, *given[4:], device=device) for device in (None, torch.device("cpu"))]
    for one, other in ((result.readout, expected.readout), solved):
        np.testing.assert_allclose(one.weights * scale, other.weights * scale, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(one.intercept, other.intercept, rtol=1e-6, atol=1e-7)


def test_torch_refuses_what_lapack_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels, _ = draw(12, 5)
    cpu = torch.device("cpu")
    x[3, 2] = np.inf
    with pytest.raises(CandidateError, match="not finite"):
        left_out(x, labels, CLASSES, PENALTIES, device=cpu)
    x[3, 2] = 0
    with pytest.raises(CandidateError, match="cannot be solved with a penalty of -1"):
        solve_rows(x, labels, CLASSES, -1.0, device=cpu)
    rows = module._Rows.of(x, labels, CLASSES, None, None, cpu)
    with pytest.raises(ValueError, match="infs or NaNs"):
        rows.library.eigh(torch.full((2, 2), torch.nan))


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
@pytest.mark.parametrize("shape", [(90, 8), (40, 15), (30, 70)])
def test_scores_of_folds_are_those_of_fits_without_each_fold(
    shape: tuple[int, int], device: torch.device | None
) -> None:
    x, labels, weights = draw(*shape)
    folds = np.random.default_rng(1).permutation(len(x)) % 4
    found = left_out(x, labels, CLASSES, PENALTIES, weights, device=device, folds=folds)
    exact, y = x.astype(np.float64), np.eye(CLASSES)[labels]
    scale = np.sqrt(np.average(np.square(exact - np.average(exact, axis=0, weights=weights)), axis=0, weights=weights))
    for fold in range(4):
        kept = folds != fold
        shrink = found.penalty * weights.sum() * 3 / 4
        coefficients, intercept = by_augmented_fit(exact[kept], y[kept], weights[kept], scale, shrink)
        np.testing.assert_allclose(found.fold_scores[~kept], exact[~kept] @ coefficients + intercept, atol=1e-8)
    assert left_out(x, labels, CLASSES, PENALTIES, weights, device=device).fold_scores is None

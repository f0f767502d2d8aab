"""The validation accuracy at every size, against readouts that are solved for each size."""

import numpy as np
import pytest
import torch

from rcdp_hpc.reservoir.elimination import sums_of_features
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.ridge import one_hot, solve
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.training.solve.size_curve import SizeCurve, select_penalty, size_curve, validation_rows

FEATURES, CLASSES, PENALTY = 150, 3, 1e-3
COMM = SingleProcess()


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(0)
    mixing = generator.standard_normal((FEATURES, FEATURES)) / 12
    x = (generator.standard_normal((700, FEATURES)) @ mixing + 2).astype(np.float32)
    labels = (x[:, :CLASSES] + 0.5 * generator.standard_normal((700, CLASSES))).argmax(1)
    return x[:400], labels[:400], x[400:], labels[400:]


@pytest.fixture(scope="module")
def sums(rows):
    sums = GramSums(FEATURES, CLASSES)
    sums.add(rows[0], one_hot(rows[1], CLASSES))
    return sums


@pytest.fixture(scope="module", params=[None, torch.device("cpu")], ids=["numpy", "torch"])
def validation(request, rows, sums):
    _, _, x, labels = rows
    halves = [(torch.from_numpy(x[part]), torch.from_numpy(labels[part])) for part in (slice(0, 140), slice(140, 300))]
    return validation_rows(sums, [halves[:1], halves[1:]], None, request.param)


@pytest.mark.parametrize("size", [1, 3])
def test_accuracies_are_those_of_readouts_solved_for_each_size(rows, sums, validation, size):
    groups = np.random.default_rng(1).permutation(FEATURES).reshape(-1, size)
    curve = size_curve(COMM, sums, PENALTY, validation, groups)
    assert len(curve.accuracies) == len(groups)
    wrong = 0
    for count in range(1, len(groups) + 1):
        features = curve.features(count)
        assert len(features) == count * size
        scores = solve(sums_of_features(sums, features), PENALTY).predict(rows[2][:, features])
        # The scores of a row may be equal to rounding.
        wrong += abs(curve.accuracy(count) - np.mean(scores.argmax(1) == rows[3])) > 1e-6
    assert wrong <= 1


def test_without_groups_each_feature_is_one(sums, validation):
    curve = size_curve(COMM, sums, PENALTY, validation)
    assert curve.groups.tolist() == [[feature] for feature in range(FEATURES)]
    assert sorted([*curve.order.tolist(), *curve.left(1).tolist()]) == list(range(FEATURES))
    assert (np.diff(curve.left(30)) > 0).all()


def test_the_smallest_size_within_a_loss_is_by_validation():
    accuracies = np.array([0.9, 0.92, 0.89, 0.9, 0.7, 0.5])
    curve = SizeCurve(np.arange(6)[:, None], np.arange(5), np.zeros(5), accuracies)
    assert curve.smallest(0) == 3
    assert curve.smallest(0.01) == 3
    assert curve.smallest(0.25) == 2
    assert curve.smallest(1) == 1
    assert curve.accuracy(4) == 0.89


def test_the_penalty_has_the_least_error_on_validation(rows, sums, validation):
    features = np.arange(0, FEATURES, 2)
    penalties = [1e-6, 1e-3, 1e-1, 10.0]
    selected = select_penalty(COMM, sums, validation, features, penalties)
    part = sums_of_features(sums, features)
    scores = {penalty: solve(part, penalty).predict(rows[2][:, features]) for penalty in penalties}
    assert selected.accuracy == np.mean(scores[selected.penalty].argmax(1) == rows[3])

    def error(scores):
        """The least squared error over all factors of the deviations from the class shares."""
        shares = np.bincount(rows[1]) / len(rows[1])
        deviations, targets = scores - shares, one_hot(rows[3], CLASSES) - shares
        factor = (deviations * targets).sum() / (deviations**2).sum()
        return ((factor * deviations - targets) ** 2).sum()

    assert selected.penalty == min(penalties, key=lambda penalty: error(scores[penalty]))


def test_a_rank_without_validation_rows_adds_nothing(sums):
    for device in (None, torch.device("cpu")):
        nothing = validation_rows(sums, [], None, device)
        assert nothing.rows.shape == (0, FEATURES)
        assert size_curve(COMM, sums, PENALTY, nothing).accuracies.tolist() == [0.0] * FEATURES


def test_weighted_error_sums_of_a_device_are_those_of_numpy(rows, sums):
    weights, features = np.array([0.5, 1.0, 2.0]), np.arange(0, FEATURES, 3)
    readout = solve(sums_of_features(sums, features), PENALTY)
    blocks = [(torch.from_numpy(rows[2]), torch.from_numpy(rows[3]))]
    numpy_sums, torch_sums = (
        validation_rows(sums, [blocks], weights, device).error_sums(readout, features)
        for device in (None, torch.device("cpu"))
    )
    np.testing.assert_allclose(torch_sums, numpy_sums, rtol=1e-6)

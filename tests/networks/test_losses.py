from __future__ import annotations

import numpy as np
import pytest
import torch
from settings import config_of
from torch.nn import functional

from rcdp_hpc.config import LossSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.class_weights import class_weights, report_settings_without_effect
from rcdp_hpc.networks.by_device import ByDevice
from rcdp_hpc.networks.losses import loss_of
from rcdp_hpc.networks.losses.focal import Focal
from rcdp_hpc.networks.losses.rms import RootSquaredError
from rcdp_hpc.training.optim.objective import Objective

COUNTS = np.array([6, 3, 1])


def objective(counts=COUNTS, **keys) -> Objective:
    return Objective(config_of(data__balance="none", **keys), np.array(counts))


def test_cross_entropy_and_eq12_by_hand():
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([0, 0])
    expected = torch.log1p(torch.exp(torch.tensor(-2.0))) + torch.log1p(torch.exp(torch.tensor(1.0)))
    torch.testing.assert_close(objective([1, 1]).sum(scores, labels), expected)
    # Differences to the one-hot (1, 0): (1, 0) and (-1, 1).
    torch.testing.assert_close(objective([1, 1], loss__kind="eq12").sum(scores, labels), torch.tensor(1.0 + 2**0.5))


def test_eq12_has_a_finite_gradient_for_an_exact_prediction():
    scores = torch.tensor([[1.0, 0.0]], requires_grad=True)
    RootSquaredError()(scores, torch.tensor([[1.0, 0.0]])).sum().backward()
    assert torch.isfinite(scores.grad).all()


def test_focal_by_hand():
    # p = (3/4, 1/4): the loss of class 0 is (1/4)^2 log(4/3), of class 1 (3/4)^2 log 4.
    scores = torch.log(torch.tensor([[3.0, 1.0], [3.0, 1.0]], dtype=torch.float64))
    expected = torch.tensor([0.0625 * np.log(4 / 3), 0.5625 * np.log(4)])
    torch.testing.assert_close(Focal(2.0)(scores, torch.eye(2, dtype=torch.float64)), expected)


def test_focal_with_gamma_0_is_the_cross_entropy():
    scores, labels = torch.randn(9, 3), torch.arange(9) % 3
    torch.testing.assert_close(
        objective(loss__kind="focal", loss__focal_gamma=0).sum(scores, labels), objective().sum(scores, labels)
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_finite_for_a_certain_row(gamma):
    scores = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]], requires_grad=True)
    value = objective(loss__kind="focal", loss__focal_gamma=gamma).sum(scores, torch.tensor([0, 0]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()


def test_label_smoothing_is_torchs():
    scores, labels = torch.randn(9, 3), torch.arange(9) % 3
    expected = functional.cross_entropy(scores, labels, reduction="sum", label_smoothing=0.2)
    torch.testing.assert_close(objective(loss__label_smoothing=0.2).sum(scores, labels), expected)


def test_balanced_weights_make_the_loss_of_every_class_count_alike():
    weighted = objective(loss__class_weights="balanced")
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    scores = torch.randn(10, 3)
    per_class = [functional.cross_entropy(scores[labels == c], labels[labels == c]) for c in range(3)]
    mean = weighted.sum(scores, labels) / weighted.weights(labels).sum()
    torch.testing.assert_close(mean.float(), torch.stack(per_class).mean())


def test_shares_of_a_batch_add_up_to_the_whole():
    whole = objective(loss__class_weights="balanced", loss__kind="focal", loss__label_smoothing=0.1)
    scores, labels = torch.randn(10, 3, dtype=torch.float64), torch.tensor([0] * 6 + [1] * 3 + [2])
    parts = [whole.sum(scores[rows], labels[rows]) for rows in (slice(0, 7), slice(7, 7), slice(7, 10))]
    torch.testing.assert_close(sum(parts), whole.sum(scores, labels))


@pytest.mark.parametrize("keys", [{"loss__class_weights": "effective"}, {"loss__kind": "ldam"}])
def test_a_class_without_rows_has_neither_weight_nor_margin(keys):
    with pytest.raises(InputError, match="class number 1 has none"):
        objective([4, 0, 2], **keys)


def test_effective_weights_are_between_even_and_balanced_ones():
    none, balanced = (class_weights(LossSection(class_weights="effective", effective_beta=beta), COUNTS)
                      for beta in (1e-9, 1 - 1e-12))  # fmt: skip
    np.testing.assert_allclose(none, [1, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(balanced, COUNTS.sum() / (3 * COUNTS), rtol=1e-6)


def test_balanced_softmax_by_hand():
    # 6 e^0 : 3 e^0 : 1 e^log(6) are 6 : 3 : 6.
    scores, labels = torch.tensor([[0.0, 0.0, float(np.log(6))]]), torch.tensor([2])
    expected = torch.tensor(float(np.log(15 / 6)))
    torch.testing.assert_close(objective(loss__kind="balanced_softmax").sum(scores, labels), expected)
    torch.testing.assert_close(objective(loss__kind="logit_adjusted").sum(scores, labels), expected)
    # With tau = 2: 36 : 9 : 6.
    twice = objective(loss__kind="logit_adjusted", loss__logit_tau=2).sum(scores, labels)
    torch.testing.assert_close(twice, torch.tensor(float(np.log(51 / 6))))


def test_ldam_by_hand():
    # 16 rows have half the margin of one row.
    scores, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    expected = functional.cross_entropy(torch.tensor([[-1.0, 0.0], [1.0, -4.0]]), labels, reduction="sum")
    torch.testing.assert_close(objective([16, 1], loss__kind="ldam", loss__ldam_margin=4).sum(scores, labels), expected)


@pytest.mark.parametrize("kind", ["logit_adjusted", "balanced_softmax", "ldam"])
def test_probabilities_do_not_depend_on_the_class_sizes(kind):
    scores = torch.randn(4, 3)
    assert torch.equal(objective(loss__kind=kind).loss.probabilities(scores), torch.softmax(scores, 1))
    assert torch.equal(loss_of(LossSection(kind=kind)).probabilities(scores), torch.softmax(scores, 1))


def test_weights_begin_with_their_epoch_in_the_training_only():
    deferred = objective(loss__class_weights="balanced", loss__weights_from_epoch=2, training__epochs=3)
    labels = torch.tensor([0, 1, 2])
    plain, weighted = torch.ones(3, dtype=torch.float64), torch.from_numpy(10 / (3 * COUNTS))
    for epoch, expected in enumerate((plain, plain, weighted)):
        deferred.begin_epoch(epoch)
        torch.testing.assert_close(deferred.weights(labels, of_epoch=True), expected)
        torch.testing.assert_close(deferred.weights(labels), weighted)
        by_row = functional.cross_entropy(torch.eye(3), labels, reduction="none")
        torch.testing.assert_close(
            deferred.sum(torch.eye(3), labels, of_epoch=True).double(), (by_row * expected).sum()
        )


@pytest.mark.parametrize(
    ("counts", "words"), [([5, 5, 5], "'balanced' has no effect: every class has 5"), (COUNTS, "")]
)
def test_weights_of_even_rows_are_reported(caplog, counts, words):
    config = config_of(loss__class_weights="balanced", data__balance="none")
    report_settings_without_effect(config, np.array(counts))
    assert words in caplog.text
    assert bool(caplog.text) == bool(words)


def test_values_are_replaced_where_recorded_steps_read_them():
    tensors = ByDevice(torch.zeros(3))
    (before,) = tensors.on(torch.device("cpu"))
    tensors.assign(torch.ones(3))
    (after,) = tensors.on(torch.device("cpu"))
    assert before.data_ptr() == after.data_ptr()
    assert torch.equal(before, torch.ones(3))

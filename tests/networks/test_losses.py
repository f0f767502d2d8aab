from __future__ import annotations

import numpy as np
import pytest
import torch
from settings import config_of
from torch.nn import functional

from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.losses.focal import Focal
from rcdp_hpc.networks.losses.rms import RootSquaredError
from rcdp_hpc.training.optim.objective import Objective

COUNTS = np.array([6, 3, 1])


def objective(counts=COUNTS, **keys) -> Objective:
    return Objective(config_of(**keys), np.array(counts))


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


def test_a_class_without_rows_cannot_be_balanced_by_weights():
    with pytest.raises(InputError, match="class number 1 has none"):
        objective([4, 0, 2], loss__class_weights="balanced")

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from settings import config_of

from rcdp_hpc.errors import InputError
from rcdp_hpc.training.optim.distillation import distillation_loss
from rcdp_hpc.training.optim.objective import Objective
from rcdp_hpc.training.teacher import TeacherTargets

TEACHER = {"loss__teacher": ["model.pt"], "loss__teacher_weight": 0.75, "loss__teacher_temperature": 2.0}


class OwnLink:
    """A loss of a user whose probabilities are not the softmax of the scores."""

    def __call__(self, scores, targets):
        return ((scores - targets) ** 2).sum(1)

    def probabilities(self, scores):
        return torch.softmax(2 * scores, 1)


def test_the_loss_by_hand():
    # q = (1/2, 1/2) and p = (4/5, 1/5): KL = 0.8 log 1.6 + 0.2 log 0.4, times 2^2.
    loss = distillation_loss(torch.tensor([[3.0, 3.0]]), torch.tensor([[0.8, 0.2]]), 2.0)
    torch.testing.assert_close(loss, torch.tensor([4 * (0.8 * math.log(1.6) + 0.2 * math.log(0.4))]))
    # A teacher that is certain: -log q.
    loss = distillation_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]), 1.0)
    torch.testing.assert_close(loss, torch.tensor([math.log(2)]))


def test_the_loss_of_the_teachers_own_scores_is_0():
    scores = torch.randn(6, 4, dtype=torch.float64)
    teacher = torch.softmax(scores / 3, 1)
    torch.testing.assert_close(distillation_loss(scores, teacher, 3.0), torch.zeros(6, dtype=torch.float64))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_gradient_is_that_of_the_formula(temperature):
    scores = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.softmax(torch.randn(7, 3, dtype=torch.float64), 1)
    exponentials = torch.exp(scores / temperature)
    q = exponentials / exponentials.sum(1, keepdim=True)
    formula = (temperature**2 * (teacher * (torch.log(teacher) - torch.log(q))).sum(1)).sum()
    (expected,) = torch.autograd.grad(formula, scores)
    (gradient,) = torch.autograd.grad(distillation_loss(scores, teacher, temperature).sum(), scores)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(gradient, temperature * (q - teacher).detach())


def test_the_objective_mixes_labels_and_teacher():
    scores, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    teacher = torch.tensor([[0.8, 0.2], [0.5, 0.5]])
    objective = Objective(config_of(**TEACHER), np.array([5, 5]))
    plain = objective.sum(scores, labels)
    expected = 0.25 * plain + 0.75 * distillation_loss(scores, teacher, 2.0).sum()
    torch.testing.assert_close(objective.sum(scores, labels, teacher=teacher), expected)
    # Class 0 has a quarter of the rows: its rows weigh 2.
    weighted = Objective(config_of(**TEACHER, loss__class_weights="balanced"), np.array([5, 15]))
    torch.testing.assert_close(weighted.sum(scores, labels, teacher=teacher), 2 * expected)


def test_a_loss_with_a_link_of_its_own_has_no_teacher():
    settings = config_of(**{**TEACHER, "loss__kind": f"{__name__}:OwnLink"})
    with pytest.raises(InputError, match=r"loss\.teacher needs a loss whose probabilities are the softmax"):
        Objective(settings, np.array([5, 5]))


def test_the_teachers_probabilities_at_a_temperature():
    z = torch.tensor([[2.0, 0.0, -1.0], [0.0, 5.0, 1.0]])
    targets = TeacherTargets(torch.log_softmax(z, 1), first=10, temperature=4.0)
    torch.testing.assert_close(targets.of(torch.tensor([11, 10])), torch.softmax(z.flip(0) / 4, 1))

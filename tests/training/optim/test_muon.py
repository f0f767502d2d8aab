"""The optimiser Muon."""

from __future__ import annotations

import pytest
import torch

from rcdp_hpc.training.optim.optimizers.muon import Muon
from rcdp_hpc.training.optim.optimizers.orthogonal import orthogonalised


@pytest.mark.parametrize("shape", [(6, 6), (4, 30), (30, 4)])
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 0.35), (torch.bfloat16, 0.4)])
def test_singular_values_become_about_one_and_directions_stay(shape, dtype, allowed):
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    wide = left @ torch.diag(torch.linspace(1, 3, min(shape))) @ right
    found = orthogonalised(wide, dtype)
    assert found.dtype == wide.dtype
    core = left.T @ found @ right.T
    assert (torch.linalg.svdvals(found) - 1).abs().max() < allowed
    assert (core - torch.diag(core.diag())).abs().max() < 0.05


def test_a_matrix_of_zeros_stays_zero():
    assert not orthogonalised(torch.zeros(3, 4)).any()


def test_two_steps_of_a_kernel_by_hand():
    torch.manual_seed(0)
    weights = torch.nn.Parameter(torch.ones(2, 3, 1, 2))
    muon = Muon([weights], lr=0.1, momentum=0.5, weight_decay=0.2)
    gradients = [torch.randn(2, 3, 1, 2) for _ in range(2)]
    expected, moving = torch.ones(2, 6), torch.zeros(2, 6)
    for gradient in gradients:
        weights.grad = gradient
        muon.step()
        flat = gradient.view(2, 6)
        moving = 0.5 * moving + flat
        direction = orthogonalised(flat + 0.5 * moving)
        expected = expected - 0.1 * (0.2 * 6**0.5 * direction + 0.2 * expected)
    torch.testing.assert_close(weights.detach().view(2, 6), expected)


def test_vectors_are_left_to_adamw():
    torch.manual_seed(0)
    ours, theirs = torch.nn.Parameter(torch.ones(5)), torch.nn.Parameter(torch.ones(5))
    muon = Muon([ours], lr=0.01, weight_decay=0.1)
    adamw = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for _ in range(4):
        ours.grad = theirs.grad = torch.randn(5)
        muon.step(), adamw.step()
    torch.testing.assert_close(ours, theirs)

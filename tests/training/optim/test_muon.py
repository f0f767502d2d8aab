"""The optimiser Muon."""

from __future__ import annotations

import pytest
import torch

from rcdp_hpc.training.optim.optimizers.muon import Muon
from rcdp_hpc.training.optim.optimizers.orthogonal import Orthogonaliser, orthogonalised, stacks_of

KERNELS = [(64, 24, 3, 3), (64, 64, 3, 3), (256, 64, 3, 3), *[(256, 256, 3, 3)] * 3]
CIFAR10 = [*KERNELS, (256, 2000), (256, 256), (256, 256), (10, 256)]


def iterated(matrix: torch.Tensor) -> torch.Tensor:
    """The iterations of one matrix by itself, in float64."""
    x = matrix.double().flatten(1)
    x = x / x.norm()
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.view(matrix.shape)


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


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_stacks_give_what_each_matrix_gives_by_itself(dtype, allowed):
    shapes = [(6, 4, 3, 3), (5, 36), (40, 6), (6, 36), (6, 36), (30, 4), (2, 2), (1, 7)]
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    together = Orthogonaliser(shapes, dtype, torch.device("cpu"))
    assert len(together.pieces) < len(set(shapes))
    for _ in range(2):
        results = together([matrix.clone() for matrix in matrices])
        for matrix, result in zip(matrices, results, strict=True):
            assert result.shape == matrix.shape
            torch.testing.assert_close(result.double(), iterated(matrix), atol=allowed, rtol=0)


def test_shapes_share_stacks_as_far_as_zeros_cost_little():
    for shapes, count in ((CIFAR10, 2), ([(8, 8)] * 5, 1), ([(20, 20), (24, 20)], 1), ([(2, 2), (500, 500)], 2)):
        stacks = stacks_of(shapes)
        assert len(stacks) == count
        assert sorted(number for stack in stacks for number in stack.members) == list(range(len(shapes)))
        single = sum(stack.work for shape in shapes for stack in stacks_of([shape]))
        assert sum(stack.work for stack in stacks) <= 1.5 * single


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

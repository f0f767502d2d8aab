"""Which weights are kept by their magnitude, and how many at each step."""

from __future__ import annotations

import pytest
import torch

from rcdp_hpc.training.pruning.magnitude import largest_weights, sparsity_at


def test_the_schedule_is_cubic():
    assert [sparsity_at(step, 4, 0.8) for step in (0, 1, 2, 4, 9)] == pytest.approx(
        [0, 0.8 * (1 - 0.75**3), 0.8 * 0.875, 0.8, 0.8]
    )
    assert sparsity_at(0, 0, 0.9) == 0.9


def test_within_a_matrix_the_largest_magnitudes_are_kept():
    mask = largest_weights({"a": torch.tensor([[1.0, -4.0], [3.0, 0.0]])}, 2)["a"]
    assert mask.tolist() == [[False, True], [True, False]]


def test_matrices_of_other_scales_share_the_weights():
    generator = torch.Generator().manual_seed(1)
    small, large = torch.randn(20, 20, generator=generator), 100 * torch.randn(20, 20, generator=generator)
    masks = largest_weights({"small": small, "large": large}, 80)
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    assert sum(counts.values()) == 80
    assert min(counts.values()) > 20


def test_the_values_are_the_squares_relative_to_the_larger_ones():
    # Of a: 9 / 9 = 1 and 1 / 10; of b: 4 / 4 = 1 and 4 / 8, the second of two equal entries.
    weights = {"a": torch.tensor([[3.0, 1.0]]), "b": torch.tensor([[2.0, 2.0]])}
    assert largest_weights(weights, 3)["a"].tolist() == [[True, False]]
    assert largest_weights(weights, 2)["b"].tolist() == [[True, False]]


def test_zeros_are_never_kept_before_others():
    masks = largest_weights({"a": torch.zeros(2, 2), "b": torch.tensor([[1e-30, 5.0]])}, 2)
    assert not masks["a"].any()
    assert masks["b"].all()

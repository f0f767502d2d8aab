"""Batched readouts against those of one candidate, on equal states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.left_out import left_out, solve_rows
from rcdp_hpc.reservoir.ridge import best_by, one_hot, scaled_error, scaling_sums, solve
from rcdp_hpc.search.evaluation import batched_cholesky
from rcdp_hpc.search.evaluation.batched_cholesky import inverse_factors, squared_lengths
from rcdp_hpc.search.evaluation.batched_left_out import BatchedRows
from rcdp_hpc.search.evaluation.batched_ridge import BatchedReadouts, BatchedSums, best_scores

PENALTIES = [1e-6, 1e-4, 1e-2, 1.0, 100.0]
CLASSES = 3


def problem(rows: int, width: int, weighted: bool):
    """Return states of three candidates with a constant feature, labels, targets and row weights."""
    generator = np.random.default_rng(rows + width)
    labels = np.arange(rows) % CLASSES
    states = generator.normal(size=(3, rows, width)) + np.array([1.0, 0.3, 0.05])[:, None, None] * labels[:, None]
    states[:, :, 1] = 2.5
    weights = generator.uniform(0.5, 2, rows) if weighted else None
    return torch.from_numpy(states.astype(np.float32)), labels, weights


@pytest.fixture(autouse=True, params=[128, 16])
def leaf(request, monkeypatch):
    """Set the size of the blocks that are factorised by a library: large enough, or too small for these problems."""
    monkeypatch.setattr(batched_cholesky, "LEAF", request.param)
    return request.param


def test_inverse_factors():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 60, 50)))
    matrices = torch.bmm(x.mT, x)
    inverse = inverse_factors(matrices)
    expected = torch.linalg.inv(torch.linalg.cholesky(matrices))
    np.testing.assert_allclose(inverse.numpy(), expected.numpy(), rtol=1e-9, atol=1e-11)
    lengths = (x @ inverse.mT).square().sum(2)
    np.testing.assert_allclose(squared_lengths(x, inverse).numpy(), lengths.numpy(), rtol=1e-12)
    matrices[1] -= 200 * torch.eye(50, dtype=torch.float64)
    found = inverse_factors(matrices)
    assert torch.equal(found[0], inverse[0])
    assert found[1].isnan().any()


def tensors(labels, weights):
    targets = torch.from_numpy(one_hot(labels, CLASSES)).double()
    return targets, None if weights is None else torch.from_numpy(weights)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("rows", "width"), [(90, 20), (30, 50)])
def test_left_out(rows, width, weighted):
    states, labels, weights = problem(rows, width, weighted)
    batch = BatchedRows(states, *tensors(labels, weights))
    penalties, scores = batch.left_out(PENALTIES)
    readouts, intercepts = batch.solved(penalties)
    for place, one in enumerate(states):
        alone = left_out(one, labels, CLASSES, PENALTIES, weights)
        assert penalties[place] == alone.penalty
        np.testing.assert_allclose(scores[place].numpy(), alone.scores, rtol=1e-6, atol=1e-8)
        fitted = solve_rows(one, labels, CLASSES, alone.penalty, weights)
        np.testing.assert_allclose(readouts[place].numpy(), fitted.weights, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(intercepts[place].numpy(), fitted.intercept, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_penalty_of_held_out_rows(weighted):
    states, labels, weights = problem(120, 25, weighted)
    fitted, held_out = slice(0, 80), slice(80, None)
    targets, tensor = tensors(labels, weights)
    shares = None if tensor is None else tensor[held_out]
    held_out_weights = None if weights is None else weights[held_out]
    sums = BatchedSums(3, 25, CLASSES, torch.device("cpu"))
    for rows in (slice(0, 50), slice(50, 80)):
        sums.add(states[:, rows], targets[rows], None if tensor is None else tensor[rows].sqrt())
    _, scores = best_scores(BatchedReadouts(sums), states[:, held_out], targets[held_out], shares, PENALTIES)
    for place, one in enumerate(states):
        alone = GramSums(25, CLASSES)
        alone.add(one[fitted], targets[fitted], None if weights is None else weights[fitted])
        found = {}

        def error_of(penalty, alone=alone, found=found, one=one):
            found[penalty] = solve(alone, penalty).predict(one[held_out])
            expected = targets[held_out].numpy()
            return scaled_error(*scaling_sums(found[penalty], expected, alone.y / alone.count, held_out_weights))

        penalty, _ = best_by(error_of, PENALTIES)
        np.testing.assert_allclose(scores[place].numpy(), found[penalty], rtol=1e-4, atol=1e-5)


def test_candidates_without_a_solution_change_no_bit_of_the_others():
    states, labels, _ = problem(60, 10, False)
    targets, _ = tensors(labels, None)
    broken = states.clone()
    broken[1, 5, 3] = torch.inf
    scores = [BatchedRows(one, targets, None).left_out(PENALTIES)[1] for one in (states, broken)]
    assert torch.equal(scores[0][::2], scores[1][::2])
    assert not torch.isfinite(scores[1][1]).any()
    with pytest.raises(CandidateError, match="not finite"):
        left_out(broken[1], labels, CLASSES, PENALTIES)

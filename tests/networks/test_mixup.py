"""Mixup: partners, weights and targets, which do not depend on the rank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import beta
from settings import config_of

from rcdp_hpc.config import load_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.single import single_process
from rcdp_hpc.training.optim.objective import Objective
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.partition.mixup import Mixup
from rcdp_hpc.training.states.cache import CachedStates
from rcdp_hpc.training.step import Stepper

ROWS = 50


def plan(rank: int = 0, ranks: int = 1) -> BatchPlan:
    return BatchPlan(ROWS, global_batch=10, partitions=4, rank=rank, ranks=ranks, seed=1)


def rng_of(samples: torch.Tensor, epoch: int = 0) -> SampleRng:
    return SampleRng.at(1, epoch, samples)


def test_partners_are_any_rows_of_the_same_partition():
    one, met = plan(), {}
    for epoch in range(200):
        partners, _ = Mixup(0.4, one).pairs(rng_of(torch.arange(ROWS), epoch), torch.arange(ROWS))
        for sample, partner in enumerate(partners.tolist()):
            met.setdefault(sample, set()).add(partner)
    for partition in one.local_partitions:
        start, stop = one.partition_bounds(partition)
        assert all(met[sample] == set(range(start, stop)) for sample in range(start, stop))


@pytest.mark.parametrize("ranks", [2, 3])
def test_partner_and_weight_do_not_depend_on_rank_or_batch(ranks):
    whole = Mixup(0.4, plan()).pairs(rng_of(torch.arange(ROWS)), torch.arange(ROWS))
    for rank in range(ranks):
        part = plan(rank, ranks)
        own = torch.arange(*part.local_rows, 3)
        found = Mixup(0.4, part).pairs(rng_of(own), own)
        for values, expected in zip(found, whole, strict=True):
            assert torch.equal(values, expected[own])
        assert part.local_rows[0] <= int(found[0].min()) <= int(found[0].max()) < part.local_rows[1]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_weights_are_the_larger_part_of_a_beta_number(alpha):
    shares = torch.cat(
        [Mixup(alpha, plan()).pairs(rng_of(torch.arange(ROWS), epoch), torch.arange(ROWS))[1] for epoch in range(60)]
    )
    assert float(shares.min()) >= 0.5
    levels = np.linspace(0.1, 0.9, 9)
    # Of max(m, 1 - m) the level q is that of m at (1 + q) / 2, as the distribution is even about one half.
    expected = beta(alpha, alpha).ppf((1 + levels) / 2)
    np.testing.assert_allclose(np.quantile(shares.numpy(), levels), expected, atol=0.02)


def test_a_step_uses_mixed_rows_and_mixed_targets():
    torch.manual_seed(0)
    states, labels = torch.randn(ROWS, 3), torch.arange(ROWS) % 2
    settings = config_of(loss__label_smoothing=0.1, loss__class_weights="balanced")
    objective = Objective(settings, np.array([20, 30]))
    network = torch.nn.Linear(3, 2)
    mixup, rows = Mixup(1.0, plan()), torch.tensor([4, 40, 17])

    class Scoring(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = network

        def forward(self, x, draw):
            return self.linear(x)

        def random_draws(self):
            return ()

    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    stepper = Stepper(
        settings, 1, Scoring(), optimizer, objective, CachedStates(states, labels, 0), single_process(), mixup
    )
    result = stepper.step([rows.numpy()], 3.0, 0.1)
    partners, shares = mixup.pairs(rng_of(rows), rows)
    expected = 0.0
    with torch.no_grad():
        network.weight += 0.1 * network.weight.grad
        network.bias += 0.1 * network.bias.grad
        for i, j, m in zip(rows.tolist(), partners.tolist(), shares.tolist(), strict=True):
            logs = torch.log_softmax(network(m * states[i] + (1 - m) * states[j]), 0)
            target = torch.zeros(2)
            target[labels[i]] += m
            target[labels[j]] += 1 - m
            expected -= float(((0.9 * target + 0.05) * logs).sum()) * 50 / (2 * [20, 30][labels[i]])
    assert result.loss_sum == pytest.approx(expected, rel=1e-5)


def test_mixup_needs_a_trained_extractor():
    with pytest.raises(InputError, match="needs a trained extractor"):
        load_config("digits", ["augment.mixup=0.2"])

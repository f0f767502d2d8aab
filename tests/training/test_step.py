from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from settings import config_of
from torch import nn

from rcdp_hpc.config import ParallelSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.parallel import horovod
from rcdp_hpc.parallel.horovod import HorovodEngine
from rcdp_hpc.parallel.local_sgd import LocalSGD
from rcdp_hpc.parallel.single import SingleProcessEngine, single_process
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.device import refuse_without_gpu
from rcdp_hpc.training.optim import loss_scale
from rcdp_hpc.training.optim.ema import MovingAverage
from rcdp_hpc.training.optim.loss_scale import FIRST_FACTOR, LossScale
from rcdp_hpc.training.optim.objective import Objective
from rcdp_hpc.training.states.cache import CachedStates
from rcdp_hpc.training.step import Stepper


def stepper(states: torch.Tensor, **keys) -> Stepper:
    settings = config_of(readout__hidden=4, readout__outputs=4, **keys)
    readout = build_readout(settings, FeatureShape(1, 1, states.shape[1]), 2, 1)
    labels = torch.arange(len(states)) % 2
    rows = CachedStates(states, labels, 0)
    optimizer = torch.optim.SGD(readout.parameters(), lr=0.1)
    return Stepper(
        settings, 1, readout.train(), optimizer, Objective(settings, np.array([5, 5])), rows, single_process()
    )


def test_a_step_that_is_not_finite_does_not_change_weights_and_statistics():
    states = torch.randn(10, 3)
    states[7] = math.inf
    steps = stepper(states)
    steps.step([np.arange(5)], 5.0, 0.1)
    before = {name: value.clone() for name, value in steps.network.state_dict().items()}
    result = steps.step([np.arange(5, 10)], 5.0, 0.1)
    assert result.fault == (1, "the states that the network reads")
    assert not math.isfinite(result.gradient_norm)
    assert all(torch.equal(value, before[name]) for name, value in steps.network.state_dict().items())


def test_batches_of_one_step_add_up_to_the_gradient_of_their_mean():
    states = torch.randn(10, 3)
    steps = stepper(states)
    batches = [np.arange(0, 6), np.arange(6, 10)]
    steps.step(batches, 10.0, 0.0)
    added = [weights.grad.clone() for weights in steps.network.parameters()]
    expected = [torch.zeros_like(value) for value in added]
    for rows in batches:
        single = stepper(states)
        single.step([rows], float(len(rows)), 0.0)
        for total, weights in zip(expected, single.network.parameters(), strict=True):
            total += weights.grad * len(rows) / 10
    for one, other in zip(added, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_with_16_bit_products_weights_and_scores_stay_32_bit():
    torch.manual_seed(3)
    states = torch.randn(10, 3)
    full, halved = stepper(states), stepper(states, training__precision="bf16")
    results = [steps.step([np.arange(10)], 10.0, 0.1) for steps in (full, halved)]
    assert results[0].loss_sum != results[1].loss_sum
    assert abs(results[0].loss_sum - results[1].loss_sum) < 0.5
    assert all(value.dtype == torch.float32 for value in halved.network.parameters())
    assert halved.scores(states).dtype == torch.float32


def test_the_moving_average_by_hand_and_applied_to_the_network():
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    average = MovingAverage(layer, decay=0.5)
    for value in (2.0, 4.0):
        layer.weight.data.fill_(value)
        average.update(layer, 1)
    # 1 -> 1.5 -> 2.75
    with average.applied(layer):
        assert layer.weight.item() == 2.75
    assert layer.weight.item() == 4
    average.update(layer, 2)
    assert average.weights["weight"].item() == 2.75 * 0.25 + 4 * 0.75


def test_weights_and_moments_are_averaged_over_ranks_by_rows():
    class Met(SingleProcessEngine):
        """With another rank of 30 rows, whose values are all 5."""

        def __init__(self) -> None:
            super().__init__()
            self.messages = 0

        def allreduce(self, values: torch.Tensor, name: str) -> torch.Tensor:
            self.messages += 1
            others = torch.full_like(values, 5.0 * 30)
            others[-1] = 30
            return values + others

    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0, momentum=0.9)
    layer.weight.grad, layer.bias.grad = torch.full((1, 2), 3.0), torch.full((1,), 2.0)
    optimizer.step()
    layer.weight.data.fill_(1.0), layer.bias.data.fill_(-3.0)
    parallel = Met()
    LocalSGD(parallel).average(layer, optimizer, rows=10)
    assert parallel.messages == 1
    torch.testing.assert_close(layer.weight.data, torch.full((1, 2), (1.0 * 10 + 5 * 30) / 40))
    torch.testing.assert_close(layer.bias.data, torch.full((1,), (-3.0 * 10 + 5 * 30) / 40))
    moment = optimizer.state[layer.weight]["momentum_buffer"]
    torch.testing.assert_close(moment, torch.full((1, 2), (3.0 * 10 + 5 * 30) / 40))


def test_float16_scales_the_loss_and_skips_no_step():
    torch.manual_seed(3)
    states = torch.randn(10, 3)
    full, halved = stepper(states), stepper(states, training__precision="fp16")
    # Times 2^16 these gradients are beyond float16, whose largest number is 65504.
    results = [steps.step([np.arange(10)], 0.01, 1e-5) for steps in (full, halved)]
    assert results[1].fault is None
    assert 1 <= halved.scale.factor < FIRST_FACTOR
    assert results[1].gradient_norm == pytest.approx(results[0].gradient_norm, rel=0.02)
    for one, other in zip(full.network.parameters(), halved.network.parameters(), strict=True):
        assert other.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.02, atol=1e-3)
    torch.testing.assert_close(full.network.state_dict(), halved.network.state_dict(), rtol=0.02, atol=1e-3)


def test_a_fault_that_no_loss_scale_avoids_is_reported():
    states = torch.randn(10, 3)
    states[2] = math.inf
    steps = stepper(states, training__precision="fp16")
    result = steps.step([np.arange(10)], 10.0, 0.1)
    assert result.fault == (1, "the states that the network reads")


def test_the_loss_scale_doubles_after_finite_steps_and_is_resumed(monkeypatch):
    monkeypatch.setattr(loss_scale, "GROWTH_STEPS", 3)
    scale, resumed = LossScale(enabled=True), LossScale(enabled=True)
    scale.grow()
    scale.grow()
    resumed.restore(scale.state())
    resumed.grow()
    assert resumed.factor == 2 * FIRST_FACTOR
    assert resumed.lower()
    assert resumed.factor == FIRST_FACTOR
    assert not LossScale(enabled=False).lower()


def test_float16_is_refused_without_a_gpu():
    halved = config_of(training__precision="fp16")
    refuse_without_gpu(halved, torch.device("cuda", 0))
    refuse_without_gpu(config_of(), torch.device("cpu"))
    with pytest.raises(InputError, match=r"for GPUs.*bf16"):
        refuse_without_gpu(halved, torch.device("cpu"))


def test_recorded_steps_are_refused_without_a_gpu():
    refuse_without_gpu(config_of(training__graph="on"), torch.device("cuda", 0))
    with pytest.raises(InputError, match=r"graph = 'on' is for GPUs.*'auto'"):
        refuse_without_gpu(config_of(training__graph="on"), torch.device("cpu"))


def test_hierarchical_sums_are_refused_without_a_gpu_and_if_horovod_has_no_nccl(monkeypatch):
    with pytest.raises(InputError, match=r"for GPUs.*false"):
        HorovodEngine(SingleProcess(), 60, ParallelSection(horovod={"hierarchical": True}))
    monkeypatch.setattr(horovod, "import_horovod", lambda: SimpleNamespace(nccl_built=lambda: 0))
    with pytest.raises(InputError, match="needs Horovod with NCCL"):
        HorovodEngine(SingleProcess(), 60, ParallelSection(horovod={"hierarchical": True}), torch.device("cuda", 0))

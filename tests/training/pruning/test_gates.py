"""The hard concrete gates: values, samples and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rcdp_hpc.config import PruningSection
from rcdp_hpc.training.pruning.gates import GatePruner, gate_probability, gate_sample, gate_value


def test_samples_have_the_probabilities_of_the_formula():
    log_alpha = torch.tensor([-2.0, 0.0, 2.0]).double()
    uniform = (torch.arange(100_000).double() + 0.5)[:, None] / 100_000
    gates, _ = gate_sample(log_alpha, uniform.expand(-1, 3))
    torch.testing.assert_close((gates > 0).double().mean(0), gate_probability(log_alpha), atol=1e-4, rtol=0)
    assert gates.min() == 0
    assert gates.max() == 1
    assert gate_value(torch.tensor([-9.0, 9.0])).tolist() == [0, 1]


def test_the_derivative_of_a_sample_is_that_of_the_formula():
    log_alpha = torch.linspace(-3, 3, 50).double().requires_grad_()
    gates, derivatives = gate_sample(log_alpha, torch.linspace(0.05, 0.95, 50).double())
    gates.sum().backward()
    torch.testing.assert_close(log_alpha.grad, derivatives.detach())


def pruner(penalty: float = 1.0) -> tuple[nn.Linear, GatePruner]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Linear(6, 4)
    return layer, GatePruner(PruningSection(method="l0", epochs=1, l0_penalty=penalty), layer, 10, seed=3)


def test_gradients_follow_from_the_chain_rule():
    layer, gated = pruner()
    x = torch.ones(2, 6)
    gated.begin_step(0)
    weights = layer.weight.detach().clone()
    gated.begin_pass()
    gates = layer.weight.detach() / weights
    layer(x).square().sum().backward()
    product = layer.weight.grad.clone()
    gated.end_pass()
    assert torch.equal(layer.weight.detach(), weights)
    torch.testing.assert_close(layer.weight.grad, product * gates)
    _, derivatives = gate_sample(gated.gates["weight"], torch.full((4, 6), 0.5))
    assert gated.gradients[0].shape == derivatives.shape
    assert torch.equal(gated.gradients[0], product * weights * gated.derivatives[0])


def test_gates_of_a_step_are_the_same_each_time_and_others_in_the_next():
    layer, gated = pruner()
    seen = []
    for step in (0, 0, 1):
        gated.begin_step(step)
        weights = layer.weight.detach().clone()
        gated.begin_pass()
        seen.append(layer.weight.detach().clone())
        layer.weight.data.copy_(weights)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_a_strong_penalty_closes_gates_of_weights_without_use():
    layer, gated = pruner(penalty=1e6)
    for step in range(11):
        gated.begin_step(step)
        gated.begin_pass()
        layer.weight.grad, layer.bias.grad = torch.zeros(4, 6), torch.zeros(4)
        gated.end_pass()
        gated.end_step(0.1)
    assert gated.kept == 0
    assert not gated.gates


def test_a_state_of_another_network_is_refused():
    _, gated = pruner()
    state = gated.state()
    with pytest.raises(ValueError, match="gate"):
        gated.restore({**state, "gate.weight": torch.zeros(2, 2)})

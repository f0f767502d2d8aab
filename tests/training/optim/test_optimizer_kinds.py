from __future__ import annotations

import math

import pytest
import torch
from settings import config_of

from rcdp_hpc.config import load_config
from rcdp_hpc.config.choices import OPTIMIZERS
from rcdp_hpc.errors import InputError
from rcdp_hpc.training.optim.gradients import add_penalty, clip, shrink
from rcdp_hpc.training.optim.optimizers import check_optimizer, make_optimizer
from rcdp_hpc.training.optim.optimizers.lamb import Lamb
from rcdp_hpc.training.optim.optimizers.muon import Muon


def test_two_lamb_steps_by_hand():
    weights = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    lamb = Lamb([weights], lr=0.1, betas=(0.5, 0.5), eps=0.0, weight_decay=0.1)
    weights.grad = torch.tensor([1.0, -2.0], dtype=torch.float64)
    lamb.step()
    # m / (1 - b1) = g and v / (1 - b2) = g^2, so r = sign(g) = (1, -1); u = r + 0.1 x = (1.3, -0.6), |x| = 5.
    trust = 5 / math.hypot(1.3, 0.6)
    first = [3 - 0.1 * trust * 1.3, 4 + 0.1 * trust * 0.6]
    torch.testing.assert_close(weights.data, torch.tensor(first, dtype=torch.float64))
    weights.grad = torch.tensor([2.0, 0.0], dtype=torch.float64)
    lamb.step()
    # m = (0.25 + 1, -0.5), v = (0.25 + 2, 1), both divided by 1 - 0.5^2.
    r = [(1.25 / 0.75) / math.sqrt(2.25 / 0.75), (-0.5 / 0.75) / math.sqrt(1 / 0.75)]
    u = [r[0] + 0.1 * first[0], r[1] + 0.1 * first[1]]
    trust = math.hypot(*first) / math.hypot(*u)
    expected = [first[0] - 0.1 * trust * u[0], first[1] - 0.1 * trust * u[1]]
    torch.testing.assert_close(weights.data, torch.tensor(expected, dtype=torch.float64))


def test_lamb_moves_weights_of_zero_by_the_plain_rate():
    weights = torch.nn.Parameter(torch.zeros(2))
    weights.grad = torch.tensor([1.0, -1.0])
    Lamb([weights], lr=0.1).step()
    torch.testing.assert_close(weights.data, torch.tensor([-0.1, 0.1]))


@pytest.mark.parametrize(("kind", "shape"), [(Lamb, (4,)), (Muon, (4, 3))])
def test_an_optimiser_continues_from_its_state_with_the_same_bits(kind, shape):
    torch.manual_seed(0)
    gradients = torch.randn(6, *shape)
    straight, halted = torch.nn.Parameter(torch.ones(shape)), torch.nn.Parameter(torch.ones(shape))
    one, two = kind([straight], lr=0.1), kind([halted], lr=0.1)
    for number, gradient in enumerate(gradients):
        if number == 3:
            state = two.state_dict()
            two = kind([halted], lr=0.1)
            two.load_state_dict(state)
        straight.grad, halted.grad = gradient.clone(), gradient.clone()
        one.step(), two.step()
    assert torch.equal(straight, halted)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        ("lamb", Lamb),
        ("muon", Muon),
    ],
)
def test_the_configuration_names_the_optimiser(name, kind):
    settings = config_of(
        optimizer__kind=name, optimizer__learning_rate=0.02, optimizer__weight_decay=0.03, optimizer__momentum=0.7
    )
    made = make_optimizer(settings, torch.nn.Linear(2, 2))
    assert isinstance(made, kind)
    assert made.defaults["lr"] == 0.02
    assert made.defaults["weight_decay"] == 0.03
    assert made.defaults.get("momentum", 0.7) == 0.7


@pytest.mark.parametrize("name", OPTIMIZERS.names)
def test_every_optimiser_of_the_table_keeps_the_contract(name):
    check_optimizer(config_of(optimizer__kind=name, optimizer__weight_decay=0.1))


def test_nesterov_needs_sgd_with_momentum():
    made = make_optimizer(config_of(optimizer__kind="sgd", optimizer__nesterov=True), torch.nn.Linear(2, 2))
    assert made.defaults["nesterov"]
    for changes in (["optimizer.kind=adam"], ["optimizer.kind=sgd", "optimizer.momentum=0"]):
        with pytest.raises(InputError, match=r"optimizer\.nesterov = true needs optimizer\.kind = 'sgd'"):
            load_config("digits", ["optimizer.nesterov=true", *changes])


def test_penalties_are_those_of_the_elastic_net_on_matrices_alone():
    layer = torch.nn.Linear(4, 1)
    layer.weight.data = torch.tensor([[2.0, -3.0, 0.1, -0.05]])
    bias = layer.bias.detach().clone()
    layer.weight.grad, layer.bias.grad = torch.zeros(1, 4), torch.zeros(1)
    trained = list(layer.parameters())
    add_penalty(trained, l2=0.5)
    torch.testing.assert_close(layer.weight.grad, 0.5 * layer.weight.detach())
    assert not layer.bias.grad.any()
    shrink(torch.optim.SGD(trained, lr=0.5), trained, 0.2)
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[1.9, -2.9, 0.0, 0.0]]))
    assert torch.equal(layer.bias.detach(), bias)


def test_the_proximal_step_of_adam_has_the_fixed_points_of_the_penalised_loss():
    """Of 1/2 (w - a)^2 c + l1 |w| with other scales c: w = sign(a) max(|a| - l1 / c, 0), zeros included."""
    targets, scales = torch.tensor([[1.0, 0.3, -2.0, 0.05]]), torch.tensor([[1.0, 0.1, 10.0, 1.0]])
    expected = targets.sign() * (targets.abs() - 0.1 / scales).clamp_min(0)
    for name in ("adam", "adamw", "sgd"):
        weights = torch.nn.Parameter(torch.ones(1, 4))
        settings = config_of(optimizer__kind=name, optimizer__learning_rate=0.01, optimizer__momentum=0.0)
        network = torch.nn.Module()
        network.weights = weights
        optimizer = make_optimizer(settings, network)
        for step in range(3000):
            optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 3000)
            weights.grad = scales * (weights.detach() - targets)
            optimizer.step()
            shrink(optimizer, [weights], 0.1)
        torch.testing.assert_close(weights.detach(), expected, atol=5e-3, rtol=0)
        assert (weights.detach() == 0).tolist() == (expected == 0).tolist(), name


def test_clipping_scales_all_gradients_by_one_factor():
    layer = torch.nn.Linear(1, 1)
    layer.weight.grad, layer.bias.grad = torch.tensor([[3.0]]), torch.tensor([4.0])
    assert clip(list(layer.parameters()), 0.0) == 5
    assert clip(list(layer.parameters()), 10.0) == 5
    assert layer.bias.grad.item() == 4
    assert clip(list(layer.parameters()), 1.0) == 5
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[0.6]]), rtol=1e-5, atol=0)
    torch.testing.assert_close(layer.bias.grad, torch.tensor([0.8]), rtol=1e-5, atol=0)

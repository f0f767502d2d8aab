"""Weights cast together have the values and gradients of torch.autocast."""

from __future__ import annotations

import torch
from torch import nn

from rcdp_hpc.training.optim.halved_weights import halved_weights


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 5), nn.Linear(5, 2, False))


def gradients(together: bool) -> list[torch.Tensor]:
    net, x = network(), torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    net[3].bias.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        cast = halved_weights(net, torch.bfloat16)
        scores = torch.func.functional_call(net, cast, (x,)) if together else net(x)
    scores.float().square().sum().backward()
    return [scores.detach(), *(value.grad for value in net.parameters() if value.requires_grad)]


def test_values_and_gradients_are_those_of_autocast():
    for one, other in zip(gradients(True), gradients(False), strict=True):
        assert one.dtype == other.dtype
        assert one.stride() == other.stride()
        assert torch.equal(one, other)


def test_only_trained_weights_of_linear_layers_and_convolutions_are_cast():
    net = network()
    net[3].bias.requires_grad_(False)
    cast = halved_weights(net, torch.float16)
    assert list(cast) == ["0.weight", "0.bias", "3.weight", "4.weight"]
    assert all(value.dtype == torch.float16 for value in cast.values())
    assert halved_weights(nn.ReLU(), torch.float16) == {}

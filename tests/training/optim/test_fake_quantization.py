from __future__ import annotations

import numpy as np
import pytest
import torch
from settings import config_of
from torch import nn

from rcdp_hpc.model.packing import Quantized
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.training.optim.fake_quantization import rounded_weights


def test_rounding_by_hand():
    layer = nn.Linear(3, 3)
    # The scales are 127 / 127 = 1, 0.01 and, of a channel of zeros, 1.
    layer.weight.data = torch.tensor([[127.0, 0.4, -0.6], [1.27, 0.014, -0.016], [0.0, 0.0, 0.0]])
    rounded = rounded_weights(layer)
    assert list(rounded) == ["weight"]
    torch.testing.assert_close(
        rounded["weight"], torch.tensor([[127.0, 0.0, -1.0], [1.27, 0.01, -0.02], [0.0, 0.0, 0.0]])
    )


def test_the_values_are_those_of_the_stored_codes():
    for shape in ((5, 7), (6, 3, 3, 3)):
        kernels = nn.ParameterDict({"w": nn.Parameter(torch.randn(shape) * torch.logspace(-6, 3, shape[0])[0])})
        values = rounded_weights(kernels)["w"].detach().numpy()
        np.testing.assert_array_equal(values, Quantized.of(kernels["w"].detach().numpy()).dense())


def test_the_gradient_is_that_by_the_rounded_weights():
    layer = nn.Linear(4, 2, bias=False)
    x, target = torch.randn(9, 4), torch.randn(9, 2)
    rounded = nn.Linear(4, 2, bias=False)
    rounded.weight.data = rounded_weights(layer)["weight"].detach()
    ((rounded(x) - target) ** 2).sum().backward()
    ((torch.func.functional_call(layer, rounded_weights(layer), (x,)) - target) ** 2).sum().backward()
    torch.testing.assert_close(layer.weight.grad, rounded.weight.grad)


def test_layers_in_several_places_and_shared_weights_are_rounded_once():
    twice, other = nn.Linear(3, 3), nn.Linear(3, 3)
    other.weight = twice.weight
    network = nn.Sequential(twice, nn.Tanh(), twice, other)
    x = torch.randn(2, 3)
    found = torch.func.functional_call(network, rounded_weights(network), (x,), tie_weights=False)
    exact = twice.weight.detach().clone()
    twice.weight.data = rounded_weights(twice)["weight"].detach()
    torch.testing.assert_close(found, network(x))
    twice.weight.data = exact
    assert all(value.is_leaf for value in network.parameters())


@pytest.mark.parametrize("kind", ["network", "lstm", "gru", "transformer", "convolution"])
def test_every_readout_computes_with_rounded_weights(kind):
    settings = config_of(readout__kind=kind, readout__hidden=8, readout__outputs=8, readout__heads=2)
    shape = FeatureShape(1, 4, 6)
    readout = build_readout(settings, shape, 3, 1).eval()
    states = torch.randn(5, 24)
    scores = torch.func.functional_call(readout, rounded_weights(readout), (states, None))
    other = build_readout(settings, shape, 3, 2).eval()
    other.load_state_dict({**readout.state_dict(), **rounded_weights(readout)})
    torch.testing.assert_close(scores, other(states))
    assert not torch.equal(scores, readout(states))
    scores.sum().backward()
    assert all(weights.grad is not None for weights in readout.parameters())

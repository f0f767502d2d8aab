"""Units that nothing reads can be removed from every kind of network without a change of its scores."""

from __future__ import annotations

import pytest
import torch
from settings import config_of

from rcdp_hpc.config import with_settings
from rcdp_hpc.deploy.compress.unit_layout import units_of
from rcdp_hpc.deploy.compress.units import without_units
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.reservoir.reductions import FeatureShape

STEPWISE = {"readout__outputs": 6, "readout__heads": 2, "readout__hidden": 8, "readout__layers": 2}
CONVOLUTION = {"extractor__kind": "convolution", "extractor__channels": [4, 6], "search__generations": 0}


def network_of(config):
    if config.extractor.trained:
        source = make_source(config, (8, 8), torch.device("cpu"))
        return build_network(config, (8, 8), source, 3, 1)
    return build_readout(config, FeatureShape(1, 4, 5), 3, 1)


def some_values(network) -> None:
    """Give all weights and statistics other values than the first ones."""
    generator = torch.Generator().manual_seed(5)
    for name, values in network.state_dict().items():
        if values.ndim and values.is_floating_point():
            noise = torch.randn(values.shape, generator=generator)
            values.copy_(noise.abs() + 0.1 if name.endswith(("var", "scale", "norm.weight")) else noise)


@pytest.mark.parametrize(
    "keys",
    [
        {"readout__kind": "network", "readout__outputs": 6, "readout__hidden": 8, "readout__layers": 3},
        *({"readout__kind": kind, "reservoir__states": 4, **STEPWISE} for kind in ("lstm", "gru", "convolution")),
        {"readout__kind": "transformer", "reservoir__states": 4, **STEPWISE},
        {**CONVOLUTION, "reservoir__kind": "none", "readout__outputs": 6, "readout__hidden": 8},
        {**CONVOLUTION, "reservoir__kind": "none", "extractor__sequence": "positions", "extractor__residual": False},
        {**CONVOLUTION, "reservoir__kind": "none", "readout__kind": "lstm", **STEPWISE},
        {**CONVOLUTION, "reservoir__nodes": 10, "reservoir__kernel": "dense-fp32", "readout__hidden": 8},
    ],
    ids=lambda keys: "-".join(str(value) for value in keys.values() if isinstance(value, str)),
)
def test_units_without_readers_are_removed_without_a_change(keys):
    config = config_of(**keys)
    network = network_of(config).eval()
    some_values(network)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    layers = units_of(config, weights)
    removed = {}
    for units in layers:
        # Every second unit has no reader.
        numbers = torch.arange(0, units.width, 2)
        for part in units.outgoing:
            entries = torch.arange(part.blocks)[:, None] * units.width + numbers
            weights[part.name].index_fill_(part.axis, entries.flatten(), 0.0)
        removed[units.key] = units.width - len(numbers)
    network.load_state_dict(weights)
    narrow = without_units(config, weights, keep=0.5)
    flat = {key: value for key, value in narrow.changes.items() if key != "extractor.channels"}
    assert all(flat[key] == removed[key] for key in flat)
    smaller = network_of(with_settings(config, narrow.changes, "(of a test)")).eval()
    smaller.load_state_dict(narrow.weights)
    x = torch.randn(7, 64 if config.extractor.trained else 20, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(smaller(x), network(x), atol=1e-3, rtol=1e-4)


def test_a_network_of_the_users_own_is_refused():
    config = config_of(readout__kind="my_networks:Mine")
    with pytest.raises(InputError, match="no units that rcdp knows how to remove"):
        without_units(config, {}, 0.5)

import numpy as np
import pytest
import torch
from reservoir.reference import expected

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.config.choices import TABLES
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.gradient import DifferentiableReservoir
from rcdp_hpc.reservoir.states import Reservoir

OPTIONS = [
    {},
    {"leak": 0.3, "states": 3},
    {"activation": "sigmoid", "reduction": "mean"},
    {"reduction": "mean_std", "leak": 0.5, "warm_up": 1},
    {"leak_low": 0.1, "leak": 0.8, "reduction": ["segments", "std", "last"], "segments": 4},
    {"reduction": ["mean", "states", "segments"], "states": 2, "warm_up": 1, "layers": 2, "leak_low": 0.3},
    {"series_scaling": "standard", "differences": True, "leak": 0.7},
    {"differences": True, "difference_scaling": 0.5, "input_normalised": True, "reduction": "mean"},
    {"layers": 2, "bidirectional": True, "window": 2},
    {"reduction": ["max", "mean", "last"], "warm_up": 1},
    {"scans": ["rows", "columns-backward"], "sequence": "both", "activation": "identity", "steps": [1, -1]},
]


@pytest.mark.parametrize("values", OPTIONS)
@pytest.mark.parametrize("lengths", [None, [3, 5]])
def test_states_and_gradients(values, lengths):
    """Values against the reference, gradients against finite differences."""
    settings = ReservoirSection.model_validate({"nodes": 7, "density": 0.6, **values})
    reservoir = Reservoir(settings, 4)
    module = DifferentiableReservoir(reservoir, torch.float64)
    u = torch.rand(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    result = module(u, lengths)
    np.testing.assert_allclose(result.detach().numpy(), expected(reservoir, u.detach().numpy(), lengths), atol=1e-12)
    assert torch.autograd.gradcheck(lambda inputs: module(inputs, lengths), (u,), eps=1e-6, atol=1e-6)
    assert not list(module.parameters())


@pytest.mark.parametrize("name", TABLES["reservoir.reduction"].names)
def test_every_reduction_of_the_table_gives_the_values_of_the_engine(name):
    settings = ReservoirSection.model_validate(
        {"nodes": 7, "density": 0.6, "reduction": name, "states": 2, "warm_up": 0 if name == "all" else 1}
    )
    reservoir = Reservoir(settings, 3, steps=6)
    u = torch.rand(3, 6, 3, generator=torch.Generator().manual_seed(1))
    for lengths in (None, [3, 6, 5]):
        torch.testing.assert_close(DifferentiableReservoir(reservoir)(u, lengths), reservoir.states(u, lengths=lengths))


def test_padding_has_no_gradient():
    reservoir = Reservoir(ReservoirSection.model_validate({"nodes": 7, "density": 0.6, "bidirectional": True}), 4)
    u = torch.rand(2, 5, 4, requires_grad=True)
    DifferentiableReservoir(reservoir)(u, [3, 5]).sum().backward()
    assert (u.grad[0, 3:] == 0).all()
    assert (u.grad[0, :3] != 0).any()


def test_wrong_shapes_are_explained():
    reservoir = Reservoir(ReservoirSection.model_validate({"nodes": 7, "density": 0.6}), 4)
    with pytest.raises(InputError, match="expected"):
        DifferentiableReservoir(reservoir)(torch.rand(2, 5, 3))

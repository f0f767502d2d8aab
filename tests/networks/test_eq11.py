from __future__ import annotations

import numpy as np
import pytest
import torch
from settings import config_of

from rcdp_hpc.config import ReadoutSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.networks.readouts.mlp import MLPReadout
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.single import SingleProcessEngine, single_process
from rcdp_hpc.parallel.synchronous import Synchronous
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.training.optim.objective import Objective


def test_batch_normalisation_equals_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = SyncBatchNorm(5, single_process(), "n"), torch.nn.BatchNorm1d(5)
    x = torch.randn(17, 5) * 3 + 2
    for _ in range(3):
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        weight = torch.randn(17, 5)
        (ours(a) * weight).sum().backward()
        (theirs(b) * weight).sum().backward()
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x))


def test_dropout_depends_only_on_seed_epoch_and_sample():
    samples = torch.arange(50)
    whole = SampleRng.at(1, 2, samples).keep_mask(40, 0.3, layer=0)
    half = SampleRng.at(1, 2, samples[20:]).keep_mask(40, 0.3, layer=0)
    assert torch.equal(whole[20:], half)
    for other in (SampleRng.at(2, 2, samples), SampleRng.at(1, 3, samples)):
        assert not torch.equal(whole, other.keep_mask(40, 0.3, layer=0))
    other = SampleRng.at(1, 2, samples).keep_mask(40, 0.3, layer=1)
    for shift in range(-3, 4):
        same = (other.roll(shift, 0) == whole).float().mean()
        assert abs(float(same) - (0.7**2 + 0.3**2)) < 0.06, "the layers' masks are those of neighbouring samples"


def test_dropout_drops_a_fraction_and_keeps_the_mean():
    mask = SampleRng.at(7, 0, torch.arange(2000)).keep_mask(200, 0.25, layer=1)
    assert abs(float((mask == 0).float().mean()) - 0.25) < 0.005
    assert abs(float(mask.mean()) - 1) < 0.01
    # No stripes: the share dropped is the same for every unit and every sample, within chance.
    assert float((mask == 0).float().mean(0).std()) < 0.02
    assert float((mask == 0).float().mean(1).std()) < 0.06


def test_a_small_last_batch_moves_the_running_statistics_little():
    norm = SyncBatchNorm(1, single_process(), "n")
    for _ in range(200):
        norm(torch.tensor([[1.0], [3.0]] * 16))
    before = norm.running_mean.clone(), norm.running_var.clone()
    norm(torch.tensor([[100.0]]))
    assert float((norm.running_mean - before[0]).abs()) < 0.1 * 100 / 32
    assert abs(float(norm.running_var / before[1]) - 1) < 0.01


def test_the_size_of_the_largest_batch_survives_a_step_that_is_taken_back():
    norm = SyncBatchNorm(2, single_process(), "n")
    before = norm.largest_batch.clone()
    norm(torch.randn(32, 2))
    norm.largest_batch.copy_(before)  # as after a gradient that is not finite
    loaded = SyncBatchNorm(2, single_process(), "n")
    loaded.load_state_dict(norm.state_dict())
    x = torch.randn(4, 2)
    norm(x), loaded(x)
    assert torch.equal(norm.running_mean, loaded.running_mean)
    assert norm.state_dict()["largest_batch"] == 32


@pytest.mark.parametrize("rows", [0, 1])
def test_a_batch_of_at_most_one_row_keeps_statistics_finite(rows):
    norm = SyncBatchNorm(2, single_process(), "n")
    y = norm(torch.full((rows, 2), 3.0))
    torch.testing.assert_close(y, torch.zeros(rows, 2), atol=1e-4, rtol=0)
    y.sum().backward()
    torch.testing.assert_close(norm.weight.grad, torch.zeros(2), atol=1e-4, rtol=0)
    assert torch.equal(norm.running_mean, torch.full((2,), 0.3 * rows))
    torch.testing.assert_close(norm.running_var, torch.full((2,), 1 - 0.1 * rows))


def test_a_rank_without_rows_has_gradients_of_zero():
    network = MLPReadout(ReadoutSection(outputs=4, hidden=5), FeatureShape(1, 1, 6), 3, Synchronous(_WithOthersRows(6)))
    network.train()
    scores = network(torch.empty(0, 6))
    Objective(config_of(), np.ones(3, int)).sum(scores, torch.empty(0, dtype=torch.int64)).backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in network.parameters())


class _WithOthersRows(SingleProcessEngine):
    """An engine with another rank of 8 rows whose sums are all ones."""

    alone = False

    def __init__(self, width: int) -> None:
        self.width = width

    def sum(self, values: torch.Tensor, name: str) -> torch.Tensor:
        others = torch.ones_like(values)
        others[-1] = 8
        return values + others


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_the_network_is_eq_10_and_11(slope):
    network = MLPReadout(ReadoutSection(outputs=4, hidden=5, relu_slope=slope), FeatureShape(1, 1, 6), 3)
    network.eval()
    s = torch.randn(7, 6)
    relu = torch.nn.LeakyReLU(slope)
    o = s @ network.output_map.weight.T
    hidden = relu(network.inner_norm(o @ network.inner.weight.T))
    z = relu(network.outer_norm(hidden @ network.outer.weight.T))
    torch.testing.assert_close(network(s), z @ network.scores.weight.T + network.scores.bias)


FUNCTIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "identity": lambda x: x}


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_further_inner_layers_follow_one_another(activation):
    settings = ReadoutSection(outputs=4, hidden=5, layers=3, activation=activation)
    network = MLPReadout(settings, FeatureShape(1, 1, 6), 3).eval()
    s, f = torch.randn(7, 6), FUNCTIONS[activation]
    hidden = s @ network.output_map.weight.T
    weights = [network.inner, network.further[0], network.further[1], network.outer]
    norms = [network.inner_norm, network.further_norms[0], network.further_norms[1], network.outer_norm]
    for layer, norm in zip(weights, norms, strict=True):
        hidden = f(norm(hidden @ layer.weight.T))
    torch.testing.assert_close(network(s), hidden @ network.scores.weight.T + network.scores.bias)


def test_one_inner_layer_has_the_weights_and_names_of_eq_11():
    torch.manual_seed(3)
    network = MLPReadout(ReadoutSection(outputs=4, hidden=5), FeatureShape(1, 1, 6), 3)
    torch.manual_seed(3)
    shapes = {"output_map": (6, 4), "inner": (4, 5), "outer": (5, 5), "scores": (5, 3)}
    drawn = {name: torch.nn.Linear(*shape, bias=name == "scores") for name, shape in shapes.items()}
    for name, layer in drawn.items():
        assert torch.equal(getattr(network, name).weight, layer.weight), name
    assert not [name for name in network.state_dict() if name.startswith("further")]


def test_each_layer_drops_units_of_its_own():
    settings = ReadoutSection(outputs=4, hidden=40, layers=2, dropout=0.5, activation="sigmoid")
    network = MLPReadout(settings, FeatureShape(1, 1, 6), 3).train()
    rng, seen = SampleRng.at(1, 1, torch.arange(9)), []
    network.drop = lambda hidden, rng, layer: seen.append(layer) or MLPReadout.drop(network, hidden, rng, layer)
    network(torch.randn(9, 6), rng)
    assert seen == [0, 1, 2]


def test_a_function_of_the_user_is_the_activation():
    settings = ReadoutSection(outputs=4, hidden=5, activation="torch.nn:Softplus")
    network = MLPReadout(settings, FeatureShape(1, 1, 6), 3).eval()
    s = torch.randn(7, 6)
    soft = torch.nn.functional.softplus
    hidden = soft(network.inner_norm(network.inner(network.output_map(s))))
    torch.testing.assert_close(network(s), network.scores(soft(network.outer_norm(network.outer(hidden)))))
    with pytest.raises(InputError, match=r"readout\.activation = 'torch:sum'"):
        MLPReadout(settings.model_copy(update={"activation": "torch:sum"}), FeatureShape(1, 1, 6), 3)

from __future__ import annotations

import math

import pytest
import torch
from settings import config_of, tree_of
from torch import nn

from rcdp_hpc.config import parse_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.parallel.choose import check_versions
from rcdp_hpc.training.monitor.divergence import BACKWARD, first_in_backward, first_in_forward
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.partition.rows import refuse_large_batch


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def look(net: nn.Module, x: torch.Tensor):
    return first_in_forward(net, x, lambda: net(x))


def test_finite_values_give_no_finding():
    assert look(network(), torch.randn(5, 3)) is None


def test_the_first_layer_that_overflows_is_named():
    net = network()
    net[0].weight.data.fill_(1.0)
    net[2].weight.data.fill_(3e38)
    assert look(net, torch.full((5, 3), 1e3))[1] == "the output of layer 2"
    net[0].weight.data.fill_(3e38)
    assert look(net, torch.full((5, 3), 1e3))[1] == "the output of layer 0"


def test_states_and_weights_come_before_layers():
    net = network()
    x = torch.randn(5, 3)
    x[2, 1] = math.nan
    assert look(net, x)[1] == "the states that the network reads"
    net[2].bias.data[0] = math.inf
    assert look(net, x) == (0, "the weights 2.bias")


def test_the_backward_pass_names_the_weights_nearest_to_the_scores():
    net = network()
    net(torch.randn(5, 3)).sum().backward()
    assert first_in_backward(net) == (BACKWARD, "the norm of the gradient")
    net[0].weight.grad[0, 0] = math.nan
    net[2].weight.grad[0, 0] = math.nan
    assert first_in_backward(net) == (BACKWARD, "the gradient of 2.weight")


def test_a_rank_with_another_horovod_is_named():
    check_versions(["Horovod 1", "Horovod 1"])
    with pytest.raises(InputError, match="rank 0 has Horovod 1 and rank 2 has Horovod 2"):
        check_versions(["Horovod 1", "Horovod 1", "Horovod 2"])


@pytest.mark.parametrize(
    "keys",
    [
        {"parallel__horovod__fusion_mib": 4},
        {"parallel__horovod__cycle_ms": 2},
        {"parallel__local_steps": 4, "training__on_nan": "skip"},
        {"parallel__local_steps": 4, "training__precision": "fp16"},
        {"parallel__local_steps": 4, "parallel__compression": "fp16"},
    ],
)
def test_settings_that_contradict_one_another_are_refused(keys):
    with pytest.raises(InputError, match="needs"):
        parse_config(tree_of(**keys), where="here")


def test_a_batch_larger_than_the_rows_of_a_rank_is_refused():
    refuse_large_batch(config_of(), BatchPlan(100, 100, 12, 0, 2, 1))
    with pytest.raises(InputError, match=r"share \(50 rows\)"):
        refuse_large_batch(config_of(), BatchPlan(100, 128, 12, 0, 2, 1))

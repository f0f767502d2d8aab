from __future__ import annotations

import pytest
import torch
from settings import tree_of
from torch import nn

from rcdp_hpc.config import parse_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.ensemble import Ensemble
from rcdp_hpc.training.replicas import mean_weights


class Scores(nn.Linear):
    def forward(self, states, draw=None):
        return super().forward(states)


def test_an_ensemble_averages_scores_and_is_recognised_by_its_weights():
    members = [Scores(3, 2) for _ in range(3)]
    states = torch.randn(5, 3)
    together = Ensemble(members)
    expected = sum(member(states) for member in members) / 3
    torch.testing.assert_close(together(states), expected)
    assert Ensemble.count(together.state_dict()) == 3
    assert Ensemble.count(members[0].state_dict()) == 0


def test_weights_are_averaged_by_rows_and_counters_are_copied():
    one = {"w": torch.tensor([1.0, 2.0]), "steps": torch.tensor(7)}
    other = {"w": torch.tensor([4.0, 8.0]), "steps": torch.tensor(7)}
    mean = mean_weights([(200, one), (100, other)])
    assert mean["w"].tolist() == [2.0, 4.0]
    assert mean["w"].dtype == torch.float32
    assert mean["steps"] == 7


@pytest.mark.parametrize(
    "keys",
    [
        {"parallel__local_steps": 4},
        {"partition__reshuffle_every": 1},
        {"optimizer__ema": 0.9},
        {"training__precision": "fp16"},
        {"training__on_nan": "skip"},
        {"parallel__compression": "fp16"},
        {"parallel__replicas": "ensemble", "extractor": {"kind": "convolution"}, "augment": {"test_shift": 1}},
    ],
)
def test_settings_that_need_synchronised_ranks_are_refused(keys):
    with pytest.raises(InputError, match=r"parallel\.replicas"):
        parse_config(tree_of(**{"parallel__replicas": "averaged", "search__generations": 0, **keys}), where="here")

"""Extractor and readout classes of the user: a run with both, and each way to break the contract."""

from __future__ import annotations

import sys

import pytest
import torch
from networks.runs import assert_prediction_equals_evaluation

from rcdp_hpc.config import ReadoutSection, load_config
from rcdp_hpc.config.choices import EXTRACTORS, READOUTS
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.networks.readouts.user import UserReadout
from rcdp_hpc.networks.user_sequences import UserSequences
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime.user_code import load_choice

SOURCE = """
from functools import partial

import torch
from torch import nn


class Halves(nn.Module):
    def __init__(self, sample_shape):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(sample_shape[1], 12), nn.ReLU())

    def forward(self, samples):
        return self.body(samples)


class Last(nn.Module):
    def __init__(self, steps, features, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, 16), nn.BatchNorm1d(16, momentum=0.2), nn.ReLU())
        self.scores = nn.Linear(16, classes)

    def forward(self, sequences):
        return self.scores(self.body(sequences[:, -1]))


class Started(Last):
    def __init__(self, *shape):
        super().__init__(*shape)
        norm = self.body[1]
        nn.init.zeros_(norm.weight)
        nn.init.constant_(norm.bias, 0.5)
        norm.weight.requires_grad = False
        norm.running_mean.fill_(2)
        norm.running_var.fill_(3)
        norm.eps = 1e-3


class Normed(Last):
    def __init__(self, *shape):
        super().__init__(*shape)
        self.body[1] = self.norm()


class WithoutWeights(Normed):
    norm = partial(nn.BatchNorm1d, 16, affine=False)


class WithoutStatistics(Normed):
    norm = partial(nn.BatchNorm1d, 16, track_running_stats=False)


class CountingMean(Normed):
    norm = partial(nn.BatchNorm1d, 16, momentum=None)


class Lazy(Normed):
    norm = nn.LazyBatchNorm1d


class ByInstance(Normed):
    norm = partial(nn.InstanceNorm1d, 16, track_running_stats=True)


class Norm(nn.BatchNorm1d):
    def __init__(self, steps, features, classes):
        super().__init__(classes)


class Transposed(Last):
    def forward(self, sequences):
        return super().forward(sequences).T


class Pair(Last):
    def forward(self, sequences):
        return super().forward(sequences), None


class Flat(Halves):
    def forward(self, samples):
        return super().forward(samples).flatten(1)


class TurnsInTraining(Last):
    def forward(self, sequences):
        scores = super().forward(sequences)
        return scores.T if self.training else scores


class ShortensInTraining(Halves):
    def forward(self, samples):
        return super().forward(samples)[:, self.training :]


class Raising(Last):
    def forward(self, sequences):
        raise ValueError("not today")


class NeedsRows(Last):
    def forward(self, sequences):
        return super().forward(sequences - sequences.max())


class Dropping(Last):
    def __init__(self, *shape):
        super().__init__(*shape)
        self.body.append(nn.Dropout(0.5))


class DroppingNothing(Last):
    def __init__(self, *shape):
        super().__init__(*shape)
        self.body.append(nn.Dropout(0.0))


class DroppingBetweenLayers(Last):
    def __init__(self, *shape):
        super().__init__(*shape)
        self.layers = nn.LSTM(3, 4, num_layers=2, dropout=0.25)


class Attending(Last):
    def __init__(self, *shape):
        super().__init__(*shape)
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.1)


class Leaking(Last):
    def __init__(self, *shape):
        super().__init__(*shape)
        self.body.append(nn.RReLU())


class DroppingByFunction(Last):
    def forward(self, sequences):
        return nn.functional.dropout(super().forward(sequences), 0.5, self.training)


class Noisy(Halves):
    def forward(self, samples):
        return super().forward(samples) + torch.randn(()) * self.training


class RaisingInTraining(Last):
    def forward(self, sequences):
        if self.training:
            raise ValueError("not yet")
        return super().forward(sequences)


class CutToTwo(Last):
    def forward(self, sequences):
        return super().forward(sequences)[:2]


class ShorterByRows(Halves):
    def forward(self, samples):
        return super().forward(samples)[:, len(samples) // 4 :]


class NoModule:
    def __init__(self, *shape):
        pass


def function(*shape):
    return Last(*shape)
"""
KEPT = FeatureShape(1, 3, 4)


def user_readout(name: str, kept: FeatureShape, classes: int) -> UserReadout:
    return UserReadout(load_choice(READOUTS, name), name, ReadoutSection(), kept, classes)


def user_sequences(name: str, sample_shape: tuple[int, ...]) -> UserSequences:
    return UserSequences(load_choice(EXTRACTORS, name), name, sample_shape)


@pytest.fixture(autouse=True)
def _module(tmp_path, monkeypatch):
    (tmp_path / "their_networks.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_networks", raising=False)


def test_extractor_and_readout_of_the_user_in_one_run(tmp_path):
    changes = [
        "reservoir.nodes=30", "reservoir.sequence=rows", "reservoir.states=2", "reservoir.input_scaling=0.3",
        "search.generations=0", "training.epochs=8", "training.threads=1", "training.batch=64", "run.progress=false",
        "optimizer.learning_rate=5e-3", "extractor.kind=their_networks:Halves",
        "readout.kind=their_networks:Last",
    ]  # fmt: skip
    results = run_stages(["prepare", "train", "evaluate"], load_config("digits", changes), tmp_path / "run")
    assert results["evaluate"]["accuracy"] > 0.6
    assert_prediction_equals_evaluation(tmp_path / "run", results["evaluate"])


def test_batch_normalisation_is_replaced_by_that_over_all_ranks():
    norm = user_readout("their_networks:Last", KEPT, 5).inner.body[1]
    assert isinstance(norm, SyncBatchNorm)
    assert (norm.width, norm.momentum) == (16, 0.2)
    assert "body.1" in norm.name


def test_batch_normalisation_keeps_the_users_weights_and_statistics():
    norm = user_readout("their_networks:Started", KEPT, 5).inner.body[1]
    assert isinstance(norm, SyncBatchNorm)
    assert norm.eps == 1e-3
    assert not norm.weight.requires_grad
    assert norm.bias.requires_grad
    for values, expected in [(norm.weight, 0), (norm.bias, 0.5), (norm.running_mean, 2), (norm.running_var, 3)]:
        assert torch.equal(values, torch.full((16,), float(expected)))


def test_a_readout_reads_states_step_by_step():
    readout = user_readout("their_networks:Last", FeatureShape(2, 3, 4), 5).eval()
    states = torch.randn(6, 24)
    last = torch.cat([states[:, 8:12], states[:, 20:24]], dim=1)
    torch.testing.assert_close(readout(states), readout.inner(last[:, None]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("their_networks:Transposed", r"returned the shape \(5, 2\), expected \(2, 5\)"),
        ("their_networks:Pair", "returned tuple: expected one torch.Tensor"),
        ("their_networks:Raising", "forward failed .ValueError: not today"),
        ("their_networks:NeedsRows", "forward of no rows failed"),
        ("their_networks:Dropping", "body.3 is Dropout, whose random numbers depend on rank and batch"),
        (
            "their_networks:DroppingBetweenLayers",
            "layers is LSTM with dropout = 0.25, whose random numbers depend on rank",
        ),
        ("their_networks:Attending", "attention is MultiheadAttention with dropout = 0.1, whose random numbers"),
        ("their_networks:Leaking", "body.3 is RReLU, whose random numbers"),
        ("their_networks:DroppingByFunction", "draws random numbers of torch in training"),
        ("their_networks:RaisingInTraining", "forward in training failed .ValueError: not yet"),
        ("their_networks:TurnsInTraining", r"the shape \(5, 2\), expected \(2, 5\) in training, too"),
        (
            "their_networks:WithoutWeights",
            "body.1 is BatchNorm1d with affine=False; expected, as a part of it, ",
        ),
        ("their_networks:WithoutStatistics", "body.1 is BatchNorm1d with track_running_stats=False; expected"),
        ("their_networks:CountingMean", "body.1 is BatchNorm1d with momentum=None; expected"),
        ("their_networks:Lazy", "body.1 is LazyBatchNorm1d, a kind of batch normalisation; expected"),
        ("their_networks:ByInstance", "body.1 is InstanceNorm1d with track_running_stats=True, whose statistics"),
        ("their_networks:Norm", "it is Norm, a kind of batch normalisation; expected, as a part of it"),
        ("their_networks:NoModule", "a class derived from torch.nn.Module"),
        ("their_networks:function", "a class derived from torch.nn.Module"),
        ("their_networks:Missing", "module their_networks has no class Missing"),
        ("no_such_networks:Last", "module no_such_networks cannot be imported .ModuleNotFoundError"),
        ("their_networks:Halves", "failed .TypeError"),
    ],
)
def test_a_readout_that_breaks_the_contract_is_refused(name, message):
    with pytest.raises(InputError, match=rf"readout\.kind = '{name}'.*{message}"):
        user_readout(name, KEPT, 5)


def test_an_extractor_that_breaks_the_contract_is_refused():
    with pytest.raises(InputError, match=r"extractor\.kind.*shape \(2, 96\), expected \(2, steps, features\)"):
        user_sequences("their_networks:Flat", (8, 6))
    found = user_sequences("their_networks:Halves", (8, 6))
    assert (found.steps, found.features) == (8, 12)


def test_an_extractor_with_another_shape_in_training_is_refused():
    with pytest.raises(InputError, match=r"kind = .*shape \(2, 7, 12\), expected \(2, 8, 12\) in training, too"):
        user_sequences("their_networks:ShortensInTraining", (8, 6))
    with pytest.raises(InputError, match=r"kind = .*draws random numbers of torch in training"):
        user_sequences("their_networks:Noisy", (8, 6))


def test_the_dry_run_changes_neither_weights_nor_statistics_nor_generator():
    torch.manual_seed(5)
    readout = user_readout("their_networks:DroppingNothing", KEPT, 5)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    alone = sys.modules["their_networks"].Last(3, 4, 5)
    assert torch.equal(torch.get_rng_state(), after)
    assert torch.equal(readout.inner.scores.weight, alone.scores.weight)
    assert torch.equal(readout.inner.body[1].running_mean, torch.zeros(16))
    assert torch.equal(readout.inner.body[1].running_var, torch.ones(16))
    assert readout.training


def test_a_wrong_shape_for_some_batches_is_reported():
    readout = user_readout("their_networks:CutToTwo", KEPT, 5)
    with pytest.raises(InputError, match=r"readout.kind = .*shape \(2, 5\), expected \(7, 5\) for a batch of 7 rows"):
        readout(torch.randn(7, 12))
    extractor = user_sequences("their_networks:ShorterByRows", (8, 6))
    with pytest.raises(InputError, match=r"kind = .*the shape \(7, 7, 12\), expected \(7, 8, 12\) for a batch of 7"):
        extractor(torch.randn(7, 8, 6))


@pytest.mark.parametrize("key", ["readout.kind", "extractor.kind"])
@pytest.mark.parametrize("name", ["perceptron", ":Last", "their_networks:"])
def test_a_name_that_is_not_module_and_class_is_refused(key, name):
    with pytest.raises(InputError, match=rf"{key} = '{name}': expected one of .* as module:Class"):
        load_config("digits", [f"{key}={name}", "search.generations=0"])

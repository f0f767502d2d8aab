"""Each loss owns the link from scores to probabilities, and says what E of eq. 5 measures."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from settings import config_of
from torch import nn

from rcdp_hpc.config import LossSection, SearchSection, load_config
from rcdp_hpc.config.choices import LOSSES
from rcdp_hpc.errors import InputError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.model_file import ModelFile, named_code
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.networks.ensemble import Ensemble
from rcdp_hpc.networks.losses import load_loss, loss_of
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.search.evaluation.candidate import score
from rcdp_hpc.search.evaluation.measured import error_and_accuracy
from rcdp_hpc.training.solve import short_training

EQ12 = loss_of(LossSection(kind="eq12"))
SETTINGS = (
    "search.generations=0", "data.class_keep_fractions=[]", "reservoir.nodes=30", "reservoir.kernel=dense-fp32",
    "reservoir.batch_rows=64", "readout.outputs=16", "readout.hidden=32", "training.batch=128", "training.threads=1",
    "training.baseline=false", "run.progress=false", "training.epochs=15", "optimizer.learning_rate=0.01",
)  # fmt: skip
OWN = """
import torch
from rcdp_hpc.networks.losses import Loss

class Squared(Loss):
    def __call__(self, scores, targets):
        return ((scores - targets) ** 2).sum(1)

    def probabilities(self, scores):
        return torch.softmax(4 * scores, 1)

class Duck:
    def __call__(self, scores, targets):
        return ((scores - targets) ** 2).sum(1)

    def probabilities(self, scores):
        return torch.softmax(4 * scores, 1)

class Linked(Squared):
    pass

def plain(scores, targets):
    return ((torch.softmax(scores, 1) - targets) ** 2).sum(1)

class NotOne(Squared):
    def probabilities(self, scores):
        return torch.sigmoid(scores)

class Negative(Squared):
    def probabilities(self, scores):
        return scores - scores.mean(1, keepdim=True) + 1 / scores.shape[1]

class NotFinite(Squared):
    def probabilities(self, scores):
        return scores.exp() / scores.exp().sum(1, keepdim=True)

class OtherClass(Squared):
    def probabilities(self, scores):
        return torch.softmax(-scores, 1)

class OtherDriven(Squared):
    def driven(self, scores):
        return -scores

class OtherShape(Squared):
    def probabilities(self, scores):
        return torch.softmax(scores, 1)[:, :1]

class AcrossRows(Squared):
    def probabilities(self, scores):
        return torch.softmax(scores / (1 + scores.abs().sum()), 1)

class NoEmpty(Squared):
    def probabilities(self, scores):
        return torch.softmax(scores - scores.max(), 1)

class Draws(Squared):
    def probabilities(self, scores):
        return torch.softmax(scores + 1e-9 * torch.rand_like(scores), 1)

class Changes(Squared):
    def probabilities(self, scores):
        return torch.softmax(scores.sub_(1), 1)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "linked_losses.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    sys.modules.pop("linked_losses", None)


def test_the_link_of_eq12_by_hand():
    scores = torch.tensor([[0.5, 1.5, -1.0], [2.0, 2.0, 4.0]], dtype=torch.float64)
    expected = torch.tensor([[0.5, 1.5, 1e-6], [2.0, 2.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(EQ12.probabilities(scores), expected / torch.tensor([[2.000001], [8.0]]).double())


def test_rows_without_a_positive_score_keep_the_order_of_the_classes():
    # A row is shifted to the sum 1: (-0.1, -0.2) + 0.65, and (-100, -5) + 53, of which the first is clipped.
    scores = torch.tensor([[-0.1, -0.2], [-100.0, -5.0], [-1.0, -1.0]], dtype=torch.float64)
    found = EQ12.probabilities(scores)
    torch.testing.assert_close(found[0], torch.tensor([0.55, 0.45], dtype=torch.float64))
    torch.testing.assert_close(found[1], torch.tensor([1e-6, 48.0], dtype=torch.float64) / 48.000001)
    assert found[2].tolist() == [0.5, 0.5]


def test_ten_classes_reach_probabilities_near_1_and_huge_scores_do_not_overflow():
    assert float(EQ12.probabilities(torch.eye(10)).diagonal().min()) > 0.9999
    huge = EQ12.probabilities(torch.full((1, 10), 3e38))
    torch.testing.assert_close(huge, torch.full((1, 10), 0.1))


class Given(nn.Module):
    """A network whose scores are its features; training does not change them."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def standardise(self, sums, squares, rows):
        pass

    def forward(self, features, rng=None):
        return features + 0 * self.unused


def fitness_of(monkeypatch, factor: float, kind: str) -> tuple[float, float]:
    """Return E and the fitness of a network whose scores are one-hot targets of ten classes times a factor."""
    monkeypatch.setattr(short_training, "build_readout", lambda *arguments: Given())
    labels = torch.arange(20) % 10
    features = factor * torch.eye(10)[labels]
    config = config_of(loss__kind=kind, training__batch=10, partition__count=2)
    found = short_training.fit_readout(
        features, FeatureShape(1, 1, 10), labels, features, config=config, classes=10, epochs=1, seed=1,
        validation_labels=labels,
    )  # fmt: skip
    error, accuracy = error_and_accuracy(found, labels.numpy())
    assert accuracy == 1
    return error, score(SearchSection(), error, accuracy)


def test_e_of_eq12_is_that_of_the_scores(monkeypatch):
    assert fitness_of(monkeypatch, 1.0, "eq12") == (0.0, 1e12)
    # One of ten classes differs by 4: E = 16 / 10.
    assert fitness_of(monkeypatch, 5.0, "eq12") == pytest.approx((1.6, 0.625))


@pytest.mark.parametrize("kind", ["cross_entropy", "focal"])
def test_e_of_the_other_losses_is_that_of_the_probabilities(monkeypatch, kind):
    # p = e / (e + 9) for the class itself, 1 / (e + 9) for nine others.
    right, other = np.e / (np.e + 9), 1 / (np.e + 9)
    error, _ = fitness_of(monkeypatch, 1.0, kind)
    assert error == pytest.approx(((1 - right) ** 2 + 9 * other**2) / 10)
    assert fitness_of(monkeypatch, 50.0, kind)[1] == 1e12


@pytest.mark.parametrize("kind", LOSSES.names)
def test_networks_use_the_link_of_the_loss(kind):
    config = config_of(loss__kind=kind, readout__outputs=4, readout__hidden=5)
    network = build_readout(config, FeatureShape(1, 1, 6), 3, seed=1).eval()
    features = torch.randn(7, 6)
    with torch.no_grad():
        expected = loss_of(config.loss).probabilities(network(features))
        assert torch.equal(network.probabilities(features), expected)
        other = build_readout(config, FeatureShape(1, 1, 6), 3, seed=2).eval()
        scores = (network(features) + other(features)) / 2
        torch.testing.assert_close(
            Ensemble([network, other]).probabilities(features), loss_of(config.loss).probabilities(scores)
        )


def test_ridge_keeps_its_own_link():
    config = config_of(readout__kind="ridge", loss__kind="eq12")
    network = build_readout(config, FeatureShape(1, 1, 2), 2, seed=1)
    network.load_state_dict({"linear.weight": torch.eye(2), "linear.bias": torch.zeros(2)})
    with torch.no_grad():
        found = network.probabilities(torch.tensor([[0.75, 0.25], [2.0, -1.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.75, 0.25], [1.0, 5e-7]]), atol=1e-7, rtol=1e-5)


def test_views_of_an_image_are_averaged_as_probabilities_of_the_loss():
    config = config_of(
        loss__kind="eq12", extractor__kind="convolution", extractor__channels=[4], augment__test_flips=True,
        reservoir__nodes=20, reservoir__density=0.5, reservoir__kernel="dense-fp32", readout__outputs=4,
    )  # fmt: skip
    source = make_source(config, (8, 8), torch.device("cpu"))
    network = build_network(config, (8, 8), source, 3, seed=1).eval()
    images = torch.rand(5, 8, 8)
    with torch.no_grad():
        views = [EQ12.probabilities(network(view.reshape(5, 64))) for view in (images, images.flip(2))]
        torch.testing.assert_close(network.probabilities(images.view(5, 64)), (views[0] + views[1]) / 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    config = load_config("digits", [*SETTINGS, "loss.kind=eq12"])
    return out, run_stages(["prepare", "train", "evaluate"], config, out)


def test_a_model_of_eq12_is_sure_and_predicts_the_classes_that_the_training_counted(trained):
    out, results = trained
    model = TrainedModel.load(out / "train/model.pt")
    samples = np.random.default_rng(1).random((300, 8, 8), dtype=np.float32)
    states = model.states(samples, scaled=True)
    found = model.probabilities_of(states)
    with torch.no_grad():
        np.testing.assert_array_equal(found.argmax(1), model.network(states.float()).argmax(1).numpy())
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    lines = (out / "report/predictions.csv").read_text().splitlines()
    certain = [float(line.split(",")[4]) for line in lines[1:]]
    assert results["evaluate"]["accuracy"] > 0.8
    assert np.median(certain) > 0.6
    assert max(certain) > 0.9


def test_a_model_without_a_link_is_read_as_its_loss_says(trained, tmp_path):
    out, _ = trained
    content = checkpoint.load(out / "train/model.pt")
    assert content.pop("link") == "loss"
    del content["format"]
    checkpoint.save(tmp_path / "old.pt", content)
    samples = np.random.default_rng(1).random((40, 8, 8), dtype=np.float32)
    old, new = (
        TrainedModel.load(path).probabilities(samples, scaled=True)
        for path in (tmp_path / "old.pt", out / "train/model.pt")
    )
    np.testing.assert_array_equal(old, new)


def test_prediction_imports_a_loss_only_for_its_own_link(own, tmp_path):
    for name in ("plain", "Linked"):
        out = tmp_path / name
        few = [*SETTINGS, "training.epochs=1", f"loss.kind=linked_losses:{name}"]
        run_stages(["prepare", "train"], load_config("digits", few), out)
    samples = np.random.default_rng(1).random((40, 8, 8), dtype=np.float32)
    plain, linked = (tmp_path / name / "train/model.pt" for name in ("plain", "Linked"))
    assert named_code(ModelFile.read(plain).config) == {}
    assert named_code(ModelFile.read(linked).config) == {"loss.kind": "linked_losses:Linked"}
    model = TrainedModel.load(linked, own_code=["linked_losses:Linked"])
    states = model.states(samples, scaled=True).float()
    with torch.no_grad():
        expected = torch.softmax(4 * model.network(states), 1)
    np.testing.assert_allclose(model.probabilities(samples, scaled=True), expected, atol=1e-6)
    (tmp_path / "linked_losses.py").unlink()
    sys.modules.pop("linked_losses")
    assert TrainedModel.load(plain).probabilities(samples, scaled=True).shape == (40, 10)
    with pytest.raises(InputError, match=r"names code that would be run, loss\.kind = 'linked_losses:Linked'"):
        TrainedModel.load(linked)
    # A file of an earlier version: its loss had no link of its own, and the softmax was used.
    content = checkpoint.load(plain)
    del content["format"], content["link"]
    assert json.loads(content["settings"])["loss"]["kind"] == "linked_losses:plain"
    checkpoint.save(tmp_path / "old.pt", content)
    assert TrainedModel.load(tmp_path / "old.pt").probabilities(samples, scaled=True).shape == (40, 10)


@pytest.mark.parametrize("name", ["Squared", "Duck"])
def test_a_link_of_the_users_own(own, name):
    loss = load_loss(LossSection(kind=f"linked_losses:{name}"), 3)
    scores = torch.tensor([[0.0, 0.25]])
    torch.testing.assert_close(loss.probabilities(scores), torch.softmax(torch.tensor([[0.0, 1.0]]), 1))
    assert torch.equal(loss.driven(scores), loss.probabilities(scores))
    assert loss.has_own_link
    assert not load_loss(LossSection(kind="linked_losses:plain"), 3).has_own_link


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NotOne", "expected sums of 1"),
        ("Negative", "nothing below 0"),
        ("NotFinite", "probabilities gives values that are not finite"),
        ("OtherClass", "probabilities gives another class than the one with the highest score"),
        ("OtherDriven", "driven gives another class"),
        ("OtherShape", r"returned a tensor \(6, 1\), torch.float32; expected a tensor \(6, 3\)"),
        ("AcrossRows", "depends on the other rows"),
        ("NoEmpty", r"scores of shape \(0, 3\), torch.float32 failed"),
        ("Draws", "draws random numbers"),
        ("Changes", "changes its argument"),
    ],
)
def test_a_broken_link_is_refused(own, name, words):
    with pytest.raises(InputError, match=rf"^loss.kind = 'linked_losses:{name}': .*{words}.*extending.md"):
        load_loss(LossSection(kind=f"linked_losses:{name}"), 3)

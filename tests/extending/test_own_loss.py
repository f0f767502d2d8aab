"""A loss of the user's own: trained with, and refused if it breaks its contract."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch
from launch import REPOSITORY

from rcdp_hpc.config import LossSection, load_config
from rcdp_hpc.config.choices import LOSSES
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.losses import Loss, load_loss
from rcdp_hpc.pipeline.stages import run_stages

(EXAMPLE,) = re.findall(
    r"```python\n(# my_losses\.py\n.*?)```", (REPOSITORY / "docs/extending.md").read_text(), re.DOTALL
)
SETTINGS = (
    "search.generations=0", "data.class_keep_fractions=[]", "reservoir.nodes=20", "reservoir.kernel=dense-fp32",
    "reservoir.batch_rows=64", "readout.outputs=10", "readout.hidden=20", "training.batch=128", "training.threads=1",
    "training.baseline=false", "run.progress=false", "training.epochs=4", "optimizer.learning_rate=0.01",
)  # fmt: skip
MORE = """
import torch
from rcdp_hpc.networks.losses import Loss

class Scaled(Loss):
    def __init__(self, factor):
        self.factor = factor

    @classmethod
    def of(cls, settings):
        return cls(settings.focal_gamma)

    def __call__(self, scores, targets):
        return self.factor * brier(scores, targets)

class Plain:
    def __call__(self, scores, targets):
        return brier(scores, targets)

class Counted:
    def use_class_counts(self, counts):
        self.weights = torch.from_numpy(counts).float()

    def __call__(self, scores, targets):
        return brier(scores, targets * self.weights)

class Miscounted(Plain):
    def use_class_counts(self, counts):
        raise KeyError("rows")

class NeedsArgument:
    def __init__(self, factor): pass

class NoFunction:
    pass

class Abstract(Loss):
    pass

def fails(scores, targets):
    return scores @ targets

def number(scores, targets):
    return 1.0

def mean(scores, targets):
    return brier(scores, targets).mean()

def of_float64(scores, targets):
    return brier(scores.double(), targets)

def changes_scores(scores, targets):
    scores.data.add_(1)
    return brier(scores, targets)

def changes_targets(scores, targets):
    return brier(scores, targets.mul_(2))

def not_finite(scores, targets):
    return brier(scores, targets).log() / 0

def draws(scores, targets):
    return brier(scores, targets) * torch.rand(len(scores))

def draws_unused(scores, targets):
    torch.rand(1)
    return brier(scores, targets)

def mixes(scores, targets):
    return brier(scores - scores.mean(0), targets)

def no_empty(scores, targets):
    return brier(scores, targets) + 0 * scores.max()

def without_gradient(scores, targets):
    return brier(scores.detach(), targets)

def root(scores, targets):
    return (scores - scores.detach()).pow(2).sum(1).sqrt()
"""
CASES = [
    ("NeedsArgument", r"NeedsArgument\(\) failed \(TypeError.*expected no arguments"),
    ("NoFunction", "are not functions; expected"),
    ("Miscounted", r"use_class_counts called with 3 counts failed \(KeyError: 'rows'\)"),
    ("Abstract", r"Abstract\(\) failed \(TypeError"),
    ("fails", r"called with scores and targets of shape \(5, 3\), it failed \(RuntimeError"),
    ("number", r"it returned float; expected the loss of each row, a tensor \(5,\), torch.float32"),
    ("mean", r"it returned a tensor \(\), torch.float32; expected"),
    ("of_float64", "torch.float64; expected"),
    ("changes_scores", "changes its arguments"),
    ("changes_targets", "changes its arguments"),
    ("not_finite", "expected numbers"),
    ("draws", "other values at the second call"),
    ("draws_unused", "draws random numbers"),
    ("mixes", "depends on the other rows"),
    ("no_empty", r"of shape \(0, 3\), it failed"),
    ("without_gradient", "has no gradient by the scores"),
    ("root", "its gradient by the scores is not finite"),
]


@pytest.fixture(autouse=True)
def _module(tmp_path, monkeypatch):
    (tmp_path / "my_losses.py").write_text(EXAMPLE)
    (tmp_path / "more_losses.py").write_text("from my_losses import brier\n" + MORE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    for module in ("my_losses", "more_losses"):
        sys.modules.pop(module, None)


def test_the_example_of_the_page_trains(tmp_path):
    config = load_config("digits", [*SETTINGS, "loss.kind=my_losses:brier", "loss.class_weights=balanced"])
    result = run_stages(["prepare", "train"], config, tmp_path / "run")["train"]
    assert result["validation_accuracy"] > 0.5
    # The mean of a sum of squared differences of probabilities.
    assert 0 < result["validation_loss"] < 1


def test_a_search_that_trains_candidates_minimises_it(tmp_path):
    config = load_config(
        "digits",
        [*SETTINGS, "loss.kind=my_losses:brier", "search.evaluation=train", "search.generations=1",
         "search.population=2", "search.epochs=1"],
    )  # fmt: skip
    result = run_stages(["prepare", "search"], config, tmp_path / "run")["search"]
    assert result["accuracy"] > 0.2


@pytest.mark.parametrize("name", LOSSES.names)
@pytest.mark.parametrize("classes", [2, 12])
def test_every_loss_of_the_table_keeps_the_contract(name, classes):
    assert isinstance(load_loss(LossSection(kind=name), classes), Loss)


def test_functions_and_classes_of_both_forms_compute_the_same():
    scores, targets = torch.randn(4, 3), torch.eye(3)[[0, 1, 2, 0]]
    function, plain = (load_loss(LossSection(kind=name), 3) for name in ("my_losses:brier", "more_losses:Plain"))
    scaled = load_loss(LossSection(kind="more_losses:Scaled", focal_gamma=4.0), 3)
    expected = ((torch.softmax(scores, 1) - targets) ** 2).sum(1)
    assert torch.equal(function(scores, targets), expected)
    assert torch.equal(plain(scores, targets), expected)
    assert torch.equal(scaled(scores, targets), 4 * expected)
    counted = load_loss(LossSection(kind="more_losses:Counted"), 3, np.array([5, 3, 4]))
    assert torch.equal(counted(scores, targets), function(scores, targets * torch.tensor([5.0, 3.0, 4.0])))


@pytest.mark.parametrize(("name", "words"), CASES)
def test_a_broken_one_is_refused_before_data_are_read(name, words, tmp_path):
    config = load_config("digits", [*SETTINGS, f"loss.kind=more_losses:{name}"])
    with pytest.raises(InputError, match=rf"^loss.kind = 'more_losses:{name}': .*{words}.*extending.md"):
        run_stages(["prepare", "train"], config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_of_torch_that_averages_is_refused():
    with pytest.raises(InputError, match=r"it returned a tensor .*expected the loss of each row"):
        load_loss(LossSection(kind="torch.nn:CrossEntropyLoss"), 3)

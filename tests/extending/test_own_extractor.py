"""A trained extractor of the user's own: trained with, and refused if it breaks its contract."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from launch import REPOSITORY

from rcdp_hpc.config import load_config
from rcdp_hpc.deploy.predict import predict
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.rundir import RunDirectory

SETTINGS = (
    "data.shards=1", "reservoir.nodes=30", "reservoir.kernel=dense-fp32", "reservoir.states=2",
    "reservoir.input_scaling=0.3", "search.generations=0", "training.epochs=8", "training.batch=64",
    "training.threads=1", "optimizer.learning_rate=5e-3", "run.progress=false",
)  # fmt: skip
BROKEN = """
import torch
from torch import nn
from my_extractors import EveryRow

class NoModule:
    def __init__(self, sample_shape):
        pass

class NoArguments(nn.Module):
    def __init__(self):
        super().__init__()

class Flat(EveryRow):
    def forward(self, samples):
        return super().forward(samples).flatten(1)

class Shortens(EveryRow):
    def forward(self, samples):
        return super().forward(samples)[:, self.training :]

class Noisy(EveryRow):
    def forward(self, samples):
        return super().forward(samples) + torch.randn(()) * self.training

class OneStep(EveryRow):
    def forward(self, samples):
        return super().forward(samples)[:, :1]
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path, monkeypatch):
    page = (REPOSITORY / "docs/extending.md").read_text()
    (code,) = re.findall(r"```python\n(# my_extractors\.py\n.*?)```", page, re.DOTALL)
    (tmp_path / "my_extractors.py").write_text(code)
    (tmp_path / "broken_extractors.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    sys.modules.pop("my_extractors", None)
    sys.modules.pop("broken_extractors", None)


def test_training_and_prediction_use_the_example_of_the_docs(tmp_path):
    run = RunDirectory(tmp_path / "run")
    config = load_config("digits", [*SETTINGS, "extractor.kind=my_extractors:EveryRow"])
    results = run_stages(["prepare", "train", "evaluate"], config, run.path)
    assert results["evaluate"]["accuracy"] > 0.6
    np.savez(tmp_path / "new.npz", x=np.full((3, 8, 8), 8.0))
    assert sum(predict(run.model, tmp_path / "new.npz", tmp_path / "labels.csv").values()) == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NoModule", "expected a class derived from torch.nn.Module"),
        ("NoArguments", r"NoArguments\(\(8, 8\),\) failed \(TypeError"),
        ("Flat", r"forward returned the shape \(2, 96\), expected \(2, steps, features\)"),
        ("Shortens", r"forward returned the shape \(2, 7, 12\), expected \(2, 8, 12\) in training, too"),
        ("Noisy", "draws random numbers of torch in training"),
    ],
)
def test_a_broken_one_is_refused_before_data_are_balanced(name, words, tmp_path):
    config = load_config("digits", [*SETTINGS, f"extractor.kind=broken_extractors:{name}"])
    with pytest.raises(InputError, match=rf"extractor.kind = 'broken_extractors:{name}'.*{words}"):
        run_stages(["prepare", "train"], config, tmp_path / "run")
    assert not (tmp_path / "run/shards/index.json").exists()


def test_its_steps_are_compared_with_the_states_to_keep_before_data_are_balanced(tmp_path):
    config = load_config("digits", [*SETTINGS, "extractor.kind=broken_extractors:OneStep"])
    with pytest.raises(InputError, match=r"reservoir\.states = 2 is more than the 1 steps"):
        run_stages(["prepare"], config, tmp_path / "run")
    assert not (tmp_path / "run/shards/index.json").exists()

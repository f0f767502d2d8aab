"""A readout of the user's own: trained with, and refused if it breaks its contract."""

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
    "data.shards=1", "reservoir.nodes=30", "reservoir.kernel=dense-fp32", "reservoir.sequence=rows",
    "reservoir.states=4", "search.generations=0", "training.epochs=6", "training.batch=64", "training.threads=1",
    "optimizer.learning_rate=5e-3", "run.progress=false",
)  # fmt: skip
BROKEN = """
import torch
from torch import nn
from my_readouts import Attention

class NoModule:
    def __init__(self, steps, features, classes):
        pass

class NoArguments(nn.Module):
    def __init__(self):
        super().__init__()

class Transposed(Attention):
    def forward(self, states):
        return super().forward(states).T

class Pair(Attention):
    def forward(self, states):
        return super().forward(states), states

class Drops(Attention):
    def __init__(self, *shape):
        super().__init__(*shape)
        self.hidden.append(nn.Dropout(0.5))

class NeedsRows(Attention):
    def forward(self, states):
        return super().forward(states - states.max())
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path, monkeypatch):
    page = (REPOSITORY / "docs/extending.md").read_text()
    (code,) = re.findall(r"```python\n(# my_readouts\.py\n.*?)```", page, re.DOTALL)
    (tmp_path / "my_readouts.py").write_text(code)
    (tmp_path / "broken_readouts.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    sys.modules.pop("my_readouts", None)
    sys.modules.pop("broken_readouts", None)


def test_training_and_prediction_use_the_example_of_the_docs(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path / "run")
    config = load_config("digits", [*SETTINGS, "readout.kind=my_readouts:Attention"])
    results = run_stages(["prepare", "train", "evaluate"], config, run.path)
    assert results["evaluate"]["accuracy"] > 0.6
    np.savez(tmp_path / "new.npz", x=np.full((3, 8, 8), 8.0))
    assert sum(predict(run.model, tmp_path / "new.npz", tmp_path / "labels.csv").values()) == 3
    # Another user, who has not named the class in a configuration.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-of-another"))
    with pytest.raises(InputError, match=r"names code that would be run, readout\.kind = 'my_readouts:Attention'"):
        predict(run.model, tmp_path / "new.npz", tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NoModule", "expected a class derived from torch.nn.Module"),
        ("NoArguments", r"NoArguments\(4, 30, 10\) failed \(TypeError"),
        ("Transposed", r"forward returned the shape \(10, 2\), expected \(2, 10\)"),
        ("Pair", "forward returned tuple"),
        ("Drops", "hidden.3 is Dropout"),
        ("NeedsRows", "forward of no rows failed"),
        ("Missing", "has no class Missing"),
    ],
)
def test_a_broken_one_is_refused_before_data_are_balanced(name, words, tmp_path):
    config = load_config("digits", [*SETTINGS, f"readout.kind=broken_readouts:{name}"])
    with pytest.raises(InputError, match=rf"readout.kind = 'broken_readouts:{name}'.*{words}"):
        run_stages(["prepare", "train"], config, tmp_path / "run")
    assert not (tmp_path / "run/shards/index.json").exists()


def test_it_is_tried_with_the_sequences_of_an_extractor_of_the_users_own(tmp_path):
    (tmp_path / "narrow.py").write_text(
        "from torch import nn\n"
        "class Narrow(nn.Module):\n"
        "    def __init__(self, sample_shape):\n"
        "        super().__init__()\n"
        "        self.map = nn.Linear(sample_shape[1], 3)\n"
        "    def forward(self, samples):\n"
        "        return self.map(samples)\n"
    )
    changes = ["extractor.kind=narrow:Narrow", "reservoir.kind=none", "readout.kind=broken_readouts:NoArguments"]
    with pytest.raises(InputError, match=r"NoArguments\(8, 3, 10\) failed"):
        run_stages(["prepare"], load_config("digits", [*SETTINGS, *changes]), tmp_path / "run")

"""A schedule of the user's own: trained with, resumed, and refused if it breaks its contract."""

from __future__ import annotations

import re
import shutil
import sys

import pytest
import torch
from launch import REPOSITORY
from settings import config_of
from whole_runs import lines

from rcdp_hpc.config import load_config
from rcdp_hpc.config.choices import SCHEDULES
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.training.optim.learning_rate import LearningRate
from rcdp_hpc.training.optim.schedules import check_schedule

(EXAMPLE,) = re.findall(
    r"```python\n(# my_schedules\.py\n.*?)```", (REPOSITORY / "docs/extending.md").read_text(), re.DOTALL
)
SETTINGS = (
    "search.generations=0", "data.class_keep_fractions=[]", "reservoir.nodes=20", "reservoir.kernel=dense-fp32",
    "reservoir.batch_rows=64", "readout.outputs=10", "readout.hidden=20", "training.batch=128", "training.threads=1",
    "training.baseline=false", "run.progress=false", "optimizer.learning_rate=0.01",
)  # fmt: skip
MORE = """
from rcdp_hpc.training.optim.schedules import Schedule

class Counts(Schedule):
    linear_warmup = False
    epochs = 0

    def factor(self, epoch, t):
        return 1 / (1 + self.epochs)

    def close_epoch(self, epoch, validation_loss):
        self.epochs += 1

    def state(self):
        return {"epochs": self.epochs}

    def restore(self, state):
        self.epochs = state["epochs"]

class Plain:
    pass

class Abstract(Schedule):
    pass

class Base(Schedule):
    def factor(self, epoch, t):
        return 1.0

class NeedsMore(Base):
    def __init__(self, settings, steps, epochs, warmup, more): pass

class Text(Base):
    def factor(self, epoch, t):
        return "high"

class Negative(Base):
    def factor(self, epoch, t):
        return 1 - 0.5 * epoch

class Infinite(Base):
    def factor(self, epoch, t):
        return float("inf")

class Fails(Base):
    def factor(self, epoch, t):
        return 1 / (5 - t)

class BadState(Base):
    def state(self):
        return [1]

class TextState(Base):
    def state(self):
        return {"kind": "low"}

class NoState(Counts):
    def state(self):
        return {}

    def restore(self, state):
        pass

class NoRestore(Counts):
    def restore(self, state):
        raise KeyError("epochs")
"""
CASES = [
    ("Plain", "not a subclass of rcdp_hpc.training.optim.schedules.Schedule"),
    ("Abstract", "its constructor raised TypeError"),
    ("NeedsMore", "its constructor raised TypeError: .*more"),
    ("Text", r"factor\(epoch=0, t=0\) returned 'high'; expected a number of 0 or more"),
    ("Negative", r"factor\(epoch=3, t=30\) returned -0.5; expected"),
    ("Infinite", "returned inf; expected"),
    ("Fails", r"factor raised ZeroDivisionError: .*more_schedules.py, line \d+"),
    ("BadState", r"state returned \[1\]; expected a dict of numbers by name"),
    ("TextState", "state returned {'kind': 'low'}; expected"),
    ("NoState", r"factor\(epoch=3, t=30\) is 0.2, and 1 after restore"),
    ("NoRestore", "restore raised KeyError: 'epochs' for what state returned"),
]


@pytest.fixture(autouse=True)
def _module(tmp_path, monkeypatch):
    (tmp_path / "my_schedules.py").write_text(EXAMPLE)
    (tmp_path / "more_schedules.py").write_text(MORE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    for module in ("my_schedules", "more_schedules"):
        sys.modules.pop(module, None)


def test_the_example_of_the_page_decides_the_rate(tmp_path):
    own = ("schedule.kind=my_schedules:InverseRoot", "schedule.interval=20", "schedule.warmup_steps=5")
    config = load_config("digits", [*SETTINGS, *own, "training.epochs=3"])
    run_stages(["prepare", "train"], config, tmp_path / "run")
    epochs = lines(tmp_path / "run/train/metrics.jsonl")
    steps = checkpoint.load(tmp_path / "run/train/last.pt")["rows"]
    steps = -(-steps // 128)
    # The rate of the last step of each epoch.
    expected = [0.01 * (1 + (steps * epoch - 1 - 5) / 20) ** -0.5 for epoch in (1, 2, 3)]
    assert [epoch["learning_rate"] for epoch in epochs] == pytest.approx(expected)


def test_its_state_is_in_the_checkpoint(tmp_path):
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    own = [*SETTINGS, "schedule.kind=more_schedules:Counts"]
    run_stages(["prepare"], load_config("digits", own), straight)
    shutil.copytree(straight, halted)
    run_stages(["train"], load_config("digits", [*own, "training.epochs=4"]), straight)
    run_stages(["train"], load_config("digits", [*own, "training.epochs=2"]), halted)
    run_stages(["train"], load_config("digits", [*own, "training.epochs=4"]), halted)
    rates = [epoch["learning_rate"] for epoch in lines(halted / "train/metrics.jsonl")]
    assert rates == pytest.approx([0.01, 0.005, 0.01 / 3, 0.0025])
    weights, expected = (checkpoint.load(out / "train/model.pt")["weights"] for out in (halted, straight))
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())
    content = checkpoint.load(halted / "train/last.pt")
    del content["format"]
    content["trainer"]["learning_rate"]["schedule"] = {"count": 3}
    checkpoint.save(halted / "train/last.pt", content)
    (halted / "train/last.pt.previous").unlink()
    with pytest.raises(DataDamagedError, match=r"last\.pt: does not fit the training"):
        run_stages(["train"], load_config("digits", [*own, "training.epochs=5"]), halted)


@pytest.mark.parametrize("name", SCHEDULES.names)
def test_every_schedule_of_the_table_keeps_the_contract(name):
    check_schedule(config_of(schedule__kind=name))


def test_a_schedule_with_a_rise_of_its_own_is_asked_for_the_warm_up():
    config = config_of(schedule__kind="more_schedules:Counts", schedule__warmup_steps=5, training__epochs=3)
    assert LearningRate(config, 10, 1).at(0, 0) == config.optimizer.learning_rate


@pytest.mark.parametrize(("name", "words"), CASES)
def test_a_broken_class_is_refused_before_data_are_read(name, words, tmp_path):
    config = load_config("digits", [*SETTINGS, f"schedule.kind=more_schedules:{name}", "training.epochs=4"])
    with pytest.raises(InputError, match=rf"^schedule.kind = 'more_schedules:{name}': .*{words}.*extending.md"):
        run_stages(["prepare", "train"], config, tmp_path / "run")
    assert not (tmp_path / "run").exists()

"""An optimiser of the user's own, of the training: trained with, resumed, and refused if it breaks its contract."""

from __future__ import annotations

import re
import shutil
import sys

import numpy as np
import pytest
import torch
from launch import REPOSITORY
from settings import config_of

from rcdp_hpc.config import load_config
from rcdp_hpc.deploy.predict import predict
from rcdp_hpc.errors import InputError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.model_file import ModelFile, named_code
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.code_consent import code_named_by
from rcdp_hpc.training.optim.optimizers import check_optimizer, make_optimizer

(EXAMPLE,) = re.findall(
    r"```python\n(# my_optimizers\.py\n.*?)```", (REPOSITORY / "docs/extending.md").read_text(), re.DOTALL
)
SETTINGS = (
    "search.generations=0", "data.class_keep_fractions=[]", "reservoir.nodes=20", "reservoir.kernel=dense-fp32",
    "reservoir.batch_rows=64", "readout.outputs=10", "readout.hidden=20", "training.batch=128", "training.threads=1",
    "training.baseline=false", "run.progress=false", "schedule.kind=constant",
    "optimizer.weight_decay=0", "training.patience=100", "optimizer.learning_rate=0.005",
)  # fmt: skip
OWN = "optimizer.kind=my_optimizers:SignSGD"
BROKEN = """
import torch
from torch.optim import Optimizer

class NoOptimizer:
    def __init__(self, params, lr): pass

class Base(Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weights in group["params"]:
                self.move(group, weights, self.state[weights])

    def move(self, group, weights, state):
        weights.sub_(group["lr"] * weights.grad)

class NoRate(Base):
    def __init__(self, params, rate):
        super().__init__(params, rate)

class NeedsMore(Base):
    def __init__(self, params, lr, beta):
        super().__init__(params, lr)

class OtherRate(Base):
    def __init__(self, params, lr):
        super().__init__(params, lr / 2)

class NeedsClosure(Base):
    def step(self, closure):
        closure()

class Fails(Base):
    def move(self, group, weights, state):
        weights.sub_(weights.missing)

class Idle(Base):
    def move(self, group, weights, state):
        pass

class Explodes(Base):
    def move(self, group, weights, state):
        weights.div_(0)

class Draws(Base):
    def move(self, group, weights, state):
        weights.sub_(group["lr"] * torch.randn_like(weights))

class FixedRate(Base):
    def move(self, group, weights, state):
        weights.sub_(0.1 * weights.grad)

class HiddenState(Base):
    count = 0
    def move(self, group, weights, state):
        self.count += 1
        weights.sub_(group["lr"] * weights.grad / self.count)

class ObjectState(Base):
    def move(self, group, weights, state):
        state["generator"] = torch.Generator
        super().move(group, weights, state)

class ReadsBack(Base):
    reads_nothing_back = True
    def move(self, group, weights, state):
        weights.sub_(weights.grad, alpha=float(group["lr"]))

class IgnoresFlag(Base):
    reads_nothing_back = True

class DoubledRate(Base):
    reads_nothing_back = True
    def move(self, group, weights, state):
        rate = group["lr"]
        weights.sub_((2 * rate if isinstance(rate, torch.Tensor) else rate) * weights.grad)

class BadOptions(Base):
    @classmethod
    def options(cls, config):
        return {"beta": config.optimizer.missing}
"""
CASES = [
    ("NoOptimizer", "not a class derived from torch.optim.Optimizer"),
    ("NoRate", r"the constructor has the parameters \(params, rate\); expected one named lr"),
    ("NeedsMore", r"NeedsMore\(lr\) raised TypeError: .*beta"),
    ("OtherRate", r'group\["lr"\] of param_groups is 0.0025; expected optimizer.learning_rate, 0.005'),
    ("NeedsClosure", r"step\(\) raised TypeError: .*closure"),
    ("Fails", r"step\(\) raised AttributeError: .*broken_optimizers.py, line \d+"),
    ("Idle", "4 steps change no weight"),
    ("Explodes", "weights are not finite"),
    ("Draws", "depend on random numbers"),
    ("FixedRate", r'do not depend on group\["lr"\]'),
    ("HiddenState", r"takes other steps after load_state_dict"),
    ("ObjectState", "holds other objects than tensors"),
    ("ReadsBack", r"the value of a tensor is read, .*reads_nothing_back must not \(.*broken_optimizers.py, line \d+\)"),
    ("IgnoresFlag", r"a step with self.found_inf = 1, whose gradients are NaN, changes the weights"),
    ("DoubledRate", r"takes other steps if group\[\"lr\"\] is a tensor without axes"),
    ("BadOptions", "options raised AttributeError"),
]


@pytest.fixture(autouse=True)
def _modules(tmp_path, monkeypatch):
    (tmp_path / "my_optimizers.py").write_text(EXAMPLE)
    (tmp_path / "broken_optimizers.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    for module in ("my_optimizers", "broken_optimizers", "masked_optimizers"):
        sys.modules.pop(module, None)


def test_the_example_of_the_page_trains_and_its_resume_ends_with_the_same_bits(tmp_path, caplog):
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    run_stages(["prepare"], load_config("digits", SETTINGS), straight)
    shutil.copytree(straight, halted)
    run_stages(["train"], load_config("digits", [*SETTINGS, OWN, "training.epochs=4"]), straight)
    run_stages(["train"], load_config("digits", [*SETTINGS, OWN, "training.epochs=2"]), halted)
    config = load_config("digits", [*SETTINGS, OWN, "training.epochs=4"])
    result = run_stages(["train"], config, halted)["train"]
    weights, expected = (checkpoint.load(out / "train/model.pt")["weights"] for out in (halted, straight))
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())
    assert result["validation_accuracy"] > 0.5
    assert "has changed" not in caplog.text
    assert code_named_by(config) == {"optimizer.kind": "my_optimizers:SignSGD"}
    # Prediction does not need the optimiser, and so imports no code.
    assert named_code(ModelFile.read(halted / "train/model.pt").config) == {}
    np.savez(tmp_path / "new.npz", x=np.full((3, 8, 8), 8.0))
    assert sum(predict(halted / "train/model.pt", tmp_path / "new.npz", tmp_path / "labels.csv").values()) == 3


def test_a_changed_module_is_reported_on_resume(tmp_path, caplog):
    out = tmp_path / "run"
    run_stages(["prepare", "train"], load_config("digits", [*SETTINGS, OWN, "training.epochs=1"]), out)
    with (tmp_path / "my_optimizers.py").open("a") as file:
        file.write("\n# changed\n")
    run_stages(["train"], load_config("digits", [*SETTINGS, OWN, "training.epochs=2"]), out)
    assert "module my_optimizers has changed since" in caplog.text


def test_a_class_may_read_nothing_back(tmp_path):
    (tmp_path / "masked_optimizers.py").write_text(
        "import torch\n"
        "class Masked(torch.optim.Optimizer):\n"
        "    reads_nothing_back, found_inf = True, None\n"
        "    def __init__(self, params, lr):\n"
        "        super().__init__(params, {'lr': lr})\n"
        "    @torch.no_grad()\n"
        "    def step(self, closure=None):\n"
        "        for group in self.param_groups:\n"
        "            for weights in group['params']:\n"
        "                moved = weights - group['lr'] * weights.grad\n"
        "                halted = torch.zeros(()) if self.found_inf is None else self.found_inf\n"
        "                weights.copy_(torch.where(halted > 0, weights, moved))\n"
    )
    check_optimizer(config_of(optimizer__kind="masked_optimizers:Masked"))


def test_it_gets_the_settings():
    config = config_of(
        optimizer__kind="my_optimizers:SignSGD", optimizer__weight_decay=0.1, optimizer__momentum=0.5,
        optimizer__learning_rate=0.02,
    )  # fmt: skip
    optimizer = make_optimizer(config, torch.nn.Linear(2, 2))
    assert optimizer.defaults == {"lr": 0.02, "weight_decay": 0.1, "decay": 0.5}
    # As Horovod derives a class and calls its constructor.
    derived = type("Derived", (type(optimizer),), {})(torch.nn.Linear(2, 2).parameters())
    assert derived.defaults == optimizer.defaults


@pytest.mark.parametrize("name", ["NAdam", "RMSprop", "Adagrad", "Adamax", "RAdam", "Adadelta", "Adafactor"])
def test_optimisers_of_torch_keep_the_contract(name):
    check_optimizer(config_of(optimizer__kind=f"torch.optim:{name}"))


@pytest.mark.parametrize(("name", "words"), [("LBFGS", "closure"), ("SparseAdam", "sparse")])
def test_optimisers_of_torch_for_other_uses_are_refused(name, words):
    with pytest.raises(InputError, match=words):
        check_optimizer(config_of(optimizer__kind=f"torch.optim:{name}"))


@pytest.mark.parametrize(("name", "words"), CASES)
def test_a_broken_class_is_refused_before_data_are_read(name, words, tmp_path):
    config = load_config("digits", [*SETTINGS, f"optimizer.kind=broken_optimizers:{name}"])
    with pytest.raises(InputError, match=rf"^optimizer.kind = 'broken_optimizers:{name}': .*{words}.*extending.md"):
        run_stages(["prepare", "train"], config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_weight_decay_that_the_class_does_not_take_is_refused():
    config = config_of(optimizer__kind="broken_optimizers:Base", optimizer__weight_decay=0.1)
    with pytest.raises(InputError, match=r"no parameter weight_decay, but optimizer.weight_decay = 0.1: set it to 0"):
        check_optimizer(config)
    check_optimizer(config_of(optimizer__kind="broken_optimizers:Base"))

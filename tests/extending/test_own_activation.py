"""An activation of the user's own: searched, trained with, and refused if it breaks its contract."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch
from launch import REPOSITORY

from rcdp_hpc.config import ReservoirSection, load_config
from rcdp_hpc.deploy.predict import predict
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.activations import Activation, load_activation
from rcdp_hpc.reservoir.kernels import kernel_names
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.code_consent import code_named_by
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.search.records.best import read_best
from rcdp_hpc.search.space import with_values

SETTINGS = (
    "data.class_keep_fractions=[]", "data.shards=1",
    "reservoir.nodes=30", "reservoir.kernel=dense-fp32", "reservoir.batch_rows=64",
    "readout.kind=ridge", "training.threads=1", "run.progress=false",
)  # fmt: skip
BROKEN = """
import torch
from rcdp_hpc.reservoir.activations import Activation

count = 0

def needs_two(x, y):
    return x

def returns_list(x):
    return x.tolist()

def other_shape(x):
    return x.sum()

def other_dtype(x):
    return x.double()

def changes_argument(x):
    return x.tanh_()

def not_finite(x):
    return x.log()

def another_each_time(x):
    global count
    count += 1
    return x + count

def mixes(x):
    return x - x.mean()

class NeedsArgument:
    def __init__(self, slope):
        pass

class NoFunction:
    pass

class WrongBound(Activation):
    bound = 1.0
    def __call__(self, x):
        return 2 * torch.tanh(x)

class OtherInPlace(Activation):
    def __call__(self, x):
        return torch.tanh(x)
    def apply_(self, x):
        return x

def without_gradient(x):
    return torch.tanh(x.detach())
"""


def example() -> str:
    """Return the module that docs/extending.md shows."""
    page = (REPOSITORY / "docs/extending.md").read_text()
    (code,) = re.findall(r"```python\n(# my_activations\.py\n.*?)```", page, re.DOTALL)
    return code


@pytest.fixture(autouse=True)
def _modules(tmp_path, monkeypatch):
    (tmp_path / "my_activations.py").write_text(example())
    (tmp_path / "broken_activations.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    sys.modules.pop("my_activations", None)
    sys.modules.pop("broken_activations", None)


def test_search_training_and_prediction_use_the_example_of_the_docs(tmp_path):
    choices = "search.space.activation.choices=['tanh','my_activations:Softsign']"
    config = load_config(
        "digits", [*SETTINGS, "reservoir.activation=my_activations:Softsign", choices, "search.generations=1",
                   "search.population=2"],
    )  # fmt: skip
    run = RunDirectory(tmp_path / "run")
    run_stages(["prepare", "search", "train", "evaluate"], config, run.path)
    np.savez(tmp_path / "new.npz", x=np.full((3, 8, 8), 8.0))
    assert sum(predict(run.model, tmp_path / "new.npz", tmp_path / "labels.csv").values()) == 3


@pytest.mark.parametrize("kernel", kernel_names())
def test_every_kernel_computes_it(kernel, rng):
    settings = {"nodes": 40, "density": 0.2, "activation": "my_activations:Softsign", "leak": 0.5}
    u = rng.random((5, 6, 3), dtype=np.float32)
    reservoir = Reservoir(ReservoirSection.model_validate(settings), 3, kernel)
    (matrices,) = reservoir.matrices[0]
    state = np.zeros((5, 40))
    for step in range(6):
        driven = state @ matrices.recurrent.toarray().T + u[:, step] @ matrices.input.T + matrices.bias
        state = 0.5 * state + 0.5 * driven / (1 + np.abs(driven))
    np.testing.assert_allclose(reservoir.states(u).double().numpy(), state, atol=0.03)


def test_a_class_of_torch_needs_no_module_of_the_users(rng):
    activation = load_activation("torch.nn:SELU")
    x = torch.randn(7)
    torch.testing.assert_close(activation(x), torch.selu(x))
    assert isinstance(activation, Activation)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("needs_two", r"f\(x\) failed for x of shape \(3, 11\) \(TypeError"),
        ("returns_list", "returned list; expected a tensor"),
        ("other_shape", r"returned a tensor \(\), torch.float32; expected a tensor \(3, 11\), torch.float32"),
        ("other_dtype", "torch.float64; expected"),
        ("changes_argument", "changes its argument"),
        ("not_finite", r"f\(-4\) is not finite"),
        ("another_each_time", "other values at the second call"),
        ("mixes", "depends on the other numbers"),
        ("NeedsArgument", r"NeedsArgument\(\) failed \(TypeError.*expected no arguments"),
        ("NoFunction", "are not functions"),
        ("WrongBound", r"bound = 1, but abs\(f\(x\)\) reaches 2"),
        ("OtherInPlace", "apply_ returns other values"),
    ],
)
def test_a_broken_one_is_refused_before_data_are_read(name, words, tmp_path):
    config = load_config(
        "digits", [*SETTINGS, f"reservoir.activation=broken_activations:{name}", "search.generations=0"]
    )
    with pytest.raises(InputError, match=rf"reservoir.activation = 'broken_activations:{name}'.*{words}"):
        run_stages(["prepare", "train"], config, tmp_path / "run")
    assert not (tmp_path / "run/shards/index.json").exists()


def test_a_trained_extractor_refuses_one_without_gradient(tmp_path):
    config = load_config(
        "digits",
        [*SETTINGS[:3], "reservoir.activation=broken_activations:without_gradient", "search.generations=0",
         "extractor.kind=convolution", "extractor.channels=[4]", "run.progress=false"],
    )  # fmt: skip
    with pytest.raises(InputError, match="without_gradient': its result has no gradient"):
        run_stages(["prepare", "train"], config, tmp_path / "run")


def test_choices_of_the_search_are_code_that_needs_consent():
    choices = "search.space.activation.choices=['tanh','my_activations:Softsign']"
    config = load_config("digits", [choices, "search.generations=1"])
    assert code_named_by(config) == {"search.space.activation.choices[1]": "my_activations:Softsign"}
    assert with_values(config, {"activation": "my_activations:Softsign"}).reservoir.activation.endswith("Softsign")
    with pytest.raises(InputError, match=r"names code that search\.space\.activation does not have"):
        with_values(config, {"activation": "other:Evil"})
    with pytest.raises(InputError, match="kernel of a candidate is not a dimension"):
        with_values(config, {"kernel": "other:Evil"})


@pytest.fixture
def rng():
    return np.random.default_rng(7)


READOUT_CODE = """
import torch

def gelu(x):
    return torch.nn.functional.gelu(x)

def detached(x):
    return x.detach().tanh()
"""


@pytest.fixture
def for_readouts(tmp_path, monkeypatch) -> None:
    (tmp_path / "readout_functions.py").write_text(READOUT_CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "readout_functions", raising=False)


@pytest.mark.usefixtures("for_readouts")
def test_a_function_of_the_user_in_a_searched_readout_is_trained_and_loaded(tmp_path):
    choices = "search.space.readout_activation={choices = ['readout_functions:gelu', 'tanh'], start = 'tanh'}"
    own = [*SETTINGS[:-3], "training.threads=1", "run.progress=false", "readout.kind=network", "training.epochs=1"]
    own += ["data.max_samples=300", "search.generations=1", "search.population=2", "search.evaluation=train"]
    own += ["search.epochs=1", "search.train_rows=100", "search.validation_rows=20", "readout.warm_start=false"]
    config = load_config("digits", [*own, choices, "readout.activation=readout_functions:gelu"])
    assert set(code_named_by(config).values()) == {"readout_functions:gelu"}
    run_stages(["prepare", "search", "train"], config, tmp_path / "run")
    values = read_best(RunDirectory(tmp_path / "run").best_candidate)
    assert values["readout_activation"] in ("readout_functions:gelu", "tanh")
    named = TrainedModel.load(tmp_path / "run" / "train" / "model.pt", own_code=["readout_functions:gelu"]).file.config
    assert named.readout.activation == values["readout_activation"]


@pytest.mark.usefixtures("for_readouts")
@pytest.mark.parametrize("place", ["readout.activation=", "search.space.readout_activation.choices=['tanh', "])
def test_a_function_that_torch_does_not_differentiate_is_refused_for_a_readout(tmp_path, place):
    search = ["search.generations=1", "search.evaluation=train", "readout.kind=network", "readout.warm_start=false"]
    end = "'readout_functions:detached']" if "choices" in place else "readout_functions:detached"
    config = load_config("digits", [*search, place + end])
    with pytest.raises(InputError, match=r"readout\.activation = 'readout_functions:detached': torch does not"):
        run_stages(["prepare"], config, tmp_path / "run")

"""A kernel of the user's own: trained with, and refused if it breaks its contract."""

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
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.stacked import check_stacked
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.rundir import RunDirectory

SETTINGS = (
    "data.class_keep_fractions=[]", "data.shards=1",
    "reservoir.nodes=30", "reservoir.batch_rows=64", "search.generations=0",
    "readout.kind=ridge", "training.threads=1", "run.progress=false",
)  # fmt: skip
BROKEN = """
import torch
from rcdp_hpc.errors import InputError
from my_kernels import TwoProducts
from rcdp_hpc.reservoir.kernels import Kernel
from rcdp_hpc.reservoir.kernels.dense import DenseFloat32

class NoKernel:
    pass

class NoStep(Kernel):
    dtype = torch.float32
    def begin(self, batch):
        pass

class NoDtype(Kernel):
    def begin(self, batch):
        pass
    def step(self, u, noise=None):
        pass

class WrongDtype(TwoProducts):
    dtype = torch.float64

class Fails(TwoProducts):
    def step(self, u, noise=None):
        return self.missing

class Nothing(TwoProducts):
    def step(self, u, noise=None):
        super().step(u, noise)

class OnlyRows(TwoProducts):
    def step(self, u, noise=None):
        return super().step(u, noise)[: len(u[0])]

class Double(TwoProducts):
    def step(self, u, noise=None):
        return super().step(u, noise).double()

class NoNoise(TwoProducts):
    def step(self, u, noise=None):
        return super().step(u)

class NoLeak(TwoProducts):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.leak = 1.0

class KeepsItsState(TwoProducts):
    def begin(self, batch):
        if not hasattr(self, "state"):
            super().begin(batch)

class OnGpu(TwoProducts):
    @classmethod
    def for_device(cls, device):
        if device.type != "cuda":
            raise InputError("a GPU, please")
        return cls

class OtherStep(DenseFloat32):
    def step(self, u, noise=None):
        return super().step(u, noise)
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path, monkeypatch):
    page = (REPOSITORY / "docs/extending.md").read_text()
    (code,) = re.findall(r"```python\n(# my_kernels\.py\n.*?)```", page, re.DOTALL)
    (tmp_path / "my_kernels.py").write_text(code)
    (tmp_path / "broken_kernels.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    sys.modules.pop("my_kernels", None)
    sys.modules.pop("broken_kernels", None)


def reservoir_section(**values):
    return ReservoirSection.model_validate({"nodes": 40, "density": 0.2, **values})


def test_training_and_prediction_use_the_example_of_the_docs(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path / "run")
    config = load_config("digits", [*SETTINGS, "reservoir.kernel=my_kernels:TwoProducts"])
    run_stages(["prepare", "train", "evaluate"], config, run.path)
    assert run.config().reservoir.kernel == "my_kernels:TwoProducts"
    np.savez(tmp_path / "new.npz", x=np.full((3, 8, 8), 8.0))
    assert sum(predict(run.model, tmp_path / "new.npz", tmp_path / "labels.csv").values()) == 3
    # Another user, who has not named the class in a configuration.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-of-another"))
    with pytest.raises(InputError, match=r"names code that would be run, reservoir\.kernel = 'my_kernels:TwoProducts'"):
        predict(run.model, tmp_path / "new.npz", tmp_path / "other.csv")


@pytest.mark.parametrize("values", [{"leak": 1.0}, {"leak": 0.4, "layers": 2, "window": 2, "activation": "relu"}])
def test_its_states_are_those_of_the_packages_kernels(values):
    settings = reservoir_section(**values)
    u = np.random.default_rng(7).random((7, 9, 3), dtype=np.float32)
    lengths = [9, 3, 5, 9, 1, 2, 8]
    result, expected = (
        Reservoir(settings, 3, kernel).states(u, lengths=lengths) for kernel in ("my_kernels:TwoProducts", "dense-fp32")
    )
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NoKernel", "expected a class derived from rcdp_hpc.reservoir.kernels.Kernel"),
        ("NoStep", "has no step: add it"),
        ("NoDtype", "dtype = None; expected torch.float32, torch.bfloat16, torch.float16"),
        ("WrongDtype", "dtype = torch.float64; expected"),
        ("Fails", r"a trial failed \(AttributeError: 'Fails' object has no attribute 'missing'\)"),
        ("Nothing", r"step returned NoneType; expected a tensor \(batch, nodes\) = \(4, 12\)"),
        ("OnlyRows", r"step returned shape \(2, 12\); expected"),
        ("Double", "step returned torch.float64; expected torch.float32"),
        ("NoNoise", "after step 2 .* and noise differ from eq. 9 by"),
        ("NoLeak", "after step 1 .* differ from eq. 9 by"),
        ("KeepsItsState", "after step 1 .* differ from eq. 9 by"),
    ],
)
def test_a_broken_one_is_refused_before_data_are_read(name, words, tmp_path):
    config = load_config("digits", [*SETTINGS, f"reservoir.kernel=broken_kernels:{name}"])
    with pytest.raises(InputError, match=rf"reservoir.kernel = 'broken_kernels:{name}'.*{words}"):
        run_stages(["prepare", "train"], config, tmp_path / "run")
    assert not (tmp_path / "run/shards/index.json").exists()


def test_a_kernel_for_gpus_is_refused_where_states_are_computed(tmp_path):
    config = load_config("digits", [*SETTINGS, "reservoir.kernel=broken_kernels:OnGpu"])
    run_stages(["prepare"], config, tmp_path / "run")
    with pytest.raises(InputError, match="a GPU, please"):
        Reservoir(config.reservoir, 8, "broken_kernels:OnGpu", "cpu")


def test_kind_diagonal_has_no_use_for_it(tmp_path):
    config = load_config("digits", [*SETTINGS, "reservoir.kernel=my_kernels:TwoProducts", "reservoir.kind=diagonal"])
    with pytest.raises(InputError, match=r"kernels of your own compute reservoir\.kind = 'random'"):
        run_stages(["prepare"], config, tmp_path / "run")


@pytest.mark.parametrize("kernel", ["my_kernels:TwoProducts", "broken_kernels:OtherStep"])
def test_several_candidates_at_once_need_a_step_of_one_product(kernel):
    with pytest.raises(InputError, match="computes one reservoir at a time"):
        check_stacked(Reservoir(reservoir_section(), 3, kernel))


def test_a_name_that_is_neither_of_the_table_nor_a_class():
    for name in ("auto", "dense"):
        with pytest.raises(InputError, match=f"reservoir.kernel = '{name}': expected dense-fp32, .* or module:Class"):
            Reservoir(reservoir_section(), 3, name)

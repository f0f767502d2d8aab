"""The kernel of one Triton program: its states in Triton's interpreter, and what replaces it elsewhere."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import torch

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.kernels import kernel_class, triton_bf16
from rcdp_hpc.reservoir.kernels.dense import DenseBfloat16
from rcdp_hpc.reservoir.kernels.trial import check_kernel
from rcdp_hpc.reservoir.kernels.triton_bf16 import TritonBfloat16, triton_computes
from rcdp_hpc.reservoir.states import Reservoir

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PROGRAM = "rcdp_hpc.reservoir.kernels.triton_step"


class TritonFloat16(TritonBfloat16):
    """The same program in float16: Triton's interpreter has no products of bfloat16."""

    dtype = torch.float16

    @classmethod
    def for_device(cls, device):
        return cls


def section(**values):
    return ReservoirSection.model_validate({"nodes": 150, "density": 0.3, **values})


@pytest.fixture
def _interpreter(monkeypatch):
    """Let Triton compute on the CPU."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed: its interpreter computes the kernel triton-bf16 on a CPU")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.delitem(sys.modules, PROGRAM, raising=False)
    yield
    sys.modules.pop(PROGRAM, None)


@pytest.mark.usefixtures("_interpreter")
def test_the_program_computes_eq_9():
    check_kernel("triton-bf16", TritonFloat16, CPU)


@pytest.mark.usefixtures("_interpreter")
@pytest.mark.parametrize(
    "values",
    [{"activation": "sigmoid", "noise": 0.1}, {"leak": 0.4, "activation": "relu"}, {"leak": 0.9, "leak_low": 0.2}],
)
@pytest.mark.parametrize("lengths", [None, [3, 1, 2, 3, 2]])
def test_states_of_several_tiles_are_those_of_torch(values, lengths, monkeypatch, rng):
    monkeypatch.setitem(sys.modules, "kernels_of_test", sys.modules[__name__])
    u = rng.random((5, 3, 6), dtype=np.float32)
    results = [
        Reservoir(section(**values), 6, kernel).states(u, lengths=lengths, noisy=True).float()
        for kernel in ("dense-fp32", "kernels_of_test:TritonFloat16")
    ]
    torch.testing.assert_close(*results, rtol=0, atol=0.004)


def test_other_devices_compute_with_torch():
    assert not triton_computes(CPU)
    assert kernel_class("triton-bf16").for_device(CPU) is DenseBfloat16
    assert not TritonBfloat16.is_measured(1000, 1.0, CPU)


@pytest.mark.parametrize(("found", "error", "works"), [(None, "", False), (1, "no compiler", False), (1, "", True)])
def test_a_gpu_computes_with_triton_if_a_small_reservoir_is_right(found, error, works, monkeypatch, caplog):
    def check(name, kernel, device):
        if error:
            raise InputError(error)

    monkeypatch.setattr("rcdp_hpc.runtime.logs._logged_once", set())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    monkeypatch.setattr(triton_bf16, "check_kernel", check)
    triton_computes.cache_clear()
    try:
        assert TritonBfloat16.is_measured(1000, 1.0, GPU) == works
        assert (TritonBfloat16.for_device(GPU) is TritonBfloat16) == works
    finally:
        triton_computes.cache_clear()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == (["Triton cannot be used, dense-bf16 replaces triton-bf16: no compiler"] if error else [])


def test_other_activations_and_stacks_are_computed_by_torch(rng):
    u = rng.random((4, 3, 6), dtype=np.float32)
    settings = section(activation="torch.nn:SELU")
    reservoir = Reservoir(settings, 6, "dense-bf16")
    expected = reservoir.states(u)
    kernel = TritonBfloat16(settings, reservoir.matrices[0][0], None, CPU)
    assert torch.equal(kernel.stacked_weights(), reservoir.only_kernel.stacked_weights())
    reservoir._run.kernels = [[kernel]]
    assert torch.equal(reservoir.states(u), expected)

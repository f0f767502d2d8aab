"""A block as a GPU computes it: calls of a step, nothing read back, recorded once and replayed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.block_graph import BlockGraph, cuda_recorder
from rcdp_hpc.reservoir.kernels import slots
from rcdp_hpc.reservoir.sequence_checks import CollectedChecks
from rcdp_hpc.reservoir.states import Reservoir

OPTIONS = {
    "plain": {},
    "leak": {"leak": 0.3, "leak_low": 0.1, "reduction": ["mean_std", "max"]},
    "noise": {"noise": 0.05, "reduction": ["segments", "positive"], "segments": 3},
    "deep": {"layers": 2, "bidirectional": True, "states": 3, "window": 2, "differences": True},
    "all": {"reduction": "all", "scans": ["forward", "backward"]},
    "diagonal": {"kind": "diagonal", "memory_units": 10, "leak": 0.5},
}


def section(**values):
    return ReservoirSection.model_validate({"nodes": 20, "density": 0.3, "batch_rows": 4, **values})


class Calls(TorchDispatchMode):
    """Counts the operations that start something on a device, and keeps them to do them again."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler, which takes seconds, to keep it out

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        aliases = [value.alias_info for value in operation._schema.returns]
        if not any(alias is not None and not alias.is_write for alias in aliases):
            self.calls.append((operation, args, kwargs or {}, result))
        return result

    def replay(self):
        for operation, args, kwargs, result in self.calls:
            again = operation(*args, **kwargs)
            if isinstance(result, torch.Tensor) and again is not result:
                result.copy_(again)


def recorder(function):
    """Record a function as a CUDA graph does: its operations on the tensors that they had."""
    with Calls() as calls:
        function()
    return calls.replay


def calls_of(reservoir, steps):
    u = torch.rand(4, steps, 6)
    with Calls() as calls, torch.no_grad():
        reservoir._run.compute(u, torch.empty(4, reservoir.width, dtype=reservoir.dtype), noisy=True)
    return len(calls.calls)


@pytest.mark.parametrize("kernel", ["dense-fp32", "dense-bf16"])
@pytest.mark.parametrize(
    ("values", "fp32", "bf16"),
    [({}, 2, 2), ({"activation": "relu"}, 2, 2), ({"leak": 0.5}, 3, 5), ({"reduction": "mean"}, 4, 4)],
)
def test_a_step_has_few_calls(kernel, values, fp32, bf16, monkeypatch):
    """Product and activation with leak 1; the inputs of all steps are written at once where memory allows it."""
    monkeypatch.setattr(slots, "slots_for", lambda steps, *others: steps)
    reservoir = Reservoir(section(**values), 6, kernel)
    more, fewer = calls_of(reservoir, 16), calls_of(reservoir, 8)
    assert more - fewer == 8 * (fp32 if kernel == "dense-fp32" else bf16)
    assert fewer <= 8 * (fp32 if kernel == "dense-fp32" else bf16) + 16


@pytest.mark.parametrize("kernel", ["dense-fp32", "dense-bf16", "dense-fp16"])
@pytest.mark.parametrize("option", OPTIONS)
def test_a_block_reads_nothing_back(kernel, option):
    """The meta device has no values: reading one raises."""
    reservoir = Reservoir(section(**OPTIONS[option]), 6, kernel, "meta", steps=7)
    checks = CollectedChecks(torch.device("meta"))
    with checks.collecting(0):
        states = reservoir.states(torch.empty(5, 7, 6, device="meta"), noisy=True)
    assert states.shape == (5, reservoir.width)
    assert states.device.type == "meta"


@pytest.mark.parametrize("count", [2, 3, 7, 99])
@pytest.mark.parametrize("option", ["plain", "leak", "deep"])
@pytest.mark.parametrize("lengths", [None, [7, 2, 5, 7, 1]])
def test_the_number_of_slots_changes_nothing(count, option, lengths, monkeypatch, rng):
    values = dict(OPTIONS[option])
    if lengths is not None:
        values.pop("states", None)
    reservoir = Reservoir(section(**values), 6)
    u = rng.random((5, 7, 6), dtype=np.float32)
    expected = reservoir.states(u, lengths=lengths)
    monkeypatch.setattr(slots, "slots_for", lambda steps, *others: max(2, min(steps, count)))
    assert torch.equal(reservoir.states(u, lengths=lengths), expected)


def test_slots_fit_into_their_memory():
    assert slots.slots_for(28, torch.empty(28, 512, 28), 1056) == 2
    gpu = torch.empty(28, 8192, 28, dtype=torch.bfloat16, device="meta")
    assert slots.slots_for(28, gpu, 1056) == 28
    assert slots.slots_for(28, gpu[:, :1].expand(28, 10**6, 28), 10**5) == 2


@pytest.mark.parametrize("kernel", ["dense-fp32", "dense-bf16"])
@pytest.mark.parametrize("option", OPTIONS)
def test_a_replayed_block_has_the_bits_of_a_computed_one(kernel, option, rng):
    reservoir = Reservoir(section(**OPTIONS[option]), 6, kernel, steps=7)
    blocks = rng.random((5, 4, 7, 6), dtype=np.float32)
    expected = [reservoir.states(block, noisy=True) for block in blocks]
    recorded = []
    reservoir._graph = BlockGraph(lambda function: recorded.append(1) or recorder(function), 1)
    results = [reservoir.states(block, noisy=True) for block in blocks]
    for one, other in zip(results, expected, strict=True):
        assert torch.equal(one, other)
    assert len(recorded) == 1


def test_a_pass_of_few_blocks_is_not_recorded(rng):
    reservoir = Reservoir(section(), 6)
    recorded = []
    reservoir._graph = BlockGraph(lambda function: recorded.append(1) or recorder(function), 3)
    x = rng.random((20, 7, 6), dtype=np.float32)
    for blocks in (3, 3, 5):  # of 4 rows
        reservoir.compute(x[: 4 * blocks])
    assert len(recorded) == 1


def test_a_short_block_between_others_keeps_the_recording(rng):
    reservoir = Reservoir(section(), 6)
    recorded = []
    reservoir._graph = BlockGraph(lambda function: recorded.append(1) or recorder(function), 1)
    x = rng.random((15, 7, 6), dtype=np.float32)
    expected = Reservoir(section(), 6).compute(x)
    for _ in range(3):
        for start in range(0, 15, 4):
            assert torch.equal(reservoir.states(x[start : start + 4]), expected[start : start + 4])
    assert len(recorded) == 1
    assert torch.equal(reservoir.compute(x), expected)
    assert len(recorded) == 1
    assert reservoir._graph._recording is None


def test_blocks_that_cannot_be_recorded_are_computed(rng, caplog, monkeypatch):
    monkeypatch.setattr("rcdp_hpc.runtime.logs._logged_once", set())

    def refuse(function):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    reservoir = Reservoir(section(), 6)
    x = rng.random((12, 7, 6), dtype=np.float32)
    expected = reservoir.compute(x)
    reservoir._graph = BlockGraph(refuse, 1)
    assert torch.equal(reservoir.compute(x), expected)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "not recorded as a CUDA graph (operation not permitted when stream is capturing)" in message
    assert cuda_recorder(torch.device("cpu")) is None


def test_only_operations_of_the_package_are_recorded():
    assert Reservoir(section(), 6)._run.recordable
    assert not Reservoir(section(activation="torch.nn:SELU"), 6)._run.recordable
    assert not Reservoir(section(), 6, "sparse-fp32")._run.recordable


def test_collected_checks_still_name_the_row(rng, monkeypatch):
    """As on a GPU: what the blocks hold is read after the last one."""
    monkeypatch.setattr(
        "rcdp_hpc.reservoir.states.CollectedChecks", lambda device: CollectedChecks(device, at_once=False)
    )
    x = rng.random((9, 4, 4), dtype=np.float32)
    reservoir, counted = Reservoir(section(nodes=8), 4), []
    reservoir.compute(x, advance=counted.append)
    x[6, 1, 2] = np.nan
    with pytest.raises(CandidateError, match=r"rows from 4: row 2 of the batch holds nan \(step 1, feature 2\)"):
        reservoir.compute(x, advance=counted.append)
    assert counted == [4, 4, 1] * 2

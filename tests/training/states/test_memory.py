"""The memory that the states of a rank may use, with fakes of a GPU's memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from rcdp_hpc.config import load_config
from rcdp_hpc.reservoir.kernels.slots import SLOT_BYTES
from rcdp_hpc.runtime.comm.gpus import ranks_of_same_gpu
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.device import WORKSPACE
from rcdp_hpc.runtime.ram import MIB, machine_memory
from rcdp_hpc.search.evaluation.limits import agreed_limit, gpu_limit
from rcdp_hpc.training.states import host_states
from rcdp_hpc.training.states.host_states import HostStates, SideStream, host_tensor
from rcdp_hpc.training.states.memory import Memories
from rcdp_hpc.training.work import network_bytes
from tests.parallel.thread_ranks import on_ranks

GPU = torch.device("cuda", 0)
TOTAL = 80_000 * MIB


@pytest.fixture(autouse=True)
def _fake_gpu(monkeypatch):
    """A GPU with 80,000 MiB, of which other programs use 10,000 and this process holds 500, 400 of them unused."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (TOTAL - 10_000 * MIB, TOTAL))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda where: 500 * MIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda where: 100 * MIB)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: "H100")
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda where: SimpleNamespace(name="H100", uuid="a", total_memory=TOTAL)
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def memories(comm, *settings: str, where: torch.device = GPU, profile: str = "digits", shape=(8, 8)) -> Memories:
    base = [] if profile == "digits" else ["data.path=/data"]
    return Memories.of_rank(load_config(profile, [*base, *settings]), comm, where, shape, 1600)


def test_the_memory_of_a_gpu_is_what_is_free_without_the_network():
    found = memories(SingleProcess())
    network = network_bytes(load_config("digits"), (8, 8), 1600)
    assert 0 < network < 1000 * MIB
    block = SLOT_BYTES + 256 * 4 * (4 * 400 + 3 * 1600)
    assert found.gpu == TOTAL - 10_000 * MIB + 400 * MIB - WORKSPACE - network - int(0.05 * TOTAL) - block
    assert found.gpu_name == "H100"
    assert found.host == machine_memory()


def test_ranks_divide_the_gpu_that_they_share():
    alone = memories(SingleProcess()).gpu
    two = on_ranks(2, lambda comm: memories(comm).gpu)
    assert two[0] == two[1]
    assert alone - two[0] == (TOTAL - 10_000 * MIB + 400 * MIB) // 2


def test_groups_of_ranks_divide_the_gpus_of_their_host():
    comm = SingleProcess()
    host = on_ranks(1, lambda _: __import__("socket").gethostname())[0]
    comm.job_placement = [(host, frozenset({0}))] * 5 + [("other", frozenset({0}))]
    # Five ranks on two GPUs: one of them has three.
    assert ranks_of_same_gpu(comm, GPU) == 3


def test_a_limit_of_the_user_holds_for_gpu_and_host():
    found = memories(SingleProcess(), "states.memory_mib=64", "states.disk_mib=7")
    assert (found.gpu, found.host, found.disk) == (64 * MIB, 64 * MIB, 7 * MIB)
    # It cannot exceed what is there.
    assert memories(SingleProcess(), "states.memory_mib=90000").gpu == memories(SingleProcess()).gpu


def test_a_cpu_has_no_gpu_memory():
    found = memories(SingleProcess(), where=torch.device("cpu"))
    assert found.gpu is None
    assert found.host == machine_memory()


def test_large_networks_leave_less_for_states():
    image = {"profile": "cifar10-long", "shape": (32, 32, 3)}
    assert network_bytes(load_config("cifar10-long", ["data.path=/data"]), (32, 32, 3), 3072) > 500 * MIB
    larger = memories(SingleProcess(), "training.batch=4096", **image).gpu
    assert larger < memories(SingleProcess(), **image).gpu - 4000 * MIB
    # Of a network of the user's own nothing is known.
    own = memories(SingleProcess(), "extractor.kind=mine:Net", **image).gpu
    assert own == pytest.approx(0.38 * TOTAL, rel=0.02)


def test_rows_from_the_host_are_those_of_the_tensor():
    stored = torch.arange(12.0).reshape(4, 3).half()
    states = HostStates(stored, torch.device("cpu"))
    assert states.shape == (4, 3)
    assert states.dtype == torch.float16
    assert torch.equal(states[torch.tensor([3, 0])], stored[[3, 0]])
    assert torch.equal(states[1:3], stored[1:3])
    assert states[torch.tensor([], dtype=torch.int64)].shape == (0, 3)


def test_on_a_cpu_work_runs_as_it_is():
    assert SideStream(torch.device("cpu")).run(lambda: [torch.ones(1)], iter) == [torch.ones(1)]


def test_a_thread_works_on_the_gpu_and_the_stream_of_the_rank(monkeypatch):
    calls = []

    @contextmanager
    def entered(name: str, value: object) -> Iterator[None]:
        calls.append((name, value))
        yield

    side = SimpleNamespace(wait_stream=calls.append, synchronize=lambda: calls.append("synchronized"))
    fakes = {
        "current_stream": lambda device: "main",
        "default_stream": lambda device: "default",
        "device": partial(entered, "device"),
        "stream": partial(entered, "stream"),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(host_states, "stream_for", lambda purpose, device: side)
    result = SimpleNamespace(record_stream=calls.append)
    gpu = torch.device("cuda", 3)
    assert SideStream(gpu).run(lambda: calls.append("work") or [result], iter) == [result]
    assert calls == ["main", ("device", gpu), ("stream", side), "work", "synchronized", "default"]


def test_candidates_divide_the_whole_memory_of_a_gpu():
    """Whatever other programs use, so that a resumed search refuses the same candidates."""
    config = load_config("digits")
    share = (TOTAL - WORKSPACE) // 2
    assert on_ranks(2, lambda comm: gpu_limit(config, comm, GPU)) == [share, share]
    assert gpu_limit(load_config("digits", ["search.candidate_memory=7"]), SingleProcess(), GPU) == 7 * MIB
    # A candidate must also fit into main memory, where its matrices are built.
    assert agreed_limit(config, SingleProcess(), 0, 0, "cuda:0") == min(TOTAL - WORKSPACE, machine_memory())
    assert agreed_limit(config, SingleProcess(), 0, 0) == machine_memory()


def test_host_memory_is_locked_until_it_is_freed(monkeypatch, caplog):
    calls = []
    runtime = SimpleNamespace(
        cudaHostRegister=lambda address, size, flags: calls.append((address, size)) or 0,
        cudaHostUnregister=lambda address: calls.append(address),
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    part = host_tensor(4, 3, torch.float16)[1:]
    gc.collect()
    ((address, size),) = calls
    assert size == 4 * 3 * 2
    assert part.data_ptr() == address + 3 * 2
    assert part.shape == (3, 3)
    del part
    gc.collect()
    assert calls[1:] == [address]
    runtime.cudaHostRegister = lambda *_: 2

    def reported(*_: object, device: str) -> None:
        calls.append(device)
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch, "ones", reported)
    with caplog.at_level("INFO"):
        assert host_tensor(4, 3, torch.float32).shape == (4, 3)
    assert "cannot be locked (ulimit -l)" in caplog.text
    assert calls[-1] == "cuda"

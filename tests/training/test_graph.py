"""Recorded work: a recording of torch calls on the CPU stands for a CUDA graph."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recorded_step import CallRecorder, NoReadBacks, ReadBackError
from settings import config_of
from tiny_training import EXTRACTED, trainer
from torch import nn

from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.parallel.single import single_process
from rcdp_hpc.runtime import cuda_graphs
from rcdp_hpc.training import graph
from rcdp_hpc.training.graph import WARM_UPS, CudaGraphs, GraphRunner
from rcdp_hpc.training.recorded_steps import record_steps, wants_recordings


class Toy:
    """A step on fixed tensors, in two pieces."""

    def __init__(self, recorder: CallRecorder | None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.network = nn.Linear(3, 2)
        with torch.no_grad():
            self.network.weight.copy_(torch.randn(2, 3, generator=generator))
            self.network.bias.zero_()
        self.rows = torch.zeros(4, 3)
        self.loss = torch.zeros((), dtype=torch.float64)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.1, capturable=False, fused=True)
        self.runner = GraphRunner(recorder, list(self.network.parameters()))

    def compute(self) -> None:
        self.optimizer.zero_grad()
        loss = self.network(self.rows).square().sum()
        loss.backward()
        self.loss += loss.detach()

    def apply(self) -> None:
        self.optimizer.step()

    def step(self, number: int, key: object = None) -> None:
        self.rows.copy_(torch.full((4, 3), float(number)))
        self.runner.run("compute", self.compute, key)
        for weights in self.network.parameters():
            weights.grad.mul_(0.5)
        self.runner.run("apply", self.apply, key)

    def result(self) -> list[torch.Tensor]:
        return [self.loss, *self.network.state_dict().values()]


def test_recorded_pieces_give_the_bits_of_the_work_itself():
    recorder = CallRecorder()
    plain, recorded = Toy(None), Toy(recorder)
    for number in range(WARM_UPS + 4):
        if number == WARM_UPS + 2:
            # As a shorter batch: it runs as it is, between two repetitions.
            plain.compute(), plain.apply()
            recorded.compute(), recorded.apply()
        plain.step(number)
        recorded.step(number)
    assert (recorder.warm_ups, recorder.records, recorder.repeats) == (2 * WARM_UPS, 2, 8)
    assert all(map(torch.equal, plain.result(), recorded.result()))


def test_each_key_has_its_recording_and_moved_tensors_are_recorded_again():
    recorder = CallRecorder()
    plain, recorded = Toy(None), Toy(recorder)
    for number in range(4 * WARM_UPS + 6):
        plain.step(number)
        recorded.step(number, key=number % 2)
        if number == 2 * WARM_UPS + 2:
            recorded.rows = torch.zeros(4, 3)
            recorded.runner.forget()
    # Two keys of two pieces, twice.
    assert (recorder.warm_ups, recorder.records) == (8 * WARM_UPS, 8)
    assert all(map(torch.equal, plain.result(), recorded.result()))


def test_a_larger_batch_changes_the_weight_of_the_smaller_ones_that_were_recorded(monkeypatch):
    monkeypatch.setattr(graph, "WARM_UPS", 1)
    plain, recorded = (trainer(**{**EXTRACTED, "training__gradient_norms": False}) for _ in range(2))
    recorder = CallRecorder()
    record_steps(recorded.config, recorded.stepper, recorder)
    plain.stepper.rate_on_device = True
    for one in (plain, recorded):
        one.network.train()
        for count in (4, 4, 4, 8, 4, 4):
            one.stepper.launch([np.arange(count)], float(count), 0.01)
    assert (recorder.warm_ups, recorder.records, recorder.repeats) == (2, 2, 4)
    assert all(map(torch.equal, recorded.network.state_dict().values(), plain.network.state_dict().values()))


@pytest.mark.parametrize("is_recorded", [False, True])
def test_states_are_freed_with_their_training(is_recorded):
    one = trainer(training__epochs=1)
    if is_recorded:
        record_steps(one.config, one.stepper, CallRecorder())
    gc.collect()
    gc.disable()
    try:
        one.run(lambda: None, lambda report: None)
        states = weakref.ref(one.train.states)
        del one
        assert states() is None
    finally:
        gc.enable()


def test_what_cannot_be_recorded_runs_as_it_is_with_one_warning(caplog):
    plain, recorded = Toy(None), Toy(CallRecorder())
    compute = Toy.compute

    def reading(self: Toy) -> None:
        compute(self)
        self.loss.mul_(1.0 if self.loss.item() >= 0 else 0.0)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Toy, "compute", reading)
        for number in range(WARM_UPS + 3):
            plain.step(number)
            recorded.step(number)
    assert recorded.runner.recorder is None
    assert all(map(torch.equal, plain.result(), recorded.result()))
    assert len(caplog.records) == 1
    assert "the compute cannot be recorded" in caplog.text
    assert "waits for the device" in caplog.text


def test_values_that_are_read_raise_with_their_place():
    values = torch.arange(3.0)
    with NoReadBacks():
        values.add(1)
        for read in (
            lambda: float(values[0]),
            lambda: values[values > 1],
            lambda: values.nonzero(),
            lambda: bool(torch.isfinite(values).all()),
            lambda: torch.empty(2, device="meta").cpu(),
        ):
            with pytest.raises(ReadBackError, match=r"test_graph.py:\d+: .* waits for the device"):
                read()


def test_a_training_says_why_its_steps_are_not_recorded(caplog):
    gpu, alone = torch.device("cuda", 0), single_process()
    network = nn.Sequential(SyncBatchNorm(2, alone, "norm"))
    ranks = SimpleNamespace(sums_batches=True)
    own = config_of(loss__kind="lossy:Own")
    assert wants_recordings(config_of(), gpu, network, alone)
    assert wants_recordings(config_of(), gpu, nn.Sequential(), ranks)
    assert wants_recordings(config_of(), gpu, network, SimpleNamespace(sums_batches=False))
    assert not wants_recordings(config_of(), torch.device("cpu"), network, alone)
    assert not wants_recordings(config_of(training__graph="off"), gpu, network, alone)
    with caplog.at_level(logging.INFO):
        assert not wants_recordings(own, gpu, network, alone)
        assert not wants_recordings(config_of(), gpu, network, ranks)
    assert "loss.kind is a class of the user's own" in caplog.messages[0]
    assert "batch statistics are sums over all ranks" in caplog.messages[1]
    assert wants_recordings(config_of(loss__kind="lossy:Own", training__graph="on"), gpu, network, alone)


class FakeCuda:
    """Stands for torch.cuda: notes what is asked for, and fails to record work that raises."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.now = self.other = None

    def patched(self, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
        def stream(name: str) -> SimpleNamespace:
            return SimpleNamespace(
                name=name,
                wait_stream=lambda other: self.asked.append(f"{name} waits {other.name}"),
                synchronize=lambda: self.asked.append("wait"),
            )

        self.now, self.other = stream("main"), stream("side")

        @contextmanager
        def graph_of(graph: object, pool: object, stream: SimpleNamespace, capture_error_mode: str) -> Iterator[None]:
            self.asked.append(f"record on {stream.name} in {pool}, {capture_error_mode}")
            self.now = stream
            try:
                yield
            except ReadBackError:
                raise RuntimeError("operation failed due to a previous error during capture") from None

        fakes = {
            "graph_pool_handle": lambda: self.asked.append("pool") or f"pool {self.asked.count('pool')}",
            "current_stream": lambda device=None: self.now,
            "stream": lambda stream: nullcontext(),
            "device": lambda device: nullcontext(),
            "set_stream": lambda stream: setattr(self, "now", stream),
            "CUDAGraph": lambda: SimpleNamespace(
                replay=lambda: self.asked.append("replay"), reset=lambda: self.asked.append("reset")
            ),
            "graph": graph_of,
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        monkeypatch.setattr(graph, "stream_for", lambda purpose, device: self.other)
        return self


def test_cuda_graphs_are_recorded_on_the_stream_of_the_warm_ups(monkeypatch):
    cuda = FakeCuda().patched(monkeypatch)
    runner = GraphRunner(CudaGraphs(torch.device("cuda", 0)))
    for _ in range(WARM_UPS + 2):
        runner.run("step", lambda: cuda.asked.append("work"))
    warm_up = ["side waits main", "work", "main waits side"]
    recording = ["record on side in pool 1, thread_local", "work"]
    assert cuda.asked == ["pool", *(warm_up * WARM_UPS), *recording, "replay", "replay"]
    assert cuda.now.name == "main"
    # The memory of graphs that are gone cannot be that of others.
    runner.record_again()
    # Nor may one of them be freed meanwhile.
    runner.run("step", lambda: cuda.asked.append(f"garbage {gc.isenabled()}"))
    assert cuda.asked[-5:] == ["wait", "pool", "record on side in pool 2, thread_local", "garbage False", "replay"]
    assert gc.isenabled()


def test_each_purpose_has_a_stream_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: object())
    gpu, stream_of = torch.device("cuda", 0), cuda_graphs.stream_for.__wrapped__
    monkeypatch.setattr(cuda_graphs, "stream_for", cache(stream_of))
    recorder, other = cuda_graphs.stream_for("steps", gpu), cuda_graphs.stream_for("copies", gpu)
    assert cuda_graphs.stream_for("steps", gpu) is recorder
    assert recorder is not other


def test_a_graph_that_fails_is_explained_and_leaves_torch_on_its_stream(monkeypatch, caplog):
    cuda = FakeCuda().patched(monkeypatch)
    runner, runs = GraphRunner(CudaGraphs(torch.device("cuda", 0))), []

    def work() -> None:
        runs.append(cuda.now.name)
        if cuda.now.name == "side":
            raise ReadBackError("operation not permitted when stream is capturing\nmore text")

    for _ in range(WARM_UPS + 2):
        runner.run("step", work)
    assert runs == ["main"] * WARM_UPS + ["side", "main", "main"]
    assert cuda.asked[-1] == "reset"
    (record,) = caplog.records
    assert record.getMessage().endswith("takes longer: operation not permitted when stream is capturing")

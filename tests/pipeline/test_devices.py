"""Which device computes a stage, with fakes of the ranks' GPUs."""

from __future__ import annotations

import logging
import os

import pytest
import torch

from rcdp_hpc.config import load_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline import devices, resolve
from rcdp_hpc.pipeline.devices import (
    gpus_for,
    refuse_missing_gpus,
    refuse_shared_later,
    search_device,
    set_up_libraries,
    training_device,
)
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime import device
from rcdp_hpc.runtime.comm.gpus import RankGPU
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.search import at_once
from rcdp_hpc.training.work import Work
from tests.parallel.thread_ranks import on_ranks

NONE = [RankGPU("n1")]
GPU = [RankGPU("n1", "a", "H100")]
SHARED = [RankGPU("n1", "a", "H100")] * 2


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.INFO)


@pytest.fixture
def work(monkeypatch):
    """Set the estimate of the work."""

    def estimate(products: float | None) -> None:
        found = None if products is None else Work(products, 100)
        monkeypatch.setattr(devices, "_work", lambda *_: found)

    return estimate


def chosen(gpus, *settings: str) -> str:
    return training_device(load_config("digits", list(settings)), RunDirectory(None), gpus, 8)


def test_small_work_stays_on_the_cpu_and_the_log_says_why(work, caplog):
    work(1e11)
    assert chosen(GPU) == "cpu"
    (line,) = caplog.messages
    assert line == "the CPU trains (training.device = auto): about 1 s on 8 threads, 5 s on H100 with its start"
    caplog.clear()
    work(1e13)
    assert chosen(GPU) == "gpu"
    (line,) = caplog.messages
    assert line == "the GPU trains (training.device = auto): about 42 s on 8 threads, 6 s on H100 with its start"


def test_settings_of_the_user_decide(work, caplog):
    work(1e11)
    assert chosen(GPU, "training.device=gpu") == "gpu"
    work(1e13)
    assert chosen(GPU, "training.device=cpu") == "cpu"
    assert not caplog.messages
    work(1e9)
    assert chosen(GPU, "training.precision=fp16") == "gpu"
    assert "its settings are for GPUs" in caplog.text
    work(None)
    assert chosen(GPU) == "gpu"


def test_without_a_gpu_for_every_rank_the_cpu_computes(work, caplog):
    work(1e15)
    assert chosen([]) == chosen(NONE) == "cpu"
    assert not caplog.messages
    assert chosen([*GPU, *NONE]) == "cpu"
    assert "1 of 2 ranks have no GPU" in caplog.text


def test_gpus_that_torch_does_not_see_are_reported(work, caplog, monkeypatch):
    monkeypatch.setattr(device, "gpus_of_driver", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    work(1e15)
    assert chosen(NONE) == "cpu"
    assert "torch sees none of the 4 GPUs of this host: CUDA_VISIBLE_DEVICES hides them" in caplog.text


def test_ranks_that_will_share_a_gpu_are_refused_before_the_search(work):
    config = load_config("digits")
    work(1e13)
    refuse_shared_later(config, RunDirectory(None), GPU, 8)
    with pytest.raises(InputError, match="2 ranks train on 1 GPU of host n1"):
        refuse_shared_later(config, RunDirectory(None), SHARED, 8)
    work(1e9)
    refuse_shared_later(config, RunDirectory(None), SHARED, 8)
    work(1e13)
    refuse_shared_later(load_config("digits", ["readout.kind=ridge"]), RunDirectory(None), SHARED, 8)


@pytest.mark.parametrize(
    ("settings", "stages", "key"),
    [
        (["training.device=gpu"], ["prepare", "train"], "training.device"),
        (["training.device=gpu"], ["evaluate"], "training.device"),
        (["search.device=gpu"], ["prepare", "search"], "search.device"),
    ],
)
def test_a_missing_gpu_is_refused_on_all_ranks(settings, stages, key):
    config = load_config("digits", settings)

    def refused(comm):
        with pytest.raises(InputError, match=f"{key} = 'gpu', and torch sees no GPU here.*: set {key}") as caught:
            refuse_missing_gpus(config, stages, comm)
        return caught.value.agreed

    assert on_ranks(2, refused) == [True, True]


def test_settings_for_gpus_are_refused_before_the_preparation_too():
    config = load_config("digits", ["training.precision=fp16"])

    def refused(comm):
        with pytest.raises(InputError, match=r"training.precision = 'fp16' is for GPUs") as caught:
            refuse_missing_gpus(config, ["prepare", "train"], comm)
        return caught.value.agreed

    assert on_ranks(2, refused) == [True, True]
    refuse_missing_gpus(config, ["prepare", "search"], SingleProcess())


def test_settings_of_stages_that_do_not_run_are_not_refused():
    refuse_missing_gpus(load_config("digits", ["training.device=gpu"]), ["prepare", "search"], SingleProcess())
    refuse_missing_gpus(load_config("digits", ["search.device=gpu"]), ["train"], SingleProcess())
    no_search = ["search.device=gpu", "search.generations=0"]
    refuse_missing_gpus(load_config("digits", no_search), ["search"], SingleProcess())
    assert gpus_for(["prepare"], SingleProcess()) == []


def test_a_missing_gpu_is_refused_before_the_preparation(tmp_path):
    with pytest.raises(InputError, match=r"training.device = 'gpu', and torch sees no GPU"):
        run_stages(["prepare", "train"], load_config("digits", ["training.device=gpu"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_ranks_that_share_a_gpu_by_their_settings_are_refused_before_the_preparation(monkeypatch):
    monkeypatch.setattr(devices, "gpus_for", lambda stages, comm: SHARED)
    with pytest.raises(InputError, match="2 ranks train on 1 GPU of host n1"):
        refuse_missing_gpus(load_config("digits", ["training.device=gpu"]), ["train"], SingleProcess())
    # Neither a search nor a readout that is solved has an engine.
    refuse_missing_gpus(load_config("digits", ["search.device=gpu"]), ["search"], SingleProcess())
    solved = ["training.device=gpu", "readout.kind=ridge"]
    refuse_missing_gpus(load_config("digits", solved), ["train"], SingleProcess())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> RunDirectory:
    out = tmp_path_factory.mktemp("prepared") / "run"
    run_stages(["prepare"], load_config("digits"), out)
    return RunDirectory(out)


@pytest.fixture
def _visible(monkeypatch):
    """Let torch see a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.usefixtures("_visible")
def test_kernel_block_and_rounding_are_measured_on_the_device_that_computes(prepared, monkeypatch):
    asked = []

    def kernel(nodes, features, rows, threads, device="cpu", *, rounding, **_):
        asked.append(device)
        rounding("dense-bf16")
        return "dense-fp32"

    def block(nodes, features, kernel, threads, device="cpu", **_):
        asked.append(device)
        return 2048

    def rounding(settings, kernel, x, y, lengths=None, device="cpu"):
        asked.append(device)

    monkeypatch.setattr("rcdp_hpc.reservoir.calibrate.choose_kernel", kernel)
    monkeypatch.setattr("rcdp_hpc.reservoir.calibrate.choose_batch_rows", block)
    monkeypatch.setattr("rcdp_hpc.reservoir.precision.measure_rounding", rounding)
    for settings, device_of_states in (
        (["training.device=gpu", "search.generations=0"], "cuda:0"),
        (["training.device=gpu", "search.device=cpu"], "cpu"),
        (["training.device=cpu", "search.device=gpu"], "cuda:0"),
    ):
        asked.clear()
        config = load_config("digits", ["reservoir.kernel=auto", "reservoir.batch_rows=0", *settings])
        name = resolve._most_used_device(config, prepared, GPU, 1)
        assert resolve._measured_kernel(config, prepared, 1, name) == ("dense-fp32", 2048)
        assert asked == [device_of_states] * 3


@pytest.mark.parametrize(
    ("device", "leaves_rows", "rows", "expected"),
    [("cuda:0", True, 512, 4096), ("cuda:0", False, 512, 512), ("cuda:0", True, 256, 256), ("cpu", True, 512, 512)],
)
def test_a_gpu_gets_blocks_of_its_own_if_the_command_leaves_them_open(
    device, leaves_rows, rows, expected, prepared, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        "rcdp_hpc.reservoir.calibrate.choose_batch_rows", lambda *_, **options: asked.append(options) or 4096
    )
    config = load_config("digits", ["reservoir.kernel=dense-fp32", f"reservoir.batch_rows={rows}"])
    found = resolve._with_kernel(config, prepared, 1, device, leaves_rows, ranks=2)
    assert found.reservoir.batch_rows == expected
    if expected == 4096:
        assert prepared.config().reservoir.batch_rows == 4096
        assert asked[0]["steps"] == 8
        assert 0 < asked[0]["rows"] < 800


def test_blocks_that_a_run_measured_are_kept(prepared):
    config = load_config("digits", ["reservoir.kernel=dense-fp32", "reservoir.batch_rows=0"])
    prepared.write_config(resolve._with_fixed_kernel(config, "dense-fp32", 4096))
    for leaves_rows, rows, expected in ((True, 512, 4096), (False, 512, 512), (False, 0, 4096)):
        now = load_config("digits", ["reservoir.kernel=dense-fp32", f"reservoir.batch_rows={rows}"])
        assert resolve._with_earlier_kernel(now, prepared, "train", leaves_rows).reservoir.batch_rows == expected


@pytest.mark.usefixtures("_visible")
def test_the_device_of_a_search_is_recorded_and_that_of_a_training_is_not(prepared, monkeypatch):
    monkeypatch.setattr(devices, "_work", lambda *_: Work(1e15, 100))
    monkeypatch.setattr(resolve, "_with_kernel", lambda config, *_: config)
    monkeypatch.setattr(at_once, "total_gpu_memory", lambda _: 2**36)
    config = load_config("digits", ["reservoir.kernel=dense-fp32"])
    found = resolve.resolve(config, prepared, "search", gpus=GPU)
    assert found.recorded.search.device == found.effective.search.device == "gpu"
    assert prepared.config().search.device == "gpu"
    count = found.recorded.search.candidates_at_once
    assert count > 1
    assert prepared.config().search.candidates_at_once == count
    # A search that has started keeps its device, also where "auto" would choose another one.
    prepared.search.mkdir(exist_ok=True)
    (prepared.search / "history.jsonl").touch()
    monkeypatch.setattr(at_once, "total_gpu_memory", lambda _: 2**20)
    found = resolve.resolve(config, prepared, "search", gpus=NONE).effective.search
    assert (found.device, found.candidates_at_once) == ("gpu", count)
    found = resolve.resolve(config, prepared, "search", discarded=["search"], gpus=NONE).recorded.search
    assert (found.device, found.candidates_at_once) == ("cpu", 1)
    config = load_config("digits", ["search.generations=0"])
    found = resolve.resolve(config, prepared, "train", gpus=GPU)
    assert found.effective.training.device == "gpu"
    assert found.recorded.training.device == prepared.config().training.device == "auto"


@pytest.mark.parametrize(
    ("gpus", "deterministic", "is_set"), [(GPU, True, True), (GPU, False, False), (NONE, True, False)]
)
def test_only_gpus_in_deterministic_mode_get_workspaces_that_repeat(gpus, deterministic, is_set, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    set_up_libraries(load_config("digits", [f"parallel.deterministic={str(deterministic).lower()}"]), gpus[0])
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == is_set


def test_a_search_of_the_users_function_uses_no_gpu(prepared):
    config = load_config("digits", ["search.evaluation=function", "search.function=mine:judge"])
    assert search_device(config, prepared, GPU) == "cpu"

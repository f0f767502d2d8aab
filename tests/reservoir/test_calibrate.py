import json

import pytest
import torch

from rcdp_hpc.reservoir import calibrate
from rcdp_hpc.reservoir.calibrate import choose_batch_rows, choose_kernel, machine_name
from rcdp_hpc.runtime.digests import read_sealed, write_sealed


@pytest.fixture
def measured(monkeypatch):
    """Return a dict for the times by kernel, and a list of the kernels of each measurement."""
    times, asked = {}, []

    def fastest(reservoirs, block):
        asked.append([reservoir.kernel for reservoir in reservoirs])
        return [times.get(reservoir.kernel, 9.0) for reservoir in reservoirs]

    monkeypatch.setattr(calibrate, "_fastest", fastest)
    return times, asked


def test_measured_times_are_stored_for_the_machine(measured, tmp_path):
    times, asked = measured
    times.update({"dense-fp32": 1.0, "dense-bf16": 0.5})
    cache = tmp_path / "deep" / "kernels.json"
    for _ in range(2):
        assert choose_kernel(30, 4, 8, 1, cache=cache) == "dense-bf16"
    assert len(asked) == 1
    assert choose_kernel(31, 4, 8, 1, cache=cache) == "dense-bf16"
    assert choose_kernel(30, 4, 8, 2, cache=cache) == "dense-bf16"
    assert len(asked) == 3
    assert list(read_sealed(cache)) == [machine_name()]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_cache_is_replaced(measured, tmp_path, content):
    measured[0].update({"dense-fp32": 1.0})
    cache = tmp_path / "kernels.json"
    cache.write_text(content)
    assert choose_kernel(30, 4, 8, 1, cache=cache) == "dense-fp32"
    assert machine_name() in json.loads(cache.read_text())


@pytest.mark.parametrize("seconds", [0, -1.0, 1e-300, 1e300, "nan", "inf", None, [], {}, "fast", 10**400])
def test_implausible_times_are_measured_again(measured, tmp_path, seconds, caplog):
    times, asked = measured
    times.update({"dense-fp32": 1.0})
    cache = tmp_path / "kernels.json"
    choose_kernel(30, 4, 8, 1, cache=cache)
    content = read_sealed(cache)
    (entry,) = content[machine_name()].values()
    entry["dense-bf16"] = seconds
    write_sealed(cache, content)
    with caplog.at_level("INFO", logger="rcdp_hpc"):
        assert choose_kernel(30, 4, 8, 1, cache=cache) == "dense-fp32"
    assert len(asked) == 2
    assert caplog.text.count("measured again") == 1
    assert choose_kernel(30, 4, 8, 1, cache=cache) == "dense-fp32"
    assert len(asked) == 2


def test_a_missing_time_is_measured_again(measured, tmp_path):
    cache = tmp_path / "kernels.json"
    choose_kernel(30, 4, 8, 1, cache=cache)
    content = read_sealed(cache)
    (entry,) = content[machine_name()].values()
    del entry["dense-bf16"]
    write_sealed(cache, content)
    choose_kernel(30, 4, 8, 1, cache=cache)
    assert len(measured[1]) == 2


def test_a_cache_that_cannot_be_written_is_ignored(measured, tmp_path):
    (tmp_path / "file").write_text("")
    measured[0].update({"dense-fp32": 1.0})
    assert choose_kernel(30, 4, 8, 1, cache=tmp_path / "file" / "kernels.json") == "dense-fp32"


def test_the_sparse_kernel_is_measured_for_large_sparse_reservoirs(measured):
    times, asked = measured
    times.update({"dense-fp32": 2.0, "dense-bf16": 1.0, "sparse-fp32": 1.1})
    assert choose_kernel(2000, 4, 8, 1, density=0.01) == "sparse-fp32"
    assert "sparse-fp32" in asked[0]
    choose_kernel(2000, 4, 8, 1, density=0.5)
    assert "sparse-fp32" not in asked[1]


def test_the_smallest_block_near_the_fastest_is_chosen(monkeypatch, tmp_path):
    times = iter([512 * 1.2, 1024 * 1.04, 2048 * 1.0])
    monkeypatch.setattr(calibrate, "_fastest", lambda reservoirs, block: [next(times)])
    cache = tmp_path / "kernels.json"
    assert choose_batch_rows(10, 2, "dense-fp32", 1, cache=cache) == 1024
    assert choose_batch_rows(10, 2, "dense-fp32", 1, cache=cache) == 1024


@pytest.fixture
def gpu(monkeypatch):
    """Return the samples and device of each measured block, and a dict with the free memory of a made-up GPU."""
    sizes = []
    memory = {"free": 80 * 2**30}
    monkeypatch.setattr(calibrate, "free_gpu_memory", lambda device: memory["free"])
    monkeypatch.setattr(calibrate, "machine_name", lambda device: "a GPU")
    monkeypatch.setattr(calibrate, "_sample_block", lambda rows, features, device: sizes.append((rows, device)) or rows)
    monkeypatch.setattr(calibrate, "_sample_reservoir", lambda *arguments: arguments[3])
    monkeypatch.setattr(calibrate, "_fastest", lambda reservoirs, rows: [10 + rows**0.8] * len(reservoirs))
    return sizes, memory


def test_blocks_of_a_gpu_are_measured_there(gpu, tmp_path):
    sizes, _ = gpu
    for _ in range(2):
        rows = choose_batch_rows(1000, 28, "dense-bf16", 1, "cuda", tmp_path / "kernels.json", steps=28)
        assert rows == 32768
    assert sizes == [(rows, "cuda") for rows in (2048, 8192, 16384, 32768)]


def test_blocks_that_do_not_fit_into_the_gpu_are_halved(gpu):
    sizes, memory = gpu
    memory["free"] = 8 * 2**30
    assert choose_batch_rows(4000, 28, "dense-bf16", 1, "cuda", steps=28) == 8192
    assert choose_batch_rows(100_000, 28, "dense-bf16", 1, "cuda", steps=28) == 512
    memory["free"] = 0
    assert choose_batch_rows(1000, 28, "dense-bf16", 1, "cuda") == 512
    assert max(rows for rows, _ in sizes) == 8192


def test_no_block_is_larger_than_the_data(gpu):
    assert choose_batch_rows(1000, 28, "dense-bf16", 1, "cuda", rows=5000) == 8192
    assert choose_batch_rows(1000, 28, "dense-bf16", 1, "cuda", rows=100) == 2048


def test_kernels_of_a_gpu_are_measured_with_large_blocks_there(gpu, monkeypatch):
    sizes, _ = gpu
    monkeypatch.setattr(calibrate, "_fastest", lambda reservoirs, rows: [1.0] * len(reservoirs))
    assert choose_kernel(1000, 28, 0, 1, "cuda") == "dense-fp32"
    choose_kernel(1000, 28, 512, 1, "cuda")
    assert sizes == [(8192, "cuda"), (512, "cuda")]


def test_the_first_turns_do_not_count(monkeypatch):
    """On a GPU the first block is computed, and the second one recorded."""
    seconds = iter([9.0, 9.0, 3.0, 1.0, 2.0, *[4.0] * 20])
    clock = [0.0]

    class Timed:
        def states(self, block):
            clock[0] += next(seconds)

    monkeypatch.setattr(calibrate.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(calibrate, "WARM_UPS", {"cpu": 2})
    monkeypatch.setattr(calibrate, "LARGEST_SECONDS", 24.0)
    assert calibrate._fastest([Timed()], torch.zeros(1)) == [1.0]

import json

import pytest

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

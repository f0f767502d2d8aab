"""The gauge of a GPU, on a driver that is made up here, and what the metrics have where there is none."""

from __future__ import annotations

import json
import logging
import time

import pytest
import torch

from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.training.monitor import gpu
from rcdp_hpc.training.monitor.epoch_cost import EpochTimer
from rcdp_hpc.training.monitor.gpu import GpuGauge
from rcdp_hpc.training.monitor.tensorboard import TensorBoardWriter
from rcdp_hpc.training.report import EpochReport

WHERE = torch.device("cuda", 0)


class TwoRanks(SingleProcess):
    """A communicator whose second rank has the same costs, but no GPU utilisation."""

    size = 2

    def allgather(self, value):
        other = (None, 5.0) if len(value) == 2 else value
        return [value, other]


@pytest.fixture
def driver(monkeypatch):
    """A GPU with utilisation 20, 40, 20, 40 ... percent and 3 MiB of allocated memory."""
    shares = iter(range(1000))
    monkeypatch.setattr(gpu, "SAMPLE_SECONDS", 0.01)
    monkeypatch.setattr(GpuGauge, "_unavailable", False)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda where: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda where: 3 * 2**20)
    monkeypatch.setattr(torch.cuda, "utilization", lambda where: 20 + 20 * (next(shares) % 2))
    return monkeypatch


def report(clock: EpochTimer, comm: SingleProcess) -> dict:
    clock.stop()
    cost = clock.close(comm)
    return EpochReport(0, 1.0, 0.5, 1.0, 0.5, 0.5, 1e-3, 1.0, 1.0, 0, 100.0, cost, None, [[1]]).entry()


def test_an_epoch_reports_the_utilisation_of_the_gpu(driver, tmp_path):
    clock = EpochTimer(SingleProcessEngine(), WHERE)
    limit = time.monotonic() + 20
    while len(clock.gpu.percents) < 4 and time.monotonic() < limit:
        time.sleep(0.01)
    entry = report(clock, TwoRanks())
    assert entry["gpu_percent"] == [pytest.approx(30, abs=3), None]
    assert entry["gpu_percent_deviation"] == 0
    assert entry["gpu_memory_mib"] == [3, 5]
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry
    TensorBoardWriter(tmp_path, 0).write(entry)


def test_a_driver_without_utilisation_is_reported_once(driver, caplog):
    def missing(where):
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    driver.setattr(torch.cuda, "utilization", missing)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            clock = EpochTimer(SingleProcessEngine(), WHERE)
            clock.gpu._thread.ident and clock.gpu._thread.join(20)
            entry = report(clock, SingleProcess())
            assert "gpu_percent" not in entry
            assert entry["gpu_memory_mib"] == [3]
    assert (
        caplog.text.count(
            "the utilisation of the GPU cannot be measured (gpu_percent): ModuleNotFoundError: nvidia-ml-py"
        )
        == 1
    )


def test_without_a_gpu_the_metrics_have_no_gpu_values():
    entry = report(EpochTimer(SingleProcessEngine(), torch.device("cpu")), SingleProcess())
    assert not [name for name in entry if name.startswith("gpu")]
    assert "gradients" not in entry
    assert entry["memory_mib"][0] > 1

"""The table of benchmarks/regularisation.py, and the network without batch normalisation that it trains."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from launch import REPOSITORY

from rcdp_hpc.config import load_config
from rcdp_hpc.networks.readouts import mlp
from rcdp_hpc.reservoir.reductions import FeatureShape

SPEC = importlib.util.spec_from_file_location("regularisation", REPOSITORY / "benchmarks/regularisation.py")
assert SPEC is not None
assert SPEC.loader is not None
BENCHMARK = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(BENCHMARK)


def test_only_one_arm_normalises_batches():
    settings = load_config("digits").readout
    names = {}
    for arm in BENCHMARK.ARMS:
        with BENCHMARK.network_of(arm):
            network = mlp.MLPReadout(settings, FeatureShape(1, 1, 5), 3)
            assert network(torch.zeros(2, 5)).shape == (2, 3)
            names[arm] = {name for name in network.state_dict() if "norm" in name}
    assert any("running_mean" in name for name in names.pop("batch normalisation"))
    assert all(found == {"inner_norm.bias", "outer_norm.bias"} for found in names.values())


def test_costs_are_differences_on_the_same_folds():
    def one(accuracy: float, numbers: int) -> dict[str, float]:
        return {
            "accuracy": accuracy, "balanced_accuracy": accuracy, "macro_f1": accuracy, "parameters": numbers,
            "flops": 10, "train_seconds": 1.5, "milliseconds": 0.25,
        }  # fmt: skip

    results = {"none": [one(0.9, 1000), one(0.8, 1000)], "threshold": [one(0.89, 100), one(0.79, 101)]}
    lines = BENCHMARK.table(results)
    assert len(lines) == 4
    plain, sparse = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:])
    assert plain[:3] == ["none", "85.00 (7.07)", "+0.00 (0.00)"]
    assert sparse[1:3] == ["84.00 (7.07)", "-1.00 (0.00)"]
    assert sparse[5:] == ["100", "10", "1.5", "0.25"]


@pytest.mark.parametrize("arm", [arm for arm in BENCHMARK.ARMS if BENCHMARK.ARMS[arm]])
def test_the_settings_of_each_arm_are_accepted(arm):
    load_config("image", [*BENCHMARK.COMMON, "data.source=digits", *BENCHMARK.ARMS[arm]])

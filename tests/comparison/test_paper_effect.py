"""Table 5: the networks with and without a reservoir."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rcdp_hpc.comparison.paper.effect import EffectRun, gradient_ratio, run_effect
from rcdp_hpc.config import Config, load_config
from rcdp_hpc.pipeline.stages import StageOptions
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.rundir import RunDirectory


def settings(reservoir: bool) -> Config:
    """Return a network on the rows of the digits."""
    return load_config(
        {"data": {"source": "digits", "shards": 2}},
        search={"generations": 0},
        reservoir={"nodes": 40, "sequence": "rows", "states": 8} if reservoir else {"kind": "none", "sequence": "rows"},
        readout={"kind": "lstm", "outputs": 8, "hidden": 16},
        training={"epochs": 2, "patience": 2, "gradient_norms": True, "baseline": False, "threads": 1},
    )


def run(folder: Path) -> list[EffectRun]:
    """Train the three networks."""
    return run_effect("mnist", folder, 1, SingleProcess(), StageOptions(), settings)


def test_three_networks_and_the_seconds_of_the_first_for_the_last(tmp_path: Path) -> None:
    runs = run(tmp_path)

    assert [(one.reservoir, one.equal) for one in runs] == [(True, "epochs"), (False, "epochs"), (False, "seconds")]
    assert [one.epochs for one in runs[:2]] == [2, 2]
    limit = RunDirectory(tmp_path / "mnist-none-equal-seconds-seed-1").config().training.stop_seconds
    assert limit == runs[0].seconds
    assert all(0 < one.gradient_ratio < math.inf for one in runs)
    assert runs[2].epochs >= 1
    assert all(0 < one.accuracy < 1 for one in runs)


def test_finished_networks_are_not_trained_again(tmp_path: Path) -> None:
    run(tmp_path)
    models = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/train/model.pt")}

    run(tmp_path)

    assert len(models) == 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/train/model.pt")} == models


def test_ratio_of_a_gradient_that_halves_at_each_step() -> None:
    assert gradient_ratio([0.25, 0.5, 1.0]) == 0.25


@pytest.mark.parametrize("norms", [[], [1.0], [1.0, 0.0]])
def test_no_ratio_without_two_steps_or_a_gradient(norms: list[float]) -> None:
    assert math.isnan(gradient_ratio(norms))


def test_a_ratio_that_is_not_a_number_survives_json() -> None:
    one = EffectRun("mnist", True, "epochs", 1, 0.5, 0.5, 2, 1.0, math.nan)

    content = one.as_json()

    assert content["gradient_ratio"] is None
    assert math.isnan(EffectRun.from_json(content).gradient_ratio)

"""reservoir.kernel = "auto" never chooses a kernel whose rounding is visible."""

from __future__ import annotations

import numpy as np
import pytest

from rcdp_hpc.config import ReservoirSection, load_config
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir import calibrate
from rcdp_hpc.reservoir.calibrate import choose_kernel
from rcdp_hpc.reservoir.precision import Rounding, furthest, measure_rounding

CHAOTIC = {"spectral_radius": 8.0, "leak": 1.0, "input_scaling": 0.1}


def section(**values):
    return ReservoirSection.model_validate({"nodes": 100, "density": 0.2, "batch_rows": 64, **values})


@pytest.fixture
def samples(rng):
    y = rng.integers(0, 3, 128)
    return rng.random((128, 20, 6), dtype=np.float32) * (1 + y[:, None, None]), y


@pytest.fixture
def bfloat16_is_faster(monkeypatch):
    seconds = {"dense-fp32": 1.0, "dense-bf16": 0.1}
    monkeypatch.setattr(
        calibrate, "_fastest", lambda reservoirs, block: [seconds.get(one.kernel, 9.0) for one in reservoirs]
    )


def test_rounding_is_not_visible_in_a_reservoir_that_forgets(samples):
    result = measure_rounding(section(), "dense-bf16", *samples)
    assert 0 < result.state_error < 0.02
    assert result.error_ratio == pytest.approx(1, abs=0.05)
    assert not result.visible
    assert measure_rounding(section(), "dense-fp32", *samples) == Rounding(0.0, 1.0)


def test_rounding_of_all_states_is_measured(samples):
    result = measure_rounding(section(reduction=["all"]), "dense-bf16", *samples)
    assert 0 < result.state_error < 0.02
    assert not result.visible


def test_rounding_is_visible_in_a_chaotic_reservoir(samples):
    result = measure_rounding(section(**CHAOTIC), "dense-bf16", *samples)
    assert result.state_error > 0.5
    assert result.visible


def test_rounding_counts_as_visible_if_states_overflow(samples):
    settings = section(activation="identity", spectral_radius=10.0, input_scaling=100.0, states=20)
    x, y = samples
    assert measure_rounding(settings, "dense-bf16", 1e30 * x, y).visible


def test_padding_is_ignored(samples):
    x, y = samples
    lengths = np.where(np.arange(128) % 2, 20, 7)
    padded = np.where(np.arange(20)[:, None] < lengths[:, None, None], x, np.float32(1e6))
    blanked = np.where(np.arange(20)[:, None] < lengths[:, None, None], x, np.float32(0))
    first, second = (measure_rounding(section(), "dense-bf16", part, y, lengths) for part in (padded, blanked))
    assert first == second


def test_a_kernel_with_visible_rounding_is_not_chosen(bfloat16_is_faster, samples, caplog):
    def choose(settings):
        return choose_kernel(100, 6, 64, 1, rounding=lambda kernel: measure_rounding(settings, kernel, *samples))

    assert choose(section()) == "dense-bf16"
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert choose(section(**CHAOTIC)) == "dense-fp32"
    assert caplog.text.count("does not choose the faster dense-bf16") == 1


def test_the_largest_values_of_the_search_are_measured():
    space = "search.space.spectral_radius={low = 0.1, high = 7.0}"
    config = load_config("digits", [space, "search.generations=3", "reservoir.leak=0.5"])
    assert (furthest(config).spectral_radius, furthest(config).leak) == (7.0, max(0.5, _high_leak(config)))
    config = load_config("digits", [space, "search.generations=0"])
    assert furthest(config) == config.reservoir


def test_the_largest_reservoir_of_the_search_is_measured():
    space = ["search.space.nodes={low = 50, high = 400}", "search.space.layers={choices = [1, 3]}"]
    config = load_config("digits", [*space, "search.generations=3", "reservoir.nodes=80"])
    assert (furthest(config).nodes, furthest(config).layers) == (400, 3)


def _high_leak(config):
    bounds = config.search.space.leak
    return 0.5 if bounds is None else bounds.high


@pytest.mark.parametrize(("changes", "kernel"), [({}, "dense-bf16"), (CHAOTIC, "dense-fp32")])
def test_a_run_measures_on_its_training_rows(bfloat16_is_faster, tmp_path, monkeypatch, changes, kernel):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    reservoir = [f"reservoir.{name}={value}" for name, value in {"nodes": 60, "sequence": "pixels", **changes}.items()]
    settings = [*reservoir, "search.generations=0", "readout.kind=ridge", "run.progress=false"]
    run_stages(["prepare", "train"], load_config("digits", settings), tmp_path / "run")
    recorded = load_config(str(tmp_path / "run/config.toml")).reservoir
    assert recorded.kernel == kernel

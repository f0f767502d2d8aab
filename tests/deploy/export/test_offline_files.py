"""Runs exported as C and for Octave: every test row has the label of the model, and its probabilities."""

from __future__ import annotations

from pathlib import Path

import octave
import pytest
from whole_runs import series_file

from rcdp_hpc.config import load_config
from rcdp_hpc.deploy.export.export import export
from rcdp_hpc.pipeline.stages import run_stages

QUICK = (
    "data.class_keep_fractions=[]", "data.shards=1", "search.generations=0", "reservoir.nodes=30",
    "reservoir.kernel=dense-fp32", "training.threads=1", "training.baseline=false", "run.progress=false",
)  # fmt: skip
# Profile, settings, and test rows of each run.
RUNS = {
    "digits, ridge": ("digits", ["readout.kind=ridge"], 359),
    "digits, eq. 11": ("digits", ["readout.hidden=20", "readout.outputs=10", "training.epochs=1"], 359),
    "series of unequal length": ("vowels", ["data.path={train}", "data.test_path={test}"], 30),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a function that trains a run of `RUNS` once."""
    folder = tmp_path_factory.mktemp("offline")
    trained: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in trained:
            profile, settings, _ = RUNS[name]
            files = {"train": folder / "w_TRAIN.ts", "test": folder / "w_TEST.ts"}
            if profile == "vowels":
                series_file(files["train"], 60, 1)
                series_file(files["test"], 30, 2)
            config = load_config(profile, [*QUICK, *(setting.format(**files) for setting in settings)])
            run_stages(["prepare", "train"], config, folder / name)
            trained[name] = folder / name
        return trained[name]

    return run


@pytest.mark.parametrize("suffix", [".c", ".mat"])
@pytest.mark.parametrize("name", RUNS)
def test_every_test_row_has_the_label_of_the_model(runs, tmp_path, name, suffix):
    if suffix == ".mat":
        octave.require()
    result = export(runs(name), tmp_path / f"model{suffix}")
    assert result.rows == RUNS[name][2]
    assert result.largest_difference < 1e-5
    assert result.other_labels == 0
    assert result.files[0].stat().st_size < 300_000

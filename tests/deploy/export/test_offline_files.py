"""Runs exported as C and for Octave: every test row has the label of the model, and its probabilities."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import octave
import pytest
import scipy.io
from launch import REPOSITORY
from sklearn.datasets import load_digits
from whole_runs import series_file

from rcdp_hpc.config import load_config
from rcdp_hpc.deploy.export.export import export
from rcdp_hpc.deploy.export.mat.writer import MatWriter
from rcdp_hpc.errors import StageFailedError
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


def test_a_file_that_fails_the_check_leaves_what_others_use(runs, tmp_path, monkeypatch):
    export(runs("digits, ridge"), tmp_path / "good.mat", check=False)
    monkeypatch.setattr(MatWriter, "predict", lambda self, path, samples, lengths: np.ones((len(samples), 10)) / 10)
    with pytest.raises(StageFailedError, match=r"bad\.mat"):
        export(runs("digits, ridge"), tmp_path / "bad.mat")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"good.mat", "good.mat.md", "rcdp_predict.m", "rcdp_average.m"}


def blocks(language: str) -> list[str]:
    """Return the code blocks of the page on exports in a language, or without one for commands."""
    page = (REPOSITORY / "docs/export.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def digits(runs, tmp_path_factory):
    """Return a folder with a run of digits as C and for Octave, and samples in the forms that the page reads."""
    folder = tmp_path_factory.mktemp("page")
    for suffix in ("c", "mat"):
        export(runs("digits, ridge"), folder / f"model.{suffix}")
    for node in (1, 2):
        shutil.copy(folder / "model.mat", folder / f"node{node}.mat")
    samples = load_digits().images[:20]
    scipy.io.savemat(folder / "samples.mat", {"samples": samples})
    lines = [",".join(map(str, sample.reshape(-1))) for sample in samples]
    (folder / "samples.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_commands_and_the_program_of_the_page_in_c(digits):
    (commands,) = (block for block in blocks("") if block.startswith("cc "))
    shown = [
        subprocess.run(shlex.split(line), cwd=digits, capture_output=True, text=True, check=True).stdout
        for line in commands.splitlines()
    ]
    assert [len(text.splitlines()) for text in shown] == [0, 2, 20]
    (program,) = blocks("c")
    (digits / "main.c").write_text(program)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O2", "-DRCDP_NO_MAIN"]
    subprocess.run(["cc", *flags, "-o", "own", "main.c", "model.c", "-lm"], cwd=digits, check=True)
    found = subprocess.run(["./own"], cwd=digits, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"\d: [01](\.\d+)?\n", found)


def test_the_lines_of_the_page_in_octave(digits):
    octave.require()
    both = "".join(blocks("octave")) + "printf('%s,', labels{:}); printf('%d ', size(probabilities));"
    done = octave.run(both, digits)
    assert done.returncode == 0, done.stderr
    *labels, sizes = done.stdout.split(",")
    assert sizes.split() == ["20", "10"]
    assert sum(label == str(digit) for label, digit in zip(labels, load_digits().target, strict=False)) >= 15

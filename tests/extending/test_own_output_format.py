"""A user's own file format of predictions, as docs/extending.md shows it."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from deploy.conftest import trained_run
from launch import REPOSITORY

from rcdp_hpc.cli.commands import main
from rcdp_hpc.data.sources import read_samples

PAGE = (REPOSITORY / "docs/extending.md").read_text()
EXAMPLE = next(
    block for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S) if "class LabelLines(OutputFormat)" in block
)
BEGIN = "from rcdp_hpc.deploy.formats.base import OutputFormat\nclass Mine(OutputFormat):\n"
BROKEN = {
    "class Mine: pass\n": "expected a class derived from rcdp_hpc.deploy.formats.base.OutputFormat, got <class 'mine_",
    BEGIN + "    pass\n": "Mine() raised TypeError",
    BEGIN + "    def __init__(self, level): self.level = level\n    def write(self, f, p): pass\n": (
        "Mine() raised TypeError"
    ),
    BEGIN + "    def write(self, file, predictions): predictions.labels\n": "write raised AttributeError",
    BEGIN + "    def write(self, file, predictions): list(predictions.blocks)\n": "write wrote nothing for two samples",
    BEGIN + "    def write(self, file, predictions): file.write(b'x')\n": "write read 0 of 2 samples; expected all",
    BEGIN + "    def write(self, file, p): file.write(b'x'); list(p.blocks); file.close()\n": "write closed its file",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a trained model, and new samples."""
    folder = tmp_path_factory.mktemp("format")
    run = trained_run(folder / "run", [])
    np.savez(folder / "new.npz", x=np.random.default_rng(0).uniform(0, 16, (11, 8, 8)))
    return run


@pytest.fixture(autouse=True)
def _paths_as_before(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "label_lines", raising=False)


def predict(run, output, name):
    return main(["predict", str(run.path), str(run.path.parent / "new.npz"), "--to", str(output), "--format", name])


def test_the_example_of_the_page_writes_its_format(run, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "label_lines.py").write_text(EXAMPLE)
    assert predict(run, tmp_path / "labels.txt", "label_lines:LabelLines") == 0, capfd.readouterr().err
    assert predict(run, tmp_path / "labels.csv", "csv") == 0
    table = [line.split(",")[:2] for line in (tmp_path / "labels.csv").read_text().splitlines()[1:]]
    lines = [line.split("\t") for line in (tmp_path / "labels.txt").read_text().splitlines()]
    assert lines == table
    assert len(lines) == 11


def test_code_that_a_model_file_names_is_not_searched_in_the_folder_of_the_format(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "label_lines.py").write_text(EXAMPLE)
    searched = []

    def recorded(*arguments, **options):
        searched.append(str(tmp_path) in sys.path)
        return read_samples(*arguments, **options)

    monkeypatch.setattr("rcdp_hpc.deploy.predict.read_samples", recorded)
    assert predict(run, tmp_path / "labels.txt", "label_lines:LabelLines") == 0
    assert searched == [False]


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_broken_class_is_refused_and_nothing_is_written(number, run, tmp_path, monkeypatch, capfd):
    code, message = list(BROKEN.items())[number]
    name = f"mine_{number}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert predict(run, tmp_path / "labels.txt", f"{name}:Mine") == 2
    error = capfd.readouterr().err
    assert f"--format = '{name}:Mine': {message}" in " ".join(error.split())
    assert not (tmp_path / "labels.txt").exists()


def test_a_name_that_is_not_a_format_is_refused_by_the_command_line(run, tmp_path, capfd):
    with pytest.raises(SystemExit) as ended:
        predict(run, tmp_path / "labels.txt", "cvs")
    assert ended.value.code == 2
    assert "'cvs': expected one of csv, npz, parquet, jsonl, or a class of your own" in capfd.readouterr().err

"""New samples are read as in training, unless --set changes it."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from deploy.conftest import trained_run

from rcdp_hpc.cli import main
from rcdp_hpc.config import DataSection
from rcdp_hpc.deploy.reading import model_and_reading
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_data import READING_KEYS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("table")
    random = np.random.default_rng(0)
    rows = [f"{random.normal(label, 0.3):.4f},{random.normal(9 * label, 1):.4f},{label}" for label in [0, 1, 2] * 30]
    (folder / "t.csv").write_text("\n".join(["a,b,label", *rows]))
    return trained_run(folder / "run", ["data.source=csv", f"data.path={folder / 't.csv'}", "data.balance=none"])


@pytest.mark.parametrize("alone", [False, True])
def test_set_changes_how_samples_are_read(run, alone, tmp_path):
    np.savez(tmp_path / "new.npz", values=np.array([[0.1, 0.2], [1, 9], [2, 18]]))
    model, reading = model_and_reading(run.model if alone else run.path, ["data.x_name=values"])
    assert model == run.model
    assert reading.x_name == "values"
    assert reading.source == "csv"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.balance=none", "data.balance does not change how samples are read"),
        ("data.delimitor=;", r"data.delimitor is not a known key; did you mean data\.delimiter\?"),
        ("data.image_size=[2,2]", "the model depends on its value in training"),
        ("training.epochs=2", "only keys of .data. that decide how samples are read"),
        ("delimiter=;", "expected section.key=value"),
        ("data.delimiter=;;", "data.delimiter = ';;'"),
    ],
)
def test_other_settings_are_refused(run, setting, message):
    with pytest.raises(InputError, match=message):
        model_and_reading(run.path, [setting])


def test_all_that_decides_pixels_is_in_the_model_file():
    assert {key for key in DataSection.model_fields if key.startswith("image_")} <= set(READING_KEYS)
    assert set(READING_KEYS) <= set(DataSection.model_fields)


def test_a_missing_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such run directory or model file"):
        model_and_reading(tmp_path / "none")


def test_the_command_line(run, tmp_path, capfd):
    (tmp_path / "NEW.CSV").write_text("b,a\n0.2,0.1\n9,1\n18,2\n")
    assert main(["predict", str(run.path), str(tmp_path / "NEW.CSV"), "--to", str(tmp_path / "y.CSV"), "--quiet"]) == 0
    with open(tmp_path / "y.CSV", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    (tmp_path / "far.csv").write_text("b,a\n2000,100\n9000,1000\n1800,200\n")
    command = ["predict", str(run.path), str(tmp_path / "far.csv"), "--to", str(tmp_path / "far.out.csv")]
    assert main(command) == 2
    assert "--any-scale" in capfd.readouterr().err
    assert not (tmp_path / "far.out.csv").exists()
    assert main([*command, "--any-scale"]) == 0
    assert main(["predict", str(run.path), "-", "--to", str(tmp_path / "z.csv")]) == 2
    assert main(["predict", str(run.path), str(tmp_path / "NEW.CSV"), "--to", str(tmp_path / "z.txt")]) == 2
    assert ".parquet or .jsonl" in capfd.readouterr().err

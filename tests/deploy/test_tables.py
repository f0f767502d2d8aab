"""Prediction for a table with categories, with rows and columns in another order than in training."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.deploy.predict import predict
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.rundir import RunDirectory

pytest.importorskip("pyarrow")
SETTINGS = [
    "data.source=csv", "data.category_columns=['colour']", "data.balance=smotenc", "data.label_column=answer",
    "data.class_keep_fractions=[]", "search.generations=0", "reservoir.nodes=30", "reservoir.kernel=dense-fp32",
    "reservoir.batch_rows=64", "reservoir.states=1", "readout.kind=ridge", "training.threads=1",
    "run.progress=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    """A model of a table in which the label depends on the colour only."""
    folder = tmp_path_factory.mktemp("table")
    sizes = np.random.default_rng(0).normal(size=240)
    # "green" is rare, so SMOTENC generates rows with it.
    colours = ["red", "blue", "red", "green", "blue", "blue"] * 40
    rows = [f"{size:.3f},{colour},is {colour}" for size, colour in zip(sizes, colours, strict=True)]
    (folder / "t.csv").write_text("\n".join(["size,colour,answer", *rows]))
    config = load_config("digits", [*SETTINGS, f"data.path={folder / 't.csv'}"])
    run_stages(["prepare", "train"], config, folder / "run")
    return RunDirectory(folder / "run")


def table(path, colours):
    """Write rows of these colours, with an additional column and another order of the columns."""
    path.write_text("\n".join(["note,colour,size", *(f"x{row},{name},0.1" for row, name in enumerate(colours))]))
    return path


def test_categories_have_the_same_numbers_in_preparation_and_prediction(run, tmp_path):
    index = json.loads((run.shards / "index.json").read_text())
    assert index["columns"]["features"] == ["size", "colour"]
    assert index["columns"]["categories"] == {"colour": ["red", "blue", "green"]}
    assert index["columns"]["most_frequent"] == {"colour": "blue"}
    colours = ["green", "blue", "red", "red", "green"]
    samples = table(tmp_path / "new.csv", colours)
    predict(run.model, samples, tmp_path / "out.npz", run.config().data)
    with np.load(tmp_path / "out.npz") as out:
        assert out["name"].tolist() == [f"is {colour}" for colour in colours]
    # A copy of the model file is sufficient.
    shutil.copy(run.model, tmp_path / "model.pt")
    counts = predict(tmp_path / "model.pt", samples, tmp_path / "alone.npz")
    assert counts == {"is blue": 1, "is green": 2, "is red": 2}


def test_a_category_that_the_model_has_never_seen(run, tmp_path):
    samples = table(tmp_path / "new.csv", ["green", "mauve"])
    with pytest.raises(InputError, match=r"new\.csv: row 1 \(from 0\), column colour: category 'mauve' .* red, blue"):
        predict(run.model, samples, tmp_path / "out.npz", run.config().data)
    assert not (tmp_path / "out.npz").exists()


def test_categories_with_other_names_are_another_source(run, tmp_path):
    config = run.config()
    renamed = tmp_path / "renamed.csv"
    with open(config.data.path) as file:
        renamed.write_text(file.read().replace(",red,", ",scarlet,"))
    data = config.data.model_copy(update={"path": str(renamed)})
    with pytest.raises(InputError, match=r"other data than data\.path = .*renamed\.csv"):
        run_stages(["prepare"], config.model_copy(update={"data": data}), run.path)

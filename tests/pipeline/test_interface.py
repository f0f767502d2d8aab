"""Prediction, verification and models from Python: arrays and files in, typed results out."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Any, NotRequired, get_args, get_origin

import numpy as np
import pytest
from deploy.conftest import trained_run
from sklearn.datasets import load_digits, load_wine

import rcdp_hpc
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.pipeline import results

DIGITS = load_digits()


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    return trained_run(tmp_path_factory.mktemp("digits") / "run", []).path


class Frame(dict):
    """Columns by name, as in a DataFrame."""

    @property
    def columns(self):
        return list(self)


@pytest.fixture(scope="module")
def wine(tmp_path_factory) -> tuple[Path, Frame]:
    """Return a run on a table with named columns, and its columns."""
    folder = tmp_path_factory.mktemp("wine")
    data = load_wine()
    header = ",".join([*(name.replace("/", "_") for name in data.feature_names), "target"])
    np.savetxt(folder / "wine.csv", np.column_stack([data.data, data.target]), "%.17g", ",", header=header, comments="")
    settings = (
        f"data.path={folder / 'wine.csv'}",
        "data.source=csv",
        "data.label_column=target",
        "reservoir.sequence=rows",
    )
    frame = Frame(zip(header.split(",")[:-1], data.data.T, strict=True))
    return trained_run(folder / "run", settings).path, frame


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> tuple[Path, list[np.ndarray]]:
    """Return a run on series of unequal length, and the series."""
    folder = tmp_path_factory.mktemp("series")
    numbers = np.random.default_rng(5)
    lengths = numbers.integers(5, 20, 60)
    y = np.arange(60) % 2
    x = [numbers.normal(label, 0.3, (length, 2)) for label, length in zip(y, lengths, strict=True)]
    padded = np.zeros((60, 19, 2))
    for row, one in enumerate(x):
        padded[row, : len(one)] = one
    np.savez(folder / "series.npz", x=padded, y=y, lengths=lengths)
    settings = (f"data.path={folder / 'series.npz'}", "data.source=npz", "reservoir.sequence=rows")
    return trained_run(folder / "run", settings).path, x


def test_an_array_and_its_file_have_the_same_predictions(digits, tmp_path):
    np.savez(tmp_path / "new.npz", x=DIGITS.images)
    array = rcdp_hpc.predict(digits, DIGITS.images)
    file = rcdp_hpc.predict(str(digits), str(tmp_path / "new.npz"))
    model = rcdp_hpc.load_model(digits)
    loaded = rcdp_hpc.predict(model, DIGITS.images)
    written = rcdp_hpc.predict(digits, tmp_path / "new.npz", to=tmp_path / "out.npz")
    stored = np.load(tmp_path / "out.npz")
    assert array.probabilities.shape == (1797, 10)
    for other in (file.probabilities, loaded.probabilities, stored["calibrated_probability"]):
        np.testing.assert_array_equal(array.probabilities, other)
    answers = model.answers(DIGITS.images[:9], scaled=False)
    np.testing.assert_allclose(answers.probabilities, array.probabilities[:9], atol=1e-6)
    assert np.mean(array.labels == DIGITS.target.astype(str)) > 0.7
    np.testing.assert_array_equal(array.indices, stored["label"])
    assert array.counts == written.counts == dict(zip(*np.unique(array.labels, return_counts=True), strict=True))
    assert written.probabilities is None
    with pytest.raises(ValueError, match="written to a file"):
        written.labels  # noqa: B018


def test_columns_of_a_frame_are_taken_by_name(wine):
    run, frame = wine
    expected = rcdp_hpc.predict(run, np.column_stack(list(frame.values()))).probabilities
    turned = Frame({"further": np.ones(178), **dict(reversed(frame.items()))})
    np.testing.assert_array_equal(rcdp_hpc.predict(run, turned).probabilities, expected)
    del turned["alcohol"]
    with pytest.raises(InputError, match="samples: no column 'alcohol'"):
        rcdp_hpc.predict(run, turned)


def test_a_list_of_series_of_unequal_length(series):
    run, x = series
    everything = rcdp_hpc.predict(run, x)
    assert np.mean(everything.indices == np.arange(60) % 2) > 0.9
    each = [rcdp_hpc.predict(run, one[None]).probabilities[0] for one in x[:5]]
    np.testing.assert_allclose(each, everything.probabilities[:5], atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (DIGITS.images[0], "without the axis of samples|shape"),
        (DIGITS.data, "number of values is the same"),
        (DIGITS.images[:0], "at least one sample"),
        (DIGITS.images * 1000, "scale"),
        (np.full((3, 8, 8), np.nan), "samples"),
        ([["a", "b"], ["c", "d"]], "samples"),
        ([object()] * 3, "samples"),
        ([np.zeros((8, 8)), np.zeros((9, 7))], "same features"),
        (5, "samples"),
        ("nowhere.npz", "nowhere.npz"),
    ],
)
def test_samples_that_do_not_fit_are_refused(digits, samples, message):
    with pytest.raises(InputError, match=message):
        rcdp_hpc.predict(digits, samples)


def test_a_missing_model_and_arrays_for_a_file_are_refused(digits, tmp_path):
    with pytest.raises(InputError, match="no such run directory"):
        rcdp_hpc.predict(tmp_path / "none", DIGITS.images)
    with pytest.raises(InputError, match="no trained model"):
        rcdp_hpc.load_model(tmp_path)
    with pytest.raises(InputError, match="only samples of a file"):
        rcdp_hpc.predict(digits, DIGITS.images, to=tmp_path / "out.csv")


def test_verify_and_the_shard_reader(digits, tmp_path):
    assert rcdp_hpc.verify(digits) == rcdp_hpc.verify(str(digits / "shards"))
    assert rcdp_hpc.verify(digits).ok
    shards = rcdp_hpc.ShardReader(str(digits / "shards"))
    assert shards.read("test", 0, 5).x.shape == (5, 8, 8)
    copy = tmp_path / "shards"
    copy.mkdir()
    for file in (digits / "shards").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    damaged = next(copy.glob("train*.h5"))
    damaged.write_bytes(damaged.read_bytes()[:-7])
    found = rcdp_hpc.verify(copy)
    assert not found.ok
    assert any(damaged.name in finding for finding in found.findings)
    with pytest.raises(DataDamagedError, match=damaged.name):
        rcdp_hpc.ShardReader(copy).read("train", 0, 5)
    with pytest.raises(InputError, match=r"no shards|index\.json"):
        rcdp_hpc.verify(tmp_path / "none")


def test_a_reservoir_from_a_configuration():
    config = rcdp_hpc.load_config({"reservoir": {"nodes": 20, "states": 1}})
    reservoir = rcdp_hpc.Reservoir(config.reservoir, features=8)
    assert reservoir.drive(DIGITS.images[:4].astype(np.float32) / 16).shape == (4, reservoir.width)


KINDS = {
    "prepare": results.PrepareResult,
    "search": results.SearchResult,
    "train": results.TrainResult,
    "evaluate": results.EvaluateResult,
}
SMALL = {"reservoir": {"nodes": 10, "kernel": "dense-fp32", "batch_rows": 64}, "data": {"shards": 1, "reserve": 0.1}}


@pytest.mark.parametrize("readout", ["ridge", "network"])
def test_results_have_the_declared_keys(readout, tmp_path):
    """Every key that a stage returns is declared, with its type, and each declared key occurs for some settings."""
    settings = {**SMALL, "readout": {"kind": readout}, "training": {"epochs": 1, "batch": 8}}
    settings["search"] = {"generations": 1, "population": 2}
    data = load_wine(return_X_y=True)
    result = rcdp_hpc.run(settings, tmp_path / "run", data=data)
    assert list(result) == list(results.RunResult.__annotations__)
    trained, solved = {"best_epoch", "engine"}, {"penalty", "selected_by", "ranks"}
    for stage, kind in KINDS.items():
        keys = set(result[stage])
        declared = set(kind.__annotations__)
        assert keys <= declared, stage
        assert kind.__required_keys__ <= keys, stage
        for key, value in result[stage].items():
            declared_type = kind.__annotations__[key]
            plain = get_origin(declared_type) or declared_type
            inner = get_args(declared_type)[0] if plain is NotRequired else declared_type
            accepted = inner if isinstance(inner, UnionType) else get_origin(inner) or inner
            assert inner is Any or isinstance(value, accepted), (stage, key, value)
    assert set(result["search"]) == set(results.SearchResult.__annotations__)
    assert (trained if readout == "network" else solved) <= set(result["train"])
    assert not (solved if readout == "network" else trained) & set(result["train"])
    assert set(result["prepare"]) == {"train", "validation", "test", "reserve"}
    assert result["evaluate"]["correct"] <= result["evaluate"]["samples"]


def test_a_cross_validation_has_the_declared_keys(tmp_path):
    settings = {**SMALL, "data": {"shards": 1, "folds": 2}}
    summary = rcdp_hpc.crossvalidate(settings, tmp_path / "cv", data=load_wine(return_X_y=True))
    assert set(summary) == set(results.CrossValidationResult.__annotations__)
    assert rcdp_hpc.crossvalidate(settings, tmp_path / "one", data=load_wine(return_X_y=True), fold=2) is None

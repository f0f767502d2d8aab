"""Floors: classifiers on the input itself."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from method_cells import cell, method, prepared, series, settings, table, without_times

from rcdp_hpc.comparison.methods import floor, minirocket
from rcdp_hpc.comparison.methods.floor import Floor, Samples, read_samples, scaled_values
from rcdp_hpc.config import DataFacts
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import InputError, StageFailedError

DIGITS = {"source": "digits", "max_samples": 500}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    config = settings(DIGITS)
    return config, prepared(config, tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def rows_of_a_table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    config = settings(table(folder))
    return config, prepared(config, folder / "run")


@pytest.mark.parametrize(("name", "least"), [("ridge", 0.8), ("logistic", 0.85)])
def test_floors_of_images_learn_and_repeat(digits, tmp_path, name, least):
    config, shards = digits
    first, second = (method(name).run(cell(config, shards, tmp_path / run)) for run in "ab")
    assert first.test["accuracy"] > least
    assert without_times(first) == without_times(second)
    assert first.test["samples"] == ShardReader(shards).rows("test")
    assert first.parameters == 65 * 10  # a weight for each pixel and a constant, for ten classes
    assert first.evaluations == 0


def test_trees_learn_what_a_line_cannot_divide(rows_of_a_table, tmp_path):
    config, shards = rows_of_a_table
    trees, line = (method(name).run(cell(config, shards, tmp_path / name)) for name in ("trees", "logistic"))
    assert trees.test["accuracy"] > max(0.75, line.test["accuracy"] + 0.1)
    assert trees.parameters > 20
    assert without_times(trees) == without_times(method("trees").run(cell(config, shards, tmp_path / "again")))


def test_a_floor_is_chosen_by_the_validation_rows_and_sees_the_test_rows_once(digits, tmp_path, monkeypatch):
    config, shards = digits
    read = []
    monkeypatch.setattr(floor, "read_samples", lambda reader, split: read.append(split) or read_samples(reader, split))

    class Constant:
        def __init__(self, label):
            self.label = label

        def predict(self, features):
            return np.full(len(features), self.label)

    class Constants(Floor):
        def candidates(self):
            return [{"label": label} for label in range(10)]

        def fit(self, features, y, seed, **values):
            return Constant(values["label"])

    outcome = Constants().run(cell(config, shards, tmp_path / "run"))
    counts = ShardReader(shards).class_counts("validation")
    assert outcome.chosen == {"label": int(np.argmax(counts))}
    assert outcome.validation_accuracy == pytest.approx(counts.max() / counts.sum())
    assert read == ["train", "validation", "test"]


def test_a_floor_reads_synthetic_rows_and_no_padding(tmp_path):
    config = settings({**series(tmp_path, unequal=True), "balance": "smote", "balance_counts": [100, 0, 0]})
    shards = prepared(config, tmp_path / "run")
    reader = ShardReader(shards)
    train = read_samples(reader, "train")
    stored = reader.read("train", 0, reader.rows("train"))
    assert stored.synthetic.sum() > 0
    assert len(train.y) == reader.rows("train")
    for row, length in enumerate(stored.length):
        assert np.array_equal(train.x[row, :length], stored.x[row, :length])
        assert not train.x[row, length:].any()
    assert method("logistic").run(cell(config, shards, tmp_path / "cell")).test["samples"] == reader.rows("test")
    facts = cell(config, shards, tmp_path / "cell").facts
    assert "these have 12 to 20 steps" in method("minirocket").problem(config, facts)


def test_scaled_values_by_hand():
    x = np.array([[[0.0, 2.0]], [[0.0, 6.0]]], np.float32)
    samples = Samples(x, np.zeros(2, np.int64))
    rows = scaled_values(samples, DataFacts("series", (1, 2)))(samples)
    # The first value never differs; mean 4 and deviation 2 of the second.
    assert rows.tolist() == [[0.0, -1.0], [0.0, 1.0]]
    # As an image: mean 2 and deviation sqrt(6) of all values.
    pixels = scaled_values(samples, DataFacts("images", (1, 2)))(samples)
    assert np.allclose(pixels, np.array([[-2, 0], [-2, 4]]) / np.sqrt(6))


def test_values_that_never_differ_stay_0_in_spite_of_rounding():
    x = np.full((5000, 2), 0.1, np.float32)
    x[:, 1] = np.arange(5000)
    samples = Samples(x, np.zeros(5000, np.int64))
    rows = scaled_values(samples, DataFacts("table", (2,)))(samples)
    assert not rows[:, 0].any()
    assert np.allclose(rows[:, 1].astype(float).std(), 1)


@pytest.mark.parametrize("wrong", [np.zeros((3, 1), int), np.full(3, 0.5), np.array([0, 1, 10]), np.array([0, 1, -1])])
def test_predictions_that_are_no_class_numbers_are_refused(wrong):
    class Wrong:
        def predict(self, features):
            return wrong

    with pytest.raises(InputError, match=r"Wrong.predict returned .* expected a class number from 0 to 9 for each row"):
        floor._predicted(Wrong(), np.zeros((3, 2), np.float32), 10)


def test_too_many_rows_for_the_memory_are_refused(digits, tmp_path, monkeypatch):
    config, shards = digits
    monkeypatch.setattr(floor, "machine_memory", lambda: 1000)
    with pytest.raises(StageFailedError, match=r"takes about .* GiB, and .* are available: leave the method out"):
        method("logistic").run(cell(config, shards, tmp_path / "run"))


def test_only_the_first_candidate_is_fitted_if_time_is_short(digits, tmp_path):
    config, shards = digits
    short = cell(config, shards, tmp_path / "run")
    short = type(short)(short.config, short.comm, short.run, type(short.budget)(4, 2, 1e-9), short.facts)
    assert method("logistic").run(short).chosen == {"C": 0.001}


@pytest.mark.parametrize(
    ("name", "facts", "problem"),
    [
        ("trees", DataFacts("images", (8, 8)), "boosted trees are the floor of tables"),
        ("minirocket", DataFacts("table", (8,)), "MiniRocket is the floor of series"),
        ("minirocket", DataFacts("series", (8, 1)), "reads 9 steps, and these series have 8"),
        ("minirocket", DataFacts("series", (20, 1)), r"pip install 'rcdp_hpc[compare]'"),
    ],
)
def test_floors_refuse_what_they_cannot_take(name, facts, problem, monkeypatch):
    monkeypatch.setattr(minirocket, "find_spec", lambda module: None)
    assert problem in method(name).problem(settings(DIGITS), facts)


@pytest.mark.parametrize("name", ["logistic", "wpd-avoa-delm"])
def test_methods_that_read_the_input_are_left_out_of_the_arm_with_an_extractor(name):
    config = settings(DIGITS, extractor={"kind": "pretrained", "model": "other/model.pt"})
    assert "leave" in str(method(name).problem(config, DataFacts("images", (8, 8))))
    assert method(name).problem(settings(DIGITS), DataFacts("images", (8, 8))) is None


def test_minirocket_learns_series_and_repeats(tmp_path, caplog):
    pytest.importorskip("aeon", reason="the extra compare is not installed")
    config = settings(series(tmp_path))
    shards = prepared(config, tmp_path / "run")
    with caplog.at_level(logging.INFO):
        first, second = (method("minirocket").run(cell(config, shards, tmp_path / run)) for run in "ab")
    assert first.test["accuracy"] > 0.9
    assert without_times(first) == without_times(second)

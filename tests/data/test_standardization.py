"""Features on one scale: statistics of the training rows only, the same in shards, index and prediction."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import RobustScaler, StandardScaler

from rcdp_hpc.config import DataSection
from rcdp_hpc.data import budget as memory
from rcdp_hpc.data.fit_standardization import standardized
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.data.sources import open_source
from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.errors import InputError

from .conftest import make_config

SCALES = np.array([1.0, 1e4, 1e-3])
OFFSETS = np.array([0.0, 1e6, -5.0])


def table(rows=90, dtype=np.float64):
    generator = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], (rows // 2, rows // 3, rows - rows // 2 - rows // 3))
    return ((generator.normal(size=(rows, 3)) + y[:, None]) * SCALES + OFFSETS).astype(dtype), y


def saved(tmp_path, x, y, **arrays):
    path = tmp_path / "t.npz"
    np.savez(path, x=x, y=y, **arrays)
    return path


def prepared(tmp_path, path, name="shards", **data):
    index = prepare_shards(make_config(path, shards=2, **data), tmp_path / name)
    shards = ShardReader(tmp_path / name)
    return index, {split: shards.read(split, 0, shards.rows(split)) for split in shards.splits}


@pytest.mark.parametrize(("method", "scaler"), [("auto", StandardScaler()), ("robust", RobustScaler())])
def test_shards_hold_what_scikit_learn_makes_of_the_training_rows(tmp_path, method, scaler):
    x, y = table()
    index, rows = prepared(tmp_path, saved(tmp_path, x, y), standardize=method)
    train = rows["train"]
    original = np.sort(train.source_index[~train.synthetic])
    scaler.fit(x[original])
    wanted = scaler.transform(x)
    if method == "robust":
        wanted *= 1.349
    for part in rows.values():
        held = ~part.synthetic
        np.testing.assert_allclose(part.x[held], wanted[part.source_index[held]], rtol=1e-5, atol=1e-5)
    assert index["kind"] == "table"
    assert verify_shards(tmp_path / "shards") == []


def test_validation_and_test_rows_do_not_count(tmp_path):
    """Other values in held-out rows do not change the training rows: nothing leaks into balancing."""
    x, y = table()
    _, rows = prepared(tmp_path, saved(tmp_path, x, y))
    held_out = np.concatenate([rows["validation"].source_index, rows["test"].source_index])
    x[held_out] += 1e5
    _, other = prepared(tmp_path, saved(tmp_path, x, y), "other")
    np.testing.assert_array_equal(rows["train"].x, other["train"].x)


def test_large_values_with_small_differences_stay_different(tmp_path):
    x = np.column_stack([np.random.default_rng(0).normal(size=60), 1.7e9 + np.arange(60)])
    path = saved(tmp_path, x, np.arange(60) % 3)
    _, rows = prepared(tmp_path, path)
    assert len(np.unique(rows["train"].x[:, 1])) == len(rows["train"].x)
    with pytest.raises(InputError, match=r"feature 1: .* lose their differences in float32. Set data.standardize"):
        prepared(tmp_path, path, "none", standardize="none")


def test_images_keep_their_bytes(tmp_path):
    generator = np.random.default_rng(0)
    path = saved(tmp_path, generator.integers(0, 256, (40, 6, 6), np.uint8), np.arange(40) % 2)
    index, _ = prepared(tmp_path, path)
    assert (index["kind"], index["storage"]["kind"], index["standardization"]) == ("images", "uint8", None)
    index, rows = prepared(tmp_path, path, "standard", standardize="standard")
    assert index["storage"]["kind"] == "float32"
    assert abs(rows["train"].x.mean()) < 0.1


def test_a_constant_stays_finite_and_is_named(tmp_path, caplog):
    x, y = table()
    x[:, 1] = 7.0
    _, rows = prepared(tmp_path, saved(tmp_path, x, y))
    assert (rows["train"].x[:, 1] == 0).all()
    assert "constant in the training rows, so they carry no information: feature 1" in caplog.text


def test_unlike_scales_are_warned_about_without_it(tmp_path, caplog):
    x, y = table(dtype=np.float32)
    x[:, 1] -= x[:, 1].mean()
    prepared(tmp_path, saved(tmp_path, x, y), standardize="none")
    assert "Set data.standardize = 'standard'" in caplog.text


def series(standardize):
    generator = np.random.default_rng(0)
    x = generator.normal(5, 3, (30, 8, 2)).astype(np.float32)
    return x, np.arange(30) % 3, {"standardize": standardize, "kind": "series"}


@given(st.integers(1, 6), st.integers(1, 8))
def test_each_series_is_standardised_separately(count, longest):
    generator = np.random.default_rng(count)
    lengths = generator.integers(1, longest + 1, count)
    raw = generator.normal(1e6, 3, (count, longest, 2))
    found = Standardization("series", np.zeros(2), np.ones(2)).apply(raw, 1.0, lengths)
    for row, length in zip(found, lengths, strict=True):
        assert (row[length:] == 0).all()
        np.testing.assert_allclose(row[:length].mean(0), 0, atol=1e-5)
        if length > 1:
            np.testing.assert_allclose(row[:length].std(0), 1, rtol=1e-5)


def test_each_dimension_of_a_series_is_standardised_separately(tmp_path):
    x, y, settings = series("standard")
    x[:, :, 1] *= 1000
    _, rows = prepared(tmp_path, saved(tmp_path, x, y), **settings)
    held = rows["train"].x[~rows["train"].synthetic]
    np.testing.assert_allclose(held.std((0, 1)), 1, rtol=1e-3)


def test_by_series_is_for_series(tmp_path):
    x, y = table()
    with pytest.raises(InputError, match="these data are of the kind 'table'"):
        prepared(tmp_path, saved(tmp_path, x, y), standardize="series")


def test_missing_values_become_the_training_mean(tmp_path):
    x, y = table()
    x[::7, 0] = np.nan
    _, rows = prepared(tmp_path, saved(tmp_path, x, y), missing="mean")
    train = rows["train"]
    gaps = ~train.synthetic & np.isnan(x[train.source_index, 0])
    assert gaps.any()
    np.testing.assert_allclose(train.x[gaps, 0], 0, atol=1e-6)


def test_the_standardization_round_trips_through_the_index(tmp_path):
    x, y = table()
    config = make_config(saved(tmp_path, x, y))
    source, _ = standardized(open_source(config.data), np.arange(60), config.data)
    again = Standardization.from_json(json.loads(json.dumps(source.standardization.to_json())))
    np.testing.assert_array_equal(again.apply(x, 1.0), source.standardization.apply(x, 1.0))
    assert Standardization.from_json(None) is None


@pytest.mark.parametrize("kind", ["table", "series"])
def test_quartiles_are_the_same_with_every_budget(tmp_path, monkeypatch, kind):
    x, y = table(20_000)
    arrays = {} if kind == "table" else {"lengths": np.arange(2000) % 9 + 2}
    path = saved(tmp_path, *((x, y) if kind == "table" else (x.reshape(2000, 10, 3), y[::10])), **arrays)
    monkeypatch.setattr(memory, "LEAST_SHARE", 700_000)
    found = []
    for mebibytes in (4, 4096):
        data = DataSection(source="npz", path=str(path), standardize="robust", memory_budget=mebibytes)
        source = open_source(data)
        found.append(standardized(source, np.arange(len(source.train)), data)[0].standardization)
    np.testing.assert_array_equal(found[0].center, found[1].center)
    np.testing.assert_array_equal(found[0].deviation, found[1].deviation)
    monkeypatch.setattr(memory, "LEAST_SHARE", 2**18)
    with pytest.raises(InputError, match=r"the quartiles of a feature .* need its values at once"):
        standardized(source, np.arange(len(source.train)), data.model_copy(update={"memory_budget": 1}))

"""Missing values: filled by the training rows alone, marked in mask channels, the same in shards and prediction."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.fit_standardization import standardized
from rcdp_hpc.data.missing import with_mask
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.inspect import describe_shards
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.data.sources import Source
from rcdp_hpc.data.sources.base import Part
from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.errors import InputError

from .conftest import make_config

TRAIN = np.arange(0, 12, 2)
VALUES = st.one_of(st.floats(-1e6, 1e6, width=32), st.just(float("nan")))


def source_of(x, lengths=None, kind="table", **facts):
    part = Part(x, np.arange(len(x)) % 2, lengths)
    return Source("npz", ["a", "b"], part, None, 1.0, "made", kind=kind, **facts)


def fitted(source, rows=TRAIN, **data):
    section = DataSection(source="npz", path="made", **data)
    return standardized(source, rows, section)[0].standardization


@given(arrays(np.float64, (12, 3), elements=VALUES))
@settings(max_examples=15, deadline=None)
def test_the_fill_is_that_of_numpy_for_the_training_rows(x):
    x[0] = 1.0
    planted = x.copy()
    planted[1::2] = 1e9
    for missing, expected in (("median", np.nanmedian), ("mean", np.nanmean)):
        for rows in (x, planted):
            fill = fitted(source_of(rows), missing=missing, standardize="standard").fill
            np.testing.assert_allclose(fill, expected(x[TRAIN], axis=0), rtol=1e-12, atol=1e-9)
    assert (fitted(source_of(x), missing="constant", missing_constant=-3.5).fill == -3.5).all()


def test_the_median_of_series_is_over_all_steps_and_without_padding():
    x = np.random.default_rng(0).normal(size=(12, 5, 2))
    lengths = np.arange(12) % 4 + 2
    padding = np.arange(5) >= lengths[:, None]
    x[3:7, 1, 0] = x[4, 0, 1] = np.nan
    padded, held = x.copy(), x.copy()
    padded[padding], held[padding] = 0, np.nan
    found = fitted(source_of(padded, lengths, "series"), missing="median", missing_mask=True)
    np.testing.assert_array_equal(found.fill, np.nanmedian(held[TRAIN].reshape(-1, 2), axis=0))
    assert found.mask == (0, 1)
    stored = found.apply(padded, 1.0, lengths)
    np.testing.assert_array_equal(stored[..., 2:], np.isnan(padded))
    assert (stored[padding] == 0).all()
    assert found.raw_shape(found.stored_shape((5, 2))) == (5, 2)


def test_categories_become_the_most_frequent_one_of_the_training_rows():
    x = np.array([[2.0], [0.0]] * 6)
    x[[4, 5], 0] = np.nan
    found = fitted(source_of(x, categories=(0,)), missing="median")
    assert found.fill.tolist() == [2.0]
    assert found.apply(x, 1.0)[4, 0] == 2.0


def test_a_feature_without_a_value_in_the_training_rows_is_refused():
    x = np.ones((12, 2))
    x[TRAIN, 1] = np.nan
    for missing in ("mean", "median", "constant"):
        with pytest.raises(InputError, match="feature 1: every value is missing in the training rows"):
            fitted(source_of(x), missing=missing)


def test_masks_are_for_tables_and_series():
    images = source_of(np.ones((12, 4, 4)), kind="images")
    with pytest.raises(InputError, match="missing_mask is for tables and series"):
        with_mask(images, TRAIN, DataSection(missing="mean", missing_mask=True))


def gappy(series):
    generator = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], (60, 30, 12))
    shape = (len(y), 6, 3) if series else (len(y), 3)
    x = generator.normal(size=shape) + y.reshape(-1, *(1,) * (len(shape) - 1))
    x[..., 0][generator.random(shape[:-1]) < 0.3] = np.nan
    x[..., 2][generator.random(shape[:-1]) < 0.1] = np.nan
    if series:
        x[:, 0] = np.where(np.arange(len(y))[:, None] % 5 == 0, np.nan, x[:, 0])  # leading steps are missing, too
    return x, y


@pytest.mark.parametrize(("series", "balance"), [(False, "smote"), (True, "smote"), (False, "smote_enn")])
def test_synthetic_rows_have_the_mask_of_their_sample(tmp_path, series, balance):
    x, y = gappy(series)
    lengths = {"lengths": np.arange(len(y)) % 3 + 4} if series else {}
    np.savez(tmp_path / "x.npz", x=x, y=y, **lengths)
    config = make_config(tmp_path / "x.npz", missing="median", missing_mask=True, balance=balance)
    index = prepare_shards(config, tmp_path / "shards")
    shards = ShardReader(tmp_path / "shards")
    rows = shards.read("train", 0, shards.rows("train"))
    mask = list(Standardization.from_json(index["standardization"]).mask)
    assert mask == ([0, 1, 2] if series else [0, 2])
    assert shards.sample_shape == (*x.shape[1:-1], 3 + len(mask))
    expected = np.isnan(x[rows.source_index][..., mask])
    if series:
        expected &= (np.arange(6) < rows.length[:, None])[..., None]
    assert rows.synthetic.any()
    np.testing.assert_array_equal(rows.x[..., 3:], expected)
    assert verify_shards(tmp_path / "shards") == []
    text = describe_shards(tmp_path / "shards")
    counts = index["missing"]
    assert f"missing values of the training rows that are filled: feature 0: {counts[0]}" in text
    assert "mask channels of missing values: feature 0, " in text


def test_rows_like_earlier_ones_are_filled_as_these(tmp_path):
    x, y = gappy(False)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    settings_ = {"missing": "median", "missing_mask": True, "balance": "none"}
    first = prepare_shards(make_config(tmp_path / "x.npz", **settings_), tmp_path / "run" / "shards")
    x[:, 1] = np.where(np.arange(len(y)) % 2, np.nan, 50.0)
    np.savez(tmp_path / "new.npz", x=x, y=y)
    like = make_config(tmp_path / "new.npz", like=str(tmp_path / "run"), **settings_)
    assert prepare_shards(like, tmp_path / "new")["standardization"] == first["standardization"]
    plain = make_config(tmp_path / "new.npz", like=str(tmp_path / "plain"), **settings_)
    np.savez(tmp_path / "full.npz", x=np.nan_to_num(x), y=y)
    prepare_shards(make_config(tmp_path / "full.npz"), tmp_path / "plain" / "shards")
    with pytest.raises(InputError, match="was prepared without filling"):
        prepare_shards(plain, tmp_path / "refused")


def test_a_map_with_a_mask_survives_the_index():
    x = gappy(False)[0]
    found = fitted(source_of(x), np.arange(60), missing="mean", missing_mask=True)
    again = Standardization.from_json(json.loads(json.dumps(found.to_json())))
    np.testing.assert_array_equal(again.apply(x, 1.0), found.apply(x, 1.0))
    assert replace(again, mask=()).apply(x, 1.0).shape == x.shape

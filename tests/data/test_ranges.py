"""The range of each feature is independent of blocks, padding and missing values."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rcdp_hpc.data import ranges
from rcdp_hpc.data.ranges import FeatureRanges, feature_count


def blocks(x, size, lengths=None):
    for start in range(0, len(x), size):
        yield x[start : start + size], None if lengths is None else lengths[start : start + size]


@pytest.mark.parametrize(("size", "values"), [(1, 2**18), (7, 2**18), (100, 2**18), (100, 12)])
def test_blocks_of_any_size_give_the_statistics_of_all_values(size, values, monkeypatch):
    monkeypatch.setattr(ranges, "BLOCK_VALUES", values)
    x = np.random.default_rng(0).lognormal(size=(53, 4)) * [1, -1000, 1e-6, 1e6] + [0, 0, 0, 1e9]
    found = FeatureRanges.of_blocks(blocks(x, size), "table", (4,))
    np.testing.assert_array_equal(found.minimum, x.min(0))
    np.testing.assert_array_equal(found.maximum, x.max(0))
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.deviation, x.std(0), rtol=1e-9)
    np.testing.assert_allclose(found.log_magnitude, np.log(np.abs(x)).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.log_deviation, np.log(np.abs(x)).std(0), rtol=1e-6, atol=1e-12)
    assert found.values.tolist() == [53] * 4


def test_padding_and_missing_values_do_not_count():
    x = np.full((3, 5, 2), 99.0)
    lengths = np.array([2, 5, 1])
    for sample, length in enumerate(lengths):
        x[sample, :length, 0] = sample + 1
        x[sample, :length, 1] = [np.nan, 7.0, 0.0, 7.0, np.nan][:length]
    found = FeatureRanges.of_blocks(blocks(x, 2, lengths), "series", (4, 2))
    assert found.values.tolist() == [8, 4]
    assert found.minimum.tolist() == [1, 0]
    assert found.maximum.tolist() == [3, 7]
    assert found.mean.tolist() == [(2 * 1 + 5 * 2 + 3) / 8, 21 / 4]
    assert found.log_magnitude[1] == pytest.approx(np.log(7))


def test_constants_have_no_deviation_and_features_without_values_are_zero():
    x = np.column_stack([np.full(1000, 0.1), np.full(1000, np.nan)])
    found = FeatureRanges.of_blocks(blocks(x, 3), "table", (2,))
    assert found.deviation.tolist() == [0, 0]
    assert found.constant.tolist() == [True, True]
    assert (found.minimum[1], found.maximum[1], found.mean[1]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("kind", "shape", "count"),
    [("table", (5,), 5), ("series", (9, 3), 3), ("images", (8, 8), 1), ("images", (8, 8, 3), 3)],
)
def test_features_are_columns_dimensions_or_channels(kind, shape, count):
    assert feature_count(kind, shape) == count
    found = FeatureRanges.of_blocks([(np.ones((2, *shape), np.uint8), None)], kind, shape, "uint8")
    assert found.values.tolist() == [2 * np.prod(shape) // count] * count


def test_ranges_round_trip():
    x = np.random.default_rng(1).normal(size=(20, 3))
    found = FeatureRanges.of_blocks(blocks(x, 6), "table", (3,), "float64")
    again = FeatureRanges.from_json(json.loads(json.dumps(found.to_json())))
    assert again is not None
    assert again.to_json() == found.to_json()
    assert FeatureRanges.from_json(None) is None

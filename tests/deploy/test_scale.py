"""Samples on another scale than the training data are refused, with cause and remedy; correct samples are accepted."""

from __future__ import annotations

import re

import numpy as np
import pytest
from deploy.conftest import trained_run
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

from rcdp_hpc.data.ranges import FeatureRanges
from rcdp_hpc.data.sources import NewSamples
from rcdp_hpc.deploy.causes import other_scale_message
from rcdp_hpc.deploy.comparison import MOST_SAMPLES, Expected, compare, is_other_scale
from rcdp_hpc.deploy.predict import predict
from rcdp_hpc.errors import InputError


def expected_of(train, kind, scale=1.0, lengths=None, **more):
    ranges = FeatureRanges.of_blocks([(train * scale, lengths)], kind, train.shape[1:], str(train.dtype))
    return Expected(ranges, scale, **more)


def refused(expected, samples, lengths=None) -> bool:
    return is_other_scale(compare(NewSamples(samples, lengths), expected))


def message(expected, samples, lengths=None) -> str:
    comparison = compare(NewSamples(samples, lengths), expected)
    assert is_other_scale(comparison)
    return other_scale_message(comparison, "new.npz")


def table(load, standardised):
    """Return training and test rows of a shuffled table, and the labels of the test rows."""
    data = load()
    order = np.random.default_rng(0).permutation(len(data.data))
    x, y = data.data[order], data.target[order]
    cut = len(x) * 4 // 5
    if standardised:
        deviation = x[:cut].std(0)
        x = (x - x[:cut].mean(0)) / np.where(deviation > 0, deviation, 1)
    return x[:cut], x[cut:], y[cut:]


TABLES = [load_wine, load_breast_cancer, load_iris, load_digits]


@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("load", TABLES)
def test_test_rows_of_a_table_are_never_refused(load, standardised):
    train, test, labels = table(load, standardised)
    expected = expected_of(train, "table")
    assert not refused(expected, test)
    for row in range(len(test)):
        assert not refused(expected, test[row : row + 1])
    for row in range(0, len(test) - 4, 5):
        assert not refused(expected, test[row : row + 5])
    for label in np.unique(labels):
        assert not refused(expected, test[labels == label])


@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("load", TABLES)
@pytest.mark.parametrize(("factor", "remedy"), [(255, "divide the values by 255"), (1 / 255, "multiply .* by 255")])
def test_a_factor_is_named(load, standardised, factor, remedy):
    train, test, _ = table(load, standardised)
    expected = expected_of(train, "table")
    assert re.search(remedy, message(expected, test * factor))
    assert refused(expected, test[:1] * factor)


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_standardised_rows_for_a_model_of_raw_ones_and_the_other_way(load):
    raw, standard = table(load, False), table(load, True)
    assert "standardised already" in message(expected_of(raw[0], "table"), standard[1])
    assert "these samples are raw" in message(expected_of(standard[0], "table"), raw[1])
    for row in range(len(raw[1])):
        assert refused(expected_of(raw[0], "table"), standard[1][row : row + 1])
        assert refused(expected_of(standard[0], "table"), raw[1][row : row + 1])


@pytest.mark.parametrize("seed", range(5))
def test_columns_in_another_order(seed):
    train, test, _ = table(load_wine, False)
    names = load_wine().feature_names
    order = np.random.default_rng(seed).permutation(len(names))
    text = message(expected_of(train, "table", names=names), test[:, order])
    assert "another order: use the order of the training data (alcohol, malic_acid," in text
    assert text.startswith("new.npz: its values are on another scale than the training data: column ")
    # Columns that are found by name are in the right order.
    assert "another order" not in message(expected_of(train, "table", names=names, by_name=True), test[:, order])


IMAGES = (load_digits().images * 255 / 16).astype(np.uint8)
FRACTIONS = IMAGES / np.float32(255)


@pytest.mark.parametrize(
    ("train", "new", "remedy"),
    [
        (IMAGES, IMAGES, None),
        (IMAGES, IMAGES.astype(np.float32), None),
        (IMAGES, FRACTIONS, "0 to 1 here, 0 to 255 in training.*multiply the pixels by 255"),
        (IMAGES, IMAGES.astype(np.uint16) * 257, "divide the pixels by 257"),
        (IMAGES, (IMAGES > 99).astype(np.uint8), "multiply the pixels by 255"),
        (IMAGES, (FRACTIONS - 0.3) / 0.35, "negative.*normalised"),
        (IMAGES, IMAGES // 8, None),
        (FRACTIONS, FRACTIONS, None),
        (FRACTIONS, IMAGES, "divide the pixels by 255"),
        (FRACTIONS, IMAGES.astype(np.float64), "divide the pixels by 255"),
    ],
)
def test_images_by_their_number_format(train, new, remedy):
    expected = expected_of(train[300:], "images", 1 / 255 if train.dtype == np.uint8 else 1.0)
    if remedy is None:
        assert not refused(expected, new[:300])
        assert not any(refused(expected, new[row : row + 1]) for row in range(300))
    else:
        assert re.search(remedy, message(expected, new[:300]))


def test_series_without_their_padding():
    random = np.random.default_rng(0)
    x, lengths = random.normal(size=(60, 20, 3)), random.integers(4, 20, 60)
    x[np.arange(20) >= lengths[:, None]] = 0
    expected = expected_of(x[:40], "series", lengths=lengths[:40])
    assert not refused(expected, x[40:], lengths[40:])
    assert "multiply the values by 1000" in message(expected, x[40:] / 1000, lengths[40:])
    # A single quiet series is not a change of scale.
    assert not refused(expected, x[40:41] / 1000, lengths[40:41])


def test_uneven_features_constants_and_categories():
    random = np.random.default_rng(0)
    x = np.column_stack([random.lognormal(0, 2, (300, 5)), np.full(300, 3.0), random.integers(0, 4, 300)])
    expected = expected_of(x[:200], "table", names=list("abcdefg"), categories=["g"])
    assert not refused(expected, x[200:])
    assert not any(refused(expected, x[row : row + 1]) for row in range(200, 300))
    constant = x[200:].copy()
    constant[:, 5] = 4
    constant[:, 6] = 90
    assert not refused(expected, constant)
    assert not refused(expected_of(np.full((9, 2), 5.0), "table"), np.full((9, 2), 6.0))


def test_a_long_file_is_looked_at_in_parts():
    x = np.random.default_rng(0).normal(size=(10 * MOST_SAMPLES, 4))
    comparison = compare(NewSamples(x), expected_of(x, "table"))
    assert comparison.samples == MOST_SAMPLES
    x[len(x) // 2 :] *= 1000
    assert refused(expected_of(x[:1000], "table"), x)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model that was trained on images of bytes."""
    folder = tmp_path_factory.mktemp("bytes")
    digits = load_digits()
    np.savez(folder / "t.npz", x=IMAGES[300:], y=digits.target[300:], x_test=IMAGES[:300], y_test=digits.target[:300])
    return trained_run(folder / "run", ["data.source=npz", f"data.path={folder / 't.npz'}", "data.balance=none"])


def test_fractions_for_a_model_of_bytes_are_refused_before_anything_is_written(run, tmp_path, caplog):
    np.savez(tmp_path / "new.npz", x=FRACTIONS[:50])
    with pytest.raises(InputError, match=r"new\.npz: .* 0 to 1 here, 0 to 255 in training.*by 255\..*--any-scale"):
        predict(run.model, tmp_path / "new.npz", tmp_path / "y.csv")
    assert not (tmp_path / "y.csv").exists()
    counts = predict(run.model, tmp_path / "new.npz", tmp_path / "y.csv", any_scale=True)
    assert sum(counts.values()) == 50
    assert "multiply the pixels by 255" in caplog.text
    np.savez(tmp_path / "good.npz", x=IMAGES[:50].astype(np.float32))
    predict(run.model, tmp_path / "good.npz", tmp_path / "good.out.npz")
    np.savez(tmp_path / "bytes.npz", x=IMAGES[:50])
    predict(run.model, tmp_path / "bytes.npz", tmp_path / "bytes.out.npz")
    with np.load(tmp_path / "good.out.npz") as good, np.load(tmp_path / "bytes.out.npz") as of_bytes:
        np.testing.assert_allclose(good["calibrated_probability"], of_bytes["calibrated_probability"], atol=1e-5)

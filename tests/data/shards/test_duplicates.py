"""Samples in two splits: equal and nearly equal ones are found, and no others."""

import numpy as np
import pytest
from data.conftest import make_config

from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards import near_duplicates
from rcdp_hpc.data.shards.verify import check_shards
from rcdp_hpc.data.sources import LabelledArrays


def checked(folder, x, y, x_test, y_test, **options):
    arrays = LabelledArrays({"x": x, "y": y}, {"x": x_test, "y": y_test})
    settings = {
        "source": "arrays",
        "kind": "table",
        "shards": 3,
        "balance": "none",
        "validation_fraction": 0.2,
        **options,
    }
    prepare_shards(make_config(**settings), folder / "shards", arrays=arrays)
    report = check_shards(folder / "shards")
    assert report.findings == []
    return report.notes


def clouds(features, rows=300, seed=0):
    generator = np.random.default_rng(seed)
    # Features of very different units, and as many directions as features.
    x = generator.normal(size=(rows, features)) * np.logspace(-3, 3, features)
    return x.astype(np.float32), np.arange(rows) % 3 // 2


@pytest.mark.parametrize(("features", "standardize"), [(12, "none"), (40, "standard"), (40, "none")])
def test_planted_duplicates_are_found_and_no_others(tmp_path, features, standardize):
    x, y = clouds(features)
    x_test, y_test = clouds(features, 90, seed=1)
    # Copies of samples that are in the training or the validation part; two copies have another class.
    x_test[:6], y_test[:6] = x[:6], y[:6]
    y_test[:2] = 1 - y_test[:2]
    noise = np.random.default_rng(2).normal(size=(9, features)) * np.logspace(-3, 3, features)
    x_test[20:29] = x[50:59] + 0.01 * noise
    notes = checked(tmp_path, x, y, x_test, y_test, standardize=standardize)
    equal, near = (
        [note for note in notes if word in note] for word in ("are equal to a sample", "nearly equal a sample")
    )
    assert len(equal) + len(near) == len(notes)
    assert sum(int(note.split()[0]) for note in equal) == 6
    assert sum(int(note.split()[0]) for note in near) == 9
    assert sum("have another class there" in note for note in notes) in (1, 2)
    assert all("of 90 samples of test" in note for note in notes)


def test_images_are_compared_by_pixels_and_the_first_rows_if_there_are_many(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (120, 6, 6)).astype(np.uint8)
    y = np.arange(120) % 2
    x_test = generator.integers(0, 256, (40, 6, 6)).astype(np.uint8)
    x_test[:] = np.clip(x[:40].astype(int) + generator.integers(-2, 3, (40, 6, 6)), 0, 255)
    notes = checked(tmp_path, x, y, x_test, np.arange(40) % 2, kind="images")
    assert sum(int(note.split()[0]) for note in notes) == 40
    monkeypatch.setattr(near_duplicates, "MOST_VALUES", 36 * 80)
    notes = check_shards(tmp_path / "shards").notes
    assert notes[-1].startswith("near-duplicates were looked for among the first 48 of 96 of train, the first 12 of 24")


def test_series_that_differ_in_their_length_only_are_not_equal(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 5, 1)).astype(np.float32)
    x[:, 4] = 0
    lengths = np.full(60, 5)
    arrays = LabelledArrays({"x": x, "y": np.arange(60) % 2, "lengths": lengths},
                            {"x": x, "y": np.arange(60) % 2, "lengths": lengths - (np.arange(60) > 9)})  # fmt: skip
    config = make_config(source="arrays", balance="none", standardize="none", shards=1)
    prepare_shards(config, tmp_path / "shards", arrays=arrays)
    equal = [note for note in check_shards(tmp_path / "shards").notes if "are equal" in note]
    assert sum(int(note.split()[0]) for note in equal) == 10


def test_equal_training_rows_have_no_near_duplicates(tmp_path):
    x = np.tile(np.float32([1, 2, 3]), (60, 1))
    notes = checked(tmp_path, x, np.arange(60) % 2, x[:9] + 1, np.arange(9) % 2, standardize="none")
    assert "near-duplicates were not looked for: the training rows are equal to one another" in notes

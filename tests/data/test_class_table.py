"""The log of the classes: imbalance, dropped rows, targets that balancing missed."""

import logging

import numpy as np
import pytest
from data.conftest import make_config, uneven_data

from rcdp_hpc.data.class_table import table_lines
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.inspect import describe_shards
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.runtime.digests import read_sealed, write_sealed


def far_apart(path, counts=(60, 20, 12)):
    """Classes that are far from each other."""
    x, y = uneven_data(counts, shape=(4,))
    np.savez(path, x=x + 100 * y[:, None], y=y)
    return path


def prepared(tmp_path, caplog, **data):
    caplog.clear()
    with caplog.at_level(logging.INFO):
        index = prepare_shards(make_config(shards=1, **data), tmp_path / "shards", restart=True)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return index["class_table"], warnings


def test_a_method_that_makes_no_rows_is_reported_with_the_reason(tmp_path, caplog):
    path = far_apart(tmp_path / "far.npz")
    table, warnings = prepared(tmp_path, caplog, path=path, balance="borderline_smote", smote_neighbours=5)
    before = [entry["before"] for entry in table]
    assert [entry["after"] for entry in table] == before
    assert [entry["wanted"] for entry in table] == [max(before)] * 3
    (warning,) = warnings
    assert "made no rows, so the class counts are unchanged" in warning
    assert f"class 1 wanted {before[0]}, got {before[1]} (none made)" in warning
    assert "'in danger'" in warning
    assert "data.balance = 'smote'" in warning
    assert "class  samples  training  wanted  balanced  validation" in caplog.text
    text = describe_shards(tmp_path / "shards")
    assert "wanted" in text
    assert verify_shards(tmp_path / "shards") == []


@pytest.mark.parametrize("method", ["svm_smote", "adasyn", "kmeans_smote", "smote_tomek", "smote_enn"])
def test_every_class_that_misses_its_target_is_named(tmp_path, caplog, method):
    x, y = uneven_data((150, 70, 60), shape=(6,), seed=2)
    np.savez(tmp_path / "t.npz", x=x, y=y)
    table, warnings = prepared(tmp_path, caplog, path=tmp_path / "t.npz", balance=method)
    missed = [entry for entry in table if entry["after"] != entry["wanted"]]
    assert bool(missed) == bool(warnings)
    for entry in missed:
        assert f"class {entry['class']} wanted {entry['wanted']}, got {entry['after']}" in warnings[0]


@pytest.mark.parametrize("method", ["smote_enn", "borderline_smote"])
def test_the_method_that_the_warning_names_reaches_the_targets(tmp_path, caplog, method):
    x, y = uneven_data((60, 20, 12), shape=(4,), seed=2)
    np.savez(tmp_path / "t.npz", x=x + (100 * y[:, None] if method == "borderline_smote" else 0), y=y)
    _, (warning,) = prepared(tmp_path, caplog, path=tmp_path / "t.npz", balance=method, smote_neighbours=5)
    exact = warning.partition("data.balance = '")[2].partition("data.balance = '")[2].partition("'")[0]
    table, warnings = prepared(tmp_path, caplog, path=tmp_path / "t.npz", balance=exact, smote_neighbours=5)
    assert not warnings
    assert all(entry["after"] == entry["wanted"] for entry in table)


@pytest.mark.parametrize("method", ["smote", "random_over", "random_under", "none"])
def test_a_method_that_reaches_its_targets_warns_of_nothing(tmp_path, caplog, npz_file, method):
    table, warnings = prepared(tmp_path, caplog, path=npz_file, balance=method)
    assert not warnings
    assert all(entry["after"] == entry["wanted"] for entry in table)
    assert "wanted" not in caplog.text


def test_unevenness_is_one_line(tmp_path, caplog):
    x, y = uneven_data((60, 20, 12), shape=(4,))
    np.savez(tmp_path / "t.npz", x=x, y=y)
    table, _ = prepared(tmp_path, caplog, path=tmp_path / "t.npz")
    most, least = table[0]["before"], table[2]["before"]
    line = f"training rows per class: {least} (class 2) to {most} (class 0), largest over smallest {most / least:.3g}"
    assert caplog.text.count(line) == 1


def test_class_keep_fractions_are_a_warning_and_a_column(tmp_path, caplog, npz_file):
    table, (warning,) = prepared(
        tmp_path, caplog, path=npz_file, class_keep_fractions=[0.5, 1.0, 0.5], balance="random_over"
    )
    dropped = [entry["dropped"] for entry in table]
    total = sum(dropped) + sum(entry["before"] for entry in table)
    assert dropped[1] == 0
    assert warning.startswith(
        f"data.class_keep_fractions drops {sum(dropped)} of {total} training rows: class 0 {dropped[0]} of "
    )
    assert "class 1" not in warning
    assert "Set it to [] to keep them all" in warning
    assert "  dropped  training" in caplog.text
    assert "dropped" in describe_shards(tmp_path / "shards")
    prepared(tmp_path, caplog, path=npz_file)
    assert "dropped" not in caplog.text


def test_class_keep_counts_are_exact(tmp_path, caplog, npz_file):
    table, (warning,) = prepared(tmp_path, caplog, path=npz_file, class_keep_counts=[9, 8, 3], balance="random_over")
    assert [entry["before"] for entry in table] == [9, 8, 3]
    assert warning.startswith("data.class_keep_counts drops ")


def test_a_table_fits_eighty_columns_and_names_what_it_leaves_out():
    columns = {title: [10**5] * 30 for title in ("samples", "dropped", "training", "wanted", "balanced", "validation")}
    lines = table_lines([f"class{number}" for number in range(30)], {**columns, "test": [1] * 30})
    assert max(map(len, lines)) <= 80
    assert len({len(line) for line in lines[:-1]}) == 1
    assert lines[-1] == "... and 10 more classes (index.json has them all)"


def test_an_index_with_other_targets_than_its_settings_is_found(tmp_path, npz_file):
    prepare_shards(make_config(npz_file, shards=1), tmp_path / "shards")
    index = read_sealed(tmp_path / "shards/index.json")
    index["class_table"][1]["wanted"] += 1
    write_sealed(tmp_path / "shards/index.json", index)
    assert any(
        "by the class table, the classes should have" in finding for finding in verify_shards(tmp_path / "shards")
    )

"""The confusion matrix in a report, for a few classes and for a thousand."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.evaluation import confusion as report
from rcdp_hpc.runtime.sealed_zip import write_sealed_zip
from rcdp_hpc.runtime.text import display_width

SMALL = np.array([[5, 0, 1, 0], [2, 7, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.fixture
def few_resamples(monkeypatch):
    """Large matrices in seconds: their intervals are not looked at."""
    monkeypatch.setattr("rcdp_hpc.model.criteria.bootstrap.resamples_within", lambda *_: 2)


def large(classes: int, rows: int, seed: int = 0) -> np.ndarray:
    """Return the matrix of a model that is right in half of the cases."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, classes, rows)
    predicted = np.where(generator.random(rows) < 0.5, true, generator.integers(0, classes, rows))
    found = np.zeros((classes, classes), np.int64)
    np.add.at(found, (true, predicted), 1)
    return found


def test_a_class_without_samples_has_no_recall_and_is_named():
    result = report.result_of_test(SMALL, ["a", "b", "c", "d"])
    assert result["absent"] == ["c", "d"]
    assert result["recall"] == [0.833333, 0.777778, None, None]
    # A class that is only predicted has precision 0 and no F1 of its own; in the mean 0 counts, as in scikit-learn.
    assert result["precision"] == [0.714286, 1.0, 0.0, None]
    assert result["f1"] == [0.769231, 0.875, None, None]
    assert result["macro_f1"] == pytest.approx((10 / 13 + 0.875 + 0) / 3)
    assert result["confusion"] == SMALL.tolist()


def test_the_worst_confusions_come_first_with_their_share():
    result = report.worst_confusions(SMALL, ["a", "b", "c", "d"])
    assert result == [
        {"true": "b", "predicted": "a", "samples": 2, "share": 0.222222},
        {"true": "a", "predicted": "c", "samples": 1, "share": 0.166667},
    ]
    assert report.worst_confusions(np.diag([3, 4]), ["a", "b"]) == []


@pytest.mark.parametrize("rows", [500, 200_000])
def test_a_thousand_classes_need_less_than_a_megabyte_and_are_read_back_completely(tmp_path, rows, few_resamples):
    matrix = large(1000, rows)
    names = [f"class number {number} with a name of some length" for number in range(1000)]
    result = report.result_of_test(matrix, names)
    assert len(json.dumps({"test": result, "classes": names}, indent=1)) < 1e6
    kept = result["confusion"]
    assert sum(kept["samples"]) + kept["left_out"] == rows
    assert (kept["left_out"] > 0) == (rows == 200_000)
    report.write_cells(matrix, tmp_path)
    np.testing.assert_array_equal(report.read_confusion(json.loads(json.dumps(kept)), tmp_path), matrix)
    # The smallest cells off the diagonal are left out.
    shown = np.zeros_like(matrix)
    shown[kept["true"], kept["predicted"]] = kept["samples"]
    np.testing.assert_array_equal(np.diag(shown), np.diag(matrix))
    assert len(kept["samples"]) <= 11_000


def test_a_damaged_file_of_cells_is_refused(tmp_path, few_resamples):
    matrix = large(1000, 200_000)
    kept = report.result_of_test(matrix, [str(number) for number in range(1000)])["confusion"]
    report.write_cells(matrix, tmp_path)
    path = tmp_path / "confusion.npz"
    content = path.read_bytes()
    other = io.BytesIO()
    np.savez(other, true=[2000], predicted=[0], samples=[1])
    for damaged in (b"", content[:-1], content[:99] + b"x" + content[100:], other.getvalue()):
        path.write_bytes(damaged)
        with pytest.raises(DataDamagedError, match=r"confusion\.npz: "):
            report.read_confusion(kept, tmp_path)
    write_sealed_zip(path, lambda file: file.write(other.getvalue()))
    with pytest.raises(DataDamagedError, match="do not fit a matrix of 1000 classes"):
        report.read_confusion(kept, tmp_path)


def test_a_matrix_of_few_classes_leaves_no_file_of_an_earlier_evaluation(tmp_path):
    report.write_cells(large(101, 300), tmp_path)
    assert (tmp_path / "confusion.npz").exists()
    report.write_cells(SMALL, tmp_path)
    assert not (tmp_path / "confusion.npz").exists()


NAMES = ["two\nlines", "", "猫" * 30, "x" * 100]


def test_the_table_fits_a_terminal_and_marks_undefined_scores():
    lines = report.class_lines(report.result_of_test(SMALL, NAMES), SMALL, NAMES)
    assert max(map(display_width, lines)) <= 80
    assert len({display_width(line) for line in lines}) == 1
    assert lines[0].split() == ["class", "precision", "recall", "F1", "samples"]
    assert lines[1].split() == [r"two\nlines", "0.714", "0.833", "0.769", "6"]
    assert lines[4].split()[1:] == ["-", "-", "-", "0"]


def test_of_many_classes_the_most_frequent_confusions_are_logged():
    names = [name + str(number) for number in range(10) for name in NAMES]
    matrix = large(40, 4000)
    lines = report.class_lines(report.result_of_test(matrix, names), matrix, names)
    assert len(lines) == 12
    assert max(map(display_width, lines)) <= 80
    worst = matrix - np.diag(np.diag(matrix))
    assert lines[2].split()[-3] == str(worst.max())

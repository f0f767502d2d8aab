from __future__ import annotations

import unicodedata
from datetime import date
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.labels import LabelCollector, checked_labels, encode_labels
from rcdp_hpc.errors import InputError

BIG = 2**63 + 5
CAFE = "café"


def classes_of(values, test=None, findings=None):
    return encode_labels(values, test, "the test", findings)[0]


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["01", "1", "10"], ["01", "1", "10"]),
        (["10", "9", "-1"], ["-1", "9", "10"]),
        (np.array([10, 2, 2], np.int8), ["2", "10"]),
        (np.array([0.0, 1.0, -0.0]), ["0", "1"]),
        (np.array([0.5, 1.0, 0.5, 1.0], np.float32), ["0.5", "1"]),
        (["0.0", "1.0", "1.0"], ["0", "1"]),
        (["1.10", "1.1", "1.10", "1.1"], ["1.1", "1.10"]),
        (np.array([True, False]), ["False", "True"]),
        (["TRUE", "false"], ["False", "True"]),
        ([True, False], ["False", "True"]),
        (np.array([b"b", b"a"]), ["a", "b"]),
        (["b", b"a"], ["a", "b"]),
        (np.array([BIG, 1, 2**63 - 1], np.uint64), ["1", str(2**63 - 1), str(BIG)]),
        ([10**30, 5, -(10**25)], [str(-(10**25)), "5", str(10**30)]),
        ([Decimal("2.00"), Decimal("10")], ["2", "10"]),
        (["cat", "cat ", "\tdog", "\ufeffdog"], ["cat", "dog"]),
        ([unicodedata.normalize("NFD", CAFE), CAFE, "tea"], [CAFE, "tea"]),
        (["None", "mild"], ["None", "mild"]),
        (np.array([[3], [4]]), ["3", "4"]),
    ],
)
def test_classes(values, classes):
    found, y, _ = encode_labels(values, None, "")
    assert found == classes
    assert y.dtype == np.int64
    assert sorted(set(y.tolist())) == list(range(len(classes)))


def test_one_kind_of_labels_in_training_and_another_in_the_test():
    for train in ([0, 1], [0.0, 1.0], ["0", "1"], ["0.0", "1.0"]):
        for test in (np.array([1, 0]), np.array([1.0, 0.0]), ["1", "0"], ["1.0", "0.0"], [1.0, 0.0]):
            classes, y, test_y = encode_labels(train, test, "the test")
            assert (classes, y.tolist(), test_y.tolist()) == (["0", "1"], [0, 1], [1, 0])


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ([1.0, float("nan"), 2.0], "1 label is missing .* first in row 1"),
        (np.array([1.0, np.nan, np.nan]), "2 labels are missing .* first in row 1"),
        ([1, None, 2], "first in row 1"),
        (["a", "", "b", " "], "2 labels are missing .* first in row 1"),
        (["a", "b", "NA"], "first in row 2"),
        (["1", "0", "None"], "first in row 2"),
        ([b"", b"a"], "first in row 0"),
    ],
)
def test_missing_labels(values, where):
    with pytest.raises(InputError, match=rf"f: y: .*{where}.*data\.missing = 'drop'"):
        checked_labels(values, "f", "y")
    labels = checked_labels(values, "f", "y", missing="drop")
    present = labels.select(labels.present)
    assert len(present) < len(labels)
    assert "" not in classes_of(present)
    with pytest.raises(InputError, match="missing"):
        encode_labels(values, None, "")


def test_a_measured_quantity_is_not_a_class():
    rng = np.random.default_rng(0)
    for values in (
        rng.normal(size=500),
        rng.normal(size=500).astype(str),
        np.repeat(np.arange(60) / 7, 20),
        [0.1, 2.5, 3],
    ):
        with pytest.raises(InputError, match=r"y: .* distinct values in .* look like a measured quantity, as in"):
            classes_of(checked_labels(values, "y"))
    with pytest.raises(InputError, match="40 distinct values in 40 samples look like an id or free text, as in n0"):
        classes_of([f"n{number}" for number in range(40)])
    findings = Findings()
    prices = np.repeat(np.arange(150) * 1000, 5)
    assert len(classes_of(prices, findings=findings)) == 150
    assert "may be a measured quantity" in findings.warnings[0]
    assert not warnings_of(np.repeat(np.arange(1000), 3))


def warnings_of(values):
    findings = Findings()
    classes_of(values, findings=findings)
    return findings.warnings


def test_names_that_look_alike():
    assert "'Cat', 'cat'; 'a b', 'ab'" in warnings_of(["Cat", "cat", "a b", "ab", "dog"])[0]
    assert "'cat ' is read as 'cat'" in warnings_of(["cat", "cat ", "dog"])[0]
    assert "'None' is read as a class" in warnings_of(["None", "mild"])[0]
    assert "'1', '1.0' are one class, '1'" in warnings_of(["1", "1.0", "2"])[0]
    findings = Findings()
    classes_of(["01", "1", "x"], findings=findings)
    assert not findings.warnings
    assert "the notation of a number are separate classes: '01', '1'" in findings.assumed[0]
    assert not warnings_of(["cat", "dog"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1, 2], "datetime64[s]"), "holds datetime64"),
        ([date(2020, 1, 1)], "dates or times"),
        ([[1, 2], [3]], "holds list in row 0"),
        (np.array([1j, 2]), "complex"),
        ([1.0, float("inf")], "infinity"),
        (np.eye(3), r"shape \(3, 3\).*one-hot: save y\.argmax\(axis=1\)"),
        (np.ones((3, 2)) * 5, r"shape \(3, 2\), expected one label for each sample, \(samples,\)\.$"),
    ],
)
def test_values_that_are_not_labels(values, message):
    with pytest.raises(InputError, match=message):
        checked_labels(values, "f", "y")


def test_a_test_label_that_does_not_occur_in_training():
    with pytest.raises(
        InputError, match=r"the test: label '2' of row 1 does not occur in the training labels \(0, 1\)"
    ):
        encode_labels([0, 1], [1, 2], "the test")


def test_blocks_of_labels_count_their_rows_together():
    collector = LabelCollector("t.csv, column y")
    assert collector.add(["a", None]).tolist() == [False, True]
    assert collector.add(["b", "a"]).tolist() == [False, False]
    labels = collector.finish()
    assert labels.codes.tolist() == [0, -1, 1, 0]
    with pytest.raises(InputError, match="row 4"):
        collector.add([date(2020, 1, 1)])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=15))
def test_whole_numbers_of_any_size_are_sorted_as_numbers(values):
    classes, y, _ = encode_labels(values, values, "")
    assert [int(name) for name in classes] == sorted(set(values))
    assert [int(classes[place]) for place in y] == values


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=15))
def test_a_text_is_the_class_of_its_name(values):
    labels = checked_labels(values, "f", missing="drop")
    kept = [value for value, present in zip(values, labels.present, strict=True) if present]
    if not kept:
        return
    classes, y, test_y = encode_labels(labels.select(labels.present), kept, "")
    assert len(set(classes)) == len(classes)
    np.testing.assert_array_equal(y, test_y)
    for first, one in enumerate(kept):
        for second, other in enumerate(kept):
            if one == other:
                assert y[first] == y[second]

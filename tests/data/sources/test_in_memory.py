"""Arrays, series and data frames in memory become the source that their file would be; bad ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import open_source
from rcdp_hpc.data.sources.in_memory import LabelledArrays
from rcdp_hpc.errors import InputError

X = np.arange(24.0).reshape(8, 3)
Y = [0, 1] * 4


def source(x=X, y=Y, test=None, others=None, **settings):
    test = None if test is None else dict(zip("xy", test, strict=True))
    arrays = LabelledArrays({"x": x, "y": y, **(others or {})}, test)
    return open_source(DataSection(source="arrays", **settings), arrays=arrays)


class Frame(dict):
    """Columns by name, as in a data frame."""

    @property
    def columns(self):
        return list(self)


def frame(**columns):
    return Frame({"a": X[:, 0], "b": X[:, 1], **columns})


def test_arrays_are_read_as_their_file(tmp_path):
    lengths = np.array([3, 5, 4, 5])
    x = np.random.default_rng(1).normal(size=(4, 5, 2))
    for row, length in enumerate(lengths):
        x[row, length:] = 0
    y = np.array(["b", "a", "b", "a"])
    np.savez(tmp_path / "x.npz", x=x, y=y, lengths=lengths)
    file = open_source(DataSection(source="npz", path=str(tmp_path / "x.npz")))
    series = [one[:length] for one, length in zip(x, lengths, strict=True)]
    ragged = np.empty(4, object)
    ragged[:] = series
    given = [
        source(x, y, others={"lengths": lengths}),
        source(series, list(y)),
        source(tuple(map(list, series)), y),
        source(ragged, y.astype(object)),
    ]
    for one in given:
        assert one.fingerprint() == file.fingerprint()
        assert (one.kind, one.classes, one.name) == ("series", ["a", "b"], "arrays")


def test_the_kind_follows_from_the_shape_and_type():
    assert source().kind == "table"
    assert source(np.zeros((8, 5, 2))).kind == "series"
    assert source(np.zeros((8, 5, 5), np.uint8)).kind == "images"
    assert source(X, kind="series").sample_shape == (3, 1)
    assert source([[1, 2, 3], [1, 2], [1, 2, 3], [4, 5]], [0, 1, 0, 1]).sample_shape == (3, 1)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([True, False] * 4), ["False", "True"]),
        ([1, "a"] * 4, ["1", "a"]),
        ([True, 2] * 4, ["2", "True"]),
        (np.array([10.0, 9.0] * 4), ["9", "10"]),
        (np.eye(2)[Y], ["0", "1"]),
        (np.array(Y)[:, None], ["0", "1"]),
        (np.array(["x", "y"] * 4, object), ["x", "y"]),
    ],
)
def test_forms_of_labels(labels, classes):
    assert source(y=labels).classes == classes


def test_objects_that_are_numbers_are_numbers():
    x = X.astype(object)
    assert source(x).fingerprint() == source().fingerprint()
    x[2, 1] = None
    with pytest.raises(InputError, match="1 missing value"):
        source(x)
    assert len(source(x, missing="drop").train) == 7


def test_masked_values_are_missing_values():
    masked = np.ma.masked_array(X, mask=X == 7)
    with pytest.raises(InputError, match="1 missing value"):
        source(masked)
    assert source(np.ma.masked_array(X)).fingerprint() == source().fingerprint()
    labels = np.ma.masked_array(Y, mask=[True] + [False] * 7)
    assert len(source(y=labels, missing="drop").train) == 7
    integers = np.ma.masked_array(X.astype(int), mask=X == 7)
    assert source(integers, missing="drop").dtype == np.float64


def test_test_samples_get_a_common_number_format():
    given = source(X.astype(np.float32), test=(X[:2].astype(int), Y[:2]))
    assert given.dtype == given.test.x.dtype == np.float64
    assert len(given.test) == 2
    with pytest.raises(InputError, match=r"x_test holds uint8 and x holds float64"):
        source(test=(X[:2].astype(np.uint8), Y[:2]))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, None, "arrays: y is None; expected one label for each sample"),
        (None, Y, "x holds objects: a NoneType|x has shape"),
        (X, Y[:3], "x has 8 samples, y has 3 labels"),
        (X[:, 0], Y, r"x has shape \(8,\); expected \(samples, ...\)"),
        (X[:0], [], r"x has shape \(0, 3\)"),
        ([], [], r"x has shape \(0,\)"),
        (X[:, :0], Y, r"x has shape \(8, 0\)"),
        (5.0, Y, r"x has shape \(\)"),
        (X * 1j, Y, "holds complex128, expected numbers"),
        (X.astype(str), Y, "expected numbers"),
        (X.astype("datetime64[s]"), Y, "expected numbers"),
        (np.where(X == 4, "?", X.astype(object)), Y, r"holds objects: a str at \[1, 1\]"),
        ([[[1, 2], [3]]] * 8, Y, "sample 0: not an array"),
        ([np.zeros((2, 3)), np.zeros((3, 2))] * 4, Y, r"sample 1 has shape \(3, 2\), sample 0 has \(2, 3\)"),
        ([np.zeros((2, 3)), np.zeros((0, 3))] * 4, Y, r"sample 1 has shape \(0, 3\)"),
        ([np.zeros((2, 1)), np.array([["a"], ["b"], ["c"]])] * 4, Y, "sample 1 holds <U1, expected numbers"),
        ("iris.csv", Y, "'iris.csv' is text; expected an array. For a file, set data.source"),
        ({"a": X[:, 0]}, Y, "a dict; expected an array or a list"),
        (iter(X), Y, "expected an array or a list"),
        (sparse.csr_matrix(X), Y, r"a sparse matrix; expected a dense array: x.toarray\(\)"),
        (np.where(X == 4, np.nan, X), Y, "1 missing value"),
        (np.where(X == 4, np.inf, X), Y, "infinity"),
        (X, [0] * 8, "two classes or more are needed, only class '0'"),
        (X, [0, None] * 4, "4 labels are missing"),
        (X, [0.0, np.nan] * 4, "4 labels are missing"),
        (X, [[0], [1, 2]] * 4, "not an array"),
        (X, "abababab", "'abababab' is text"),
        (X, np.array(["2020-01-01"] * 8, "datetime64[D]"), "expected whole numbers or texts as labels"),
        (X, np.ones((8, 2)), "expected one label for each sample"),
        (frame(), Y[:3], "x has 8 samples, y has 3 labels"),
        (frame(), None, "arrays: y is None"),
        (frame(c=np.array(list("abcdabcd"))), Y, r"'c' \(4 distinct texts"),
        (frame(c=np.array([1, "a"] * 4, object)), Y, "column 'c' holds values of several types"),
    ],
)
def test_bad_arrays_are_refused(x, y, message):
    with pytest.raises(InputError, match=message) as error:
        source(x, y)
    assert str(error.value).startswith(("arrays", "data source arrays"))


def test_without_arrays_the_source_says_where_they_come_from():
    with pytest.raises(InputError, match=r"rcdp_hpc.run\(config, out, data=\(x, y\)\)"):
        open_source(DataSection(source="arrays"))


def test_a_frame_is_read_as_a_table():
    given = source(frame(y=X[:, 2]), np.array(["u", "v"] * 4))
    assert given.columns.features == ["a", "b", "y"]
    np.testing.assert_array_equal(given.samples(np.arange(8)), X.astype(np.float32))
    assert (given.kind, given.classes) == ("table", ["u", "v"])
    with pytest.raises(InputError, match="the samples are a ndarray, and those of data a data frame"):
        source(frame(), test=(X, Y))
    with pytest.raises(InputError, match="the test samples are a data frame"):
        source(test=(frame(), Y))
    with pytest.raises(InputError, match=r"ids with a data frame: name the column instead"):
        source(frame(), others={"ids": list("abcdefgh")})


def test_columns_of_a_categorical_type_are_categories():
    pa = pytest.importorskip("pyarrow")
    texts = pa.array(["red", "green", None, "red"] * 2).dictionary_encode()
    table = pa.table({"a": X[:, 0], "colour": texts})
    with pytest.raises(InputError, match="2 missing values"):
        source(table)
    given = source(table, missing="drop", test=(table.slice(0, 2), Y[:2]))
    assert given.columns.categories == {"colour": ["red", "green"]}
    assert given.categories == (1,)
    assert any("columns of categories, by their type: colour" in one for one in given.findings.assumed)
    unknown = pa.table({"a": [1.0, 2.0], "colour": pa.array(["blue", "red"]).dictionary_encode()})
    with pytest.raises(InputError, match=r"arrays of the test: row 0.*category 'blue' does not occur"):
        source(table, missing="drop", test=(unknown, Y[:2]))


def test_rows_of_a_group_are_one_series():
    pytest.importorskip("pyarrow")
    given = source(frame(run=np.repeat(list("pqrs"), 2)), np.repeat([0, 1, 0, 1], 2), sequence_column="run")
    assert (given.kind or "series", given.sample_shape, given.train.ids) == ("series", (2, 2), list("pqrs"))

import numpy as np
import pytest
from data.sources.conftest import everything, opened

from rcdp_hpc.data.sources import Columns
from rcdp_hpc.errors import InputError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

CSV = "a,b,label\n1,2.5,no\n3,4,yes\n-1e2,0,no\n"


def write(path, text):
    path.write_text(text)
    return path


def test_csv(tmp_path):
    source = opened("csv", write(tmp_path / "t.csv", CSV))
    assert source.classes == ["no", "yes"]
    assert source.train.y.tolist() == [0, 1, 0]
    assert everything(source.train).tolist() == [[1, 2.5], [3, 4], [-100, 0]]
    assert source.train.x.dtype == np.float64
    assert source.test is None
    assert "3 samples of 2 features" in source.description


def test_parquet(tmp_path):
    table = pa.table({"kind": [10, 2, 10, 2], "u": [1, 2, 3, 4], "v": [0.5, 1.5, 2.5, 3.5], "note": list("abcd")})
    parquet.write_table(table, tmp_path / "t.parquet")
    source = opened("parquet", tmp_path / "t.parquet", label_column="kind", drop_columns=["note"])
    assert source.classes == ["2", "10"]
    assert source.train.y.tolist() == [1, 0, 1, 0]
    assert everything(source.train).tolist() == [[1, 0.5], [2, 1.5], [3, 2.5], [4, 3.5]]


def test_labels_of_whole_numbers_are_sorted_as_such(tmp_path):
    assert opened("csv", write(tmp_path / "t.csv", "x,label\n1,10\n2,9\n3,-1\n")).classes == ["-1", "9", "10"]


def test_a_test_table(tmp_path):
    write(tmp_path / "t.csv", CSV)
    test = write(tmp_path / "test.csv", "a,b,label\n7,8,yes\n")
    source = opened("csv", tmp_path / "t.csv", test_path=str(test))
    assert source.test.y.tolist() == [1]
    assert everything(source.test).tolist() == [[7, 8]]


def test_categories_become_numbers(tmp_path):
    text = "colour,size,label\nred,1,a\nblue,2,b\nred,3,a\n"
    source = opened("csv", write(tmp_path / "t.csv", text), category_columns=["colour"])
    assert source.categories == (0,)
    assert everything(source.train).tolist() == [[0, 1], [1, 2], [0, 3]]
    assert source.columns == Columns(["colour", "size"], {"colour": ["red", "blue"]}, {"colour": "red"})
    test = write(tmp_path / "test.csv", "colour,size,label\nblue,2,b\ngreen,1,a\n")
    message = r"test\.csv: row 1 \(from 0\), column colour: category 'green' does not occur .*, which have red, blue"
    with pytest.raises(InputError, match=message):
        opened("csv", tmp_path / "t.csv", category_columns=["colour"], test_path=str(test))


def test_a_category_column_that_is_not_a_feature(tmp_path):
    path = write(tmp_path / "t.csv", CSV)
    with pytest.raises(InputError, match=r"category_columns names a, which other settings of \[data\] exclude"):
        opened("csv", path, category_columns=["a"], drop_columns=["a"])


def test_dropped_columns_are_not_read(tmp_path):
    text = "a,note,label\n1,,no\n3,x,yes\n"
    source = opened("csv", write(tmp_path / "t.csv", text), drop_columns=["note"])
    assert source.columns.features == ["a"]
    table = pa.table({"a": [1, 3], "note": [None, "x"], "label": ["no", "yes"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert opened("parquet", tmp_path / "t.parquet", drop_columns=["note"]).columns == source.columns


def test_groups_are_sequences_in_order_of_time(tmp_path):
    text = "who,when,f,g,label\np,2,3,30,a\nq,1,9,90,b\np,1,2,20,a\np,0,1,10,a\nq,0,8,80,b\nr,0,7,70,a\n"
    options = {"sequence_column": "who", "time_column": "when"}
    source = opened("csv", write(tmp_path / "t.csv", text), **options)
    assert source.sample_shape == (3, 2)
    assert source.train.lengths.tolist() == [3, 2, 1]
    assert source.train.y.tolist() == [0, 1, 0]
    x = everything(source.train)
    assert x[0].tolist() == [[1, 10], [2, 20], [3, 30]]
    assert x[1].tolist() == [[8, 80], [9, 90], [0, 0]]
    np.testing.assert_array_equal(source.train.x[np.array([2, 0])], x[[2, 0]])
    mixed = write(tmp_path / "mixed.csv", text + "r,1,7,70,b\n")
    with pytest.raises(InputError, match="sequence r has rows of class a and of class b"):
        opened("csv", mixed, **options)
    with pytest.raises(InputError, match=r"time_column needs data\.sequence_column"):
        opened("csv", tmp_path / "t.csv", time_column="when")


def test_a_table_beyond_the_budget_is_spooled(tmp_path):
    x = np.random.default_rng(0).normal(size=(9000, 20)).astype(np.float32)
    table = pa.table({**{f"c{i}": x[:, i] for i in range(20)}, "label": np.arange(9000) % 2})
    parquet.write_table(table, tmp_path / "t.parquet")
    source = opened("parquet", tmp_path / "t.parquet", memory_budget=1)
    assert not isinstance(source.train.x, np.ndarray)
    rows = np.array([8999, 0, 17])
    np.testing.assert_array_equal(source.train.x[rows], x[rows])
    assert source.fingerprint() == opened("parquet", tmp_path / "t.parquet").fingerprint()


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b,label\n1,2,x\n3,y\n", {}, r"t\.csv: row 1 \(from 0\) has 2 values, 3 expected"),
        ("a,b,label\n1,2,x\n3,4,5,y\n", {}, r"row 1 \(from 0\) has 4 values, 3 expected"),
        (CSV, {"label_column": "class"}, "no column 'class'; it has a, b, label"),
        ("a,b,label\n1,two,x\n", {}, r"column holds texts.*'b' \(.*'two' in row 0.*category_columns=\[\"b\"\]"),
        ("a,b,label\n1,,x\n2,3,y\n", {}, r"1 missing value .* in row 0 \(from 0\), column 'b'.*data\.missing=median"),
        ("a,b,label\n1,nan,x\n2,3,y\n", {}, "1 missing value"),
        ("a,b,label\n1,1e60,x\n2,3,y\n", {}, "too large"),
        ("a,b,label\n1,2,\n2,3,y\n", {}, "1 label is missing"),
        ("a,b,label\n", {}, "holds no row"),
        ("", {}, "empty"),
        ("label\nx\ny\n", {}, "no column of features"),
        ("a,a,label\n1,2,x\n", {}, "same name"),
        (CSV, {"category_columns": ["colour"]}, "no column 'colour'"),
    ],
)
def test_bad_tables(tmp_path, text, options, message):
    with pytest.raises(InputError, match=message):
        opened("csv", write(tmp_path / "t.csv", text), **options)


def test_a_label_that_occurs_only_in_the_test_table(tmp_path):
    write(tmp_path / "t.csv", CSV)
    test = write(tmp_path / "test.csv", "a,b,label\n7,8,maybe\n")
    with pytest.raises(InputError, match="label 'maybe' of row 0 does not occur in the training labels"):
        opened("csv", tmp_path / "t.csv", test_path=str(test))
    other = write(tmp_path / "other.csv", "a,c,label\n7,8,yes\n")
    with pytest.raises(InputError, match="no column 'b'"):
        opened("csv", tmp_path / "t.csv", test_path=str(other))


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        opened("csv", tmp_path / "gone.csv")
    with pytest.raises(InputError, match="cannot be read"):
        opened("parquet", write(tmp_path / "t.parquet", "no parquet at all"))

"""ARFF files: series of the archives, tables of Weka, and damaged files."""

from __future__ import annotations

import numpy as np
import pytest
from data.sources.conftest import opened
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.proposal import propose
from rcdp_hpc.data.sources import read_samples
from rcdp_hpc.data.sources.arff_file import split_row
from rcdp_hpc.errors import InputError

SERIES = "% of an archive\n@RELATION toy\n\n@ATTRIBUTE att0 REAL\n@attribute att1 numeric\n@attribute att2 numeric\n"
CLASS = "@attribute 'the target' {1, 'b c'}\n@DATA\n"
DIMENSIONS = (
    "@relation 'two dimensions'\n@attribute relationalAtt relational\n"
    "  @attribute t1 numeric\n  @attribute t2 numeric\n"
    "@end relationalAtt\n@attribute classAttribute {up,down}\n@data\n"
)
TABLE = (
    "@relation weather\n@attribute outlook {sunny, 'over cast'}\n@attribute temperature integer\n"
    "@attribute class {yes,no}\n@data\n"
)


def write(folder, text, name="t_TRAIN.arff"):
    (folder / name).write_text(text)
    return folder / name


def test_series_of_one_dimension(tmp_path):
    write(tmp_path, SERIES + CLASS + "% a comment\n1,2,3,1\n4, 5, ?, 'b c'\n")
    write(tmp_path, SERIES + CLASS + "7\t8\t9\t1\n", "t_TEST.arff")
    source = opened("arff", tmp_path)
    assert source.kind == "series"
    assert source.classes == ["1", "b c"]
    assert source.train.x[:][:, :, 0].tolist() == [[1, 2, 3], [4, 5, 0]]
    assert source.train.lengths.tolist() == [3, 2]
    assert source.train.y.tolist() == [0, 1]
    assert source.test.x[:][:, :, 0].tolist() == [[7, 8, 9]]
    assert any("steps of a series" in line for line in source.findings.assumed)


def test_series_of_several_dimensions(tmp_path):
    rows = "'1,2\\n3,4',up\n\"5,6\\n7,8\",down\n"
    source = opened("arff", write(tmp_path, DIMENSIONS + rows))
    assert source.train.x[:].tolist() == [[[1, 3], [2, 4]], [[5, 7], [6, 8]]]
    assert source.classes == ["down", "up"]
    new = read_samples(tmp_path / "t_TRAIN.arff", DataSection(source="arff"), 2, sample_shape=(2, 2))
    assert new.x[:].tolist() == source.train.x[:].tolist()


def test_missing_values_follow_data_missing(tmp_path):
    path = write(tmp_path, SERIES + CLASS + "1,?,3,1\n4,5,6,'b c'\n4,5,6,1\n4,5,6,?\n")
    with pytest.raises(InputError, match=r"1 missing values in 1 of 4 series, first in .*line 9"):
        opened("arff", path)
    assert len(opened("arff", path, missing="drop").train) == 2
    with pytest.raises(InputError, match="label"):
        opened("arff", write(tmp_path, SERIES + CLASS + "1,2,3,1\n4,5,6,?\n"), missing="mean")


def test_a_table_with_categories(tmp_path):
    path = write(tmp_path, TABLE + "sunny,20,yes\n'over cast',?,no\nsunny,25,no\n")
    source = opened("arff", path, missing="mean")
    assert source.kind == "table"
    assert source.classes == ["no", "yes"]
    assert source.columns.features == ["outlook", "temperature"]
    assert source.columns.categories == {"outlook": ["sunny", "over cast"]}
    assert source.train.x[:, 0].tolist() == [0, 1, 0]
    assert np.isnan(source.train.x[1, 1])
    lines = (
        "@relation new\n@attribute temperature integer\n@attribute outlook {sunny,'over cast'}\n@data\n7,'over cast'\n"
    )
    new = read_samples(write(tmp_path, lines, "new.arff"), DataSection(source="arff"), 0, source.columns, (2,))
    assert new.x[:].tolist() == [[1, 7]]
    assert not new.findings.left_out
    again = read_samples(path, DataSection(source="arff", missing="drop"), 0, source.columns, (2,))
    assert again.x[:].tolist() == [[0, 20], [0, 25]]
    assert not any("columns" in what for what in again.findings.left_out)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_texts_in_every_encoding(encoding, end, tmp_path):
    text = TABLE.replace("sunny", "sünny") + "sünny,20,yes\n'over cast',21,no\n"
    (tmp_path / "t.arff").write_bytes(text.replace("\n", end).encode(encoding))
    assert opened("arff", tmp_path / "t.arff").columns.categories == {"outlook": ["sünny", "over cast"]}


def test_the_kind_of_data_can_be_set(tmp_path):
    text = SERIES + CLASS + "1,2,3,1\n4,5,6,'b c'\n"
    assert opened("arff", write(tmp_path, text), kind="table").columns.features == ["att0", "att1", "att2"]
    named = text.replace("att0", "a").replace("att1", "b").replace("att2", "c")
    assert opened("arff", write(tmp_path, named)).kind == "table"
    assert opened("arff", write(tmp_path, named), kind="series").sample_shape == (3, 1)


def test_the_attribute_of_the_labels_can_be_named(tmp_path):
    text = "@relation r\n@attribute y {a,b}\n@attribute v numeric\n@attribute w {c,d}\n@data\na,1,c\nb,2,d\n"
    assert opened("arff", write(tmp_path, text)).classes == ["c", "d"]
    assert opened("arff", write(tmp_path, text), label_column="y").classes == ["a", "b"]
    with pytest.raises(InputError, match=r"no attribute 'z' \(data\.label_column\); it has .*y"):
        opened("arff", write(tmp_path, text), label_column="z")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SERIES + CLASS + "1,2,1\n", r"line 9: 3 values, 4 expected, one for each attribute"),
        (SERIES + CLASS + "1,x,3,1\n", r"line 9, attribute 'att1': 'x' is not a number"),
        (SERIES + CLASS + "1,,3,1\n", r"line 9, attribute 'att1': an empty value; a missing one is '\?'"),
        (SERIES + CLASS + "1,2,3,7\n", r"line 9: '7' is not among the values of attribute 'the target' \(1, b c\)"),
        (SERIES + CLASS + "1,2,3,'b\n", r"line 9: a quotation mark is not closed"),
        (SERIES + CLASS + "{0 1, 3 1}\n", r"line 9: a sparse row"),
        (SERIES + CLASS, r"holds no series"),
        (SERIES, r"no line '@data'; the file may be cut short"),
        ("@relation r\n@data\n1\n", r"line 2: '@data' before any '@attribute'"),
        ("@relation r\n1,2,3\n", r"line 2: '@relation', '@attribute', '@end' or '@data' expected, found '1,2,3'"),
        (SERIES + "@attribute att1 real\n" + CLASS, r"line 7: a second attribute 'att1'"),
        (SERIES + "@attribute odd complex\n" + CLASS, r"line 7: '@attribute NAME TYPE' expected.* found 'odd complex'"),
        (SERIES + "@data\n1,2,3\n", r"no nominal attribute that could be the class"),
        (DIMENSIONS + "'1,2\\n3',up\n", r"line 8: its dimensions have 1 to 2 values, 2 expected"),
        (DIMENSIONS + "'1,2\\n3,z',up\n", r"line 8, attribute 'step 1, dimension 1': 'z' is not a number"),
        (DIMENSIONS + "'1,2\\n3,4',up\n'1,2',down\n", r"line 9: 1 dimensions, 2 in the first series"),
        (DIMENSIONS.replace("@end relationalAtt\n", ""), r"line 6: a relational attribute without its '@end'"),
    ],
)
def test_damaged_files_are_named_with_their_line(text, message, tmp_path):
    with pytest.raises(InputError, match=message) as refused:
        opened("arff", write(tmp_path, text))
    assert str(tmp_path / "t_TRAIN.arff") in str(refused.value)


def test_init_distinguishes_tables_and_series(tmp_path):
    series = write(tmp_path, SERIES + CLASS + "1,2,3,1\n4,5,6,'b c'\n" * 8)
    write(tmp_path, SERIES + CLASS + "1,2,3,1\n4,5,6,'b c'\n", "t_TEST.arff")
    found = propose(series)
    assert (found.settings["source"], found.kind) == ("arff", "series")
    assert found.settings["test_path"] == str(tmp_path / "t_TEST.arff")
    assert propose(tmp_path).settings["source"] == "arff"
    found = propose(write(tmp_path, TABLE + "sunny,20,yes\n'over cast',?,no\nsunny,25,no\n" * 5, "weather.arff"))
    assert found.kind == "table"
    assert found.settings["label_column"] == "class"
    assert found.settings["category_columns"] == ["outlook"]
    assert found.settings["missing"] == "median"


def test_init_recognises_tsv_files_of_the_archive(tmp_path):
    write(tmp_path, "1\t0.5\t1.5\n2\t2.5\tNaN\n" * 8, "Toy_TRAIN.tsv")
    write(tmp_path, "1\t0.5\t1.5\n", "Toy_TEST.tsv")
    for path in (tmp_path, tmp_path / "Toy_TRAIN.tsv"):
        found = propose(path)
        assert (found.settings["source"], found.kind, found.sample_shape) == ("ts", "series", (2, 1))
    assert propose(write(tmp_path, "a\tlabel\n1.5\tx\n2.5\ty\n" * 3, "my_train.tsv")).settings["source"] == "csv"


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t\\'\",%? "), max_size=8)


def quoted(text, mark):
    for plain, escaped in (("\\", "\\\\"), (mark, f"\\{mark}"), ("\n", "\\n"), ("\t", "\\t")):
        text = text.replace(plain, escaped)
    return f"{mark}{text}{mark}"


@given(st.lists(st.tuples(TEXTS, st.sampled_from("'\"")), min_size=1, max_size=6), st.sampled_from([",", " , ", ",\t"]))
@hypothesis_settings(deadline=None, max_examples=200)
def test_quoted_values_round_trip(values, comma):
    line = comma.join(quoted(text, mark) for text, mark in values)
    assert split_row(line, "here") == [(text, True) for text, _ in values]


@given(st.text(max_size=60))
@hypothesis_settings(deadline=None, max_examples=200)
def test_any_row_is_read_or_refused(line):
    try:
        values = split_row(line, "here")
    except InputError:
        assert "'" in line or '"' in line
        return
    assert len(values) <= 1 + max(line.count(","), len(line.split()))


@given(
    st.lists(
        st.tuples(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.sampled_from("ab")), min_size=2, max_size=6
    ),
    st.sampled_from(["arff", "tsv"]),
)
@hypothesis_settings(deadline=None, max_examples=40)
def test_series_of_any_length_round_trip(tmp_path_factory, rows, form):
    folder = tmp_path_factory.mktemp("series")
    rows = [*rows, ([0.0], "a"), ([0.0], "b")]
    longest = max(len(values) for values, _ in rows)
    if form == "arff":
        header = "@relation r\n" + "".join(f"@attribute att{step} numeric\n" for step in range(longest))
        lines = [",".join([*map(repr, values), *["?"] * (longest - len(values)), label]) for values, label in rows]
        write(folder, header + "@attribute target {a,b}\n@data\n" + "\n".join(lines) + "\n", "r_TRAIN.arff")
    else:
        lines = ["\t".join([label, *map(repr, values), *["NaN"] * (longest - len(values))]) for values, label in rows]
        write(folder, "\n".join(lines) + "\n", "r_TRAIN.tsv")
    source = opened("arff" if form == "arff" else "ts", folder, **({"kind": "series"} if form == "arff" else {}))
    lengths = [longest] * len(rows) if source.train.lengths is None else source.train.lengths.tolist()
    assert lengths == [len(values) for values, _ in rows]
    for found, length, label, (values, wanted) in zip(source.train.x[:], lengths, source.train.y, rows, strict=True):
        assert found[:length, 0].tolist() == values
        assert source.classes[label] == wanted

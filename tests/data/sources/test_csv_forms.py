"""Dialects of csv files."""

import bz2
import gzip

import numpy as np
import pytest
from data.sources.conftest import everything, opened

from rcdp_hpc.errors import InputError

pa = pytest.importorskip("pyarrow")

VALUES = [[round(row * 0.37 - 3, 2), round(row % 7 * 1.11, 2)] for row in range(20)]
PLAIN = "a,b,label\n" + "".join(f"{a},{b},{'xy'[row % 2]}\n" for row, (a, b) in enumerate(VALUES))


def write(path, content, encoding="utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def semicolons(text):
    return text.replace(",", ";").replace(".", ",")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gzip.csv.gz", gzip.compress(PLAIN.encode(), mtime=0)),
        ("bzip2.csv.bz2", bz2.compress(PLAIN.encode())),
        ("zstd.csv.zst", pa.Codec("zstd").compress(PLAIN.encode(), asbytes=True)),
        ("mark.csv", PLAIN.encode("utf-8-sig")),
        ("utf16.csv", PLAIN.encode("utf-16")),
        ("windows.csv", PLAIN.replace("\n", "\r\n")),
        ("tabs.tsv", PLAIN.replace(",", "\t")),
        ("bars.txt", PLAIN.replace(",", "|")),
        ("blanks.csv", PLAIN.replace(",", " ")),
        ("commas.csv", semicolons(PLAIN)),
        ("CAPITALS.CSV", PLAIN),
        ("trailing.csv", PLAIN.replace("\n", ",\n")),
        ("trailing-in-rows.csv", PLAIN.replace("\n", ",\n").replace("label,", "label", 1)),
        ("blank-lines.csv", "\n\n" + PLAIN.replace("\n", "\n\n") + ",,\n , ,\n"),
        ("header.csv", PLAIN.replace("a,b,label", " a , b , label ")),
        ("padded.csv", PLAIN.replace(",", " , ")),
        ("plus.csv", PLAIN.replace(",0", ",+0")),
    ],
)
def test_the_same_table_in_many_dialects(tmp_path, name, content):
    source = opened("csv", write(tmp_path / name, content))
    assert source.columns.features == ["a", "b"]
    assert source.classes == ["x", "y"]
    np.testing.assert_array_equal(everything(source.train), VALUES)


def test_encodings(tmp_path):
    text = PLAIN.replace("x", "é")
    source = opened("csv", write(tmp_path / "t.csv", text, "cp1252"))
    assert source.classes == ["y", "é"]
    assert any("Windows-1252" in warning for warning in source.findings.warnings)
    japanese = write(tmp_path / "j.csv", PLAIN.replace("x", "猫"), "shift_jis")
    assert opened("csv", japanese, encoding="shift_jis").classes == ["y", "猫"]
    with pytest.raises(InputError, match=r"data\.encoding = 'martian'"):
        opened("csv", japanese, encoding="martian")


def test_separators_that_are_set(tmp_path):
    path = write(tmp_path / "t.csv", PLAIN.replace(",", ":"))
    np.testing.assert_array_equal(everything(opened("csv", path, delimiter=":").train), VALUES)


@pytest.mark.parametrize(
    ("values", "separator", "first"),
    [
        (["1,000.5", "2,000.5"], ";", 1000.5),
        (["1.000,5", "2.000,5"], ";", 1000.5),
        (["1'000.5", "2'000.5"], ",", 1000.5),
        (["1 234 567", "2 234 567"], ";", 1234567),
        (["True", "False"], ",", 1),
        (["true", "FALSE"], ",", 1),
        (["1e3", "2E-3"], ",", 1000),
        (["\u22122.5", "1.5"], ",", -2.5),
    ],
)
def test_values_that_are_numbers(tmp_path, values, separator, first):
    lines = [separator.join(["v", "label"]), *(separator.join([values[row % 2], "xy"[row % 2]]) for row in range(20))]
    source = opened("csv", write(tmp_path / "t.csv", "\n".join(lines)))
    assert source.train.x[0, 0] == first
    assert source.columns.features == ["v"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PLAIN.replace("a,b", "a,a"), "several columns have the same name: 'a'"),
        (PLAIN.split("\n", 1)[1], "first line looks like data, .*put a line of names before it, as in a,b,label"),
        (PLAIN + "1,2\n", r"row 20 \(from 0\) has 2 values, 3 expected"),
        (PLAIN + '1,"2,x\n3,4,y\n', r"line 22: a quotation mark is not closed"),
        ("My export\n" + PLAIN, "first line, 'My export', does not name the columns"),
        ("# made by me, today\n" + PLAIN, "first line, '# made by me', does not name the columns"),
        ("sep=,\n" + PLAIN, "does not name the columns"),
        (b"PK\3\4aaaa", "an Excel workbook or a zip archive"),
        (gzip.compress(PLAIN.encode(), mtime=0)[:90], "cannot be read"),
        ("v;label\n" + "1,234;x\n5,678;y\n" * 9, r"'1,234' is either 1234 or 1\.234: set data\.decimal"),
    ],
)
def test_what_is_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        opened("csv", write(tmp_path / "t.csv", content))


def test_a_folder_of_parts_is_one_table(tmp_path):
    (tmp_path / "parts").mkdir()
    head, *rows = PLAIN.splitlines()
    for number in range(2):
        write(tmp_path / "parts" / f"part-{number}.csv", "\n".join([head, *rows[10 * number : 10 * number + 10]]))
    write(tmp_path / "parts" / "_SUCCESS", "")
    source = opened("csv", tmp_path / "parts")
    np.testing.assert_array_equal(everything(source.train), VALUES)
    assert source.findings.left_out["files that are not csv tables"] == 1
    write(tmp_path / "parts" / "part-1.csv", "\n".join([head, *rows[10:], "1,,x"]))
    with pytest.raises(InputError, match=r"first in part-1\.csv, row 10 \(from 0\), column 'b'"):
        opened("csv", tmp_path / "parts")


def test_rows_beyond_the_block_of_the_reader(tmp_path):
    names = [f"g{number}" for number in range(3000)]
    wide = "x" * 2000
    lines = [",".join([*names, "note", "label"])]
    lines += [",".join([*(f"{row}.5" for _ in names), wide, "xy"[row % 2]]) for row in range(4)]
    source = opened("csv", write(tmp_path / "t.csv", "\n".join(lines)), drop_columns=["note"])
    assert source.sample_shape == (3000,)
    assert source.train.x[3, 2999] == 3.5

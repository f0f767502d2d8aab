"""Hostile text in every reader of text gives one message or the right values, no traceback and no endless loop."""

from __future__ import annotations

import os
import random
import socket

import numpy as np
import pytest

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.proposal import propose
from rcdp_hpc.data.sources import open_source, read_samples
from rcdp_hpc.errors import InputError

ROWS = "".join(f"{row * 1.5},{row % 7},{'ab'[row % 2]}\n" for row in range(30))
TABLE = "u,v,label\n" + ROWS
TS = "@problemName x\n@timeStamps false\n@classLabel true a b\n@data\n1,2,3:a\n2,3,4:b\n"
ARFF = "@relation x\n@attribute u numeric\n@attribute class {a,b}\n@data\n1,a\n2,b\n"
CELLS = [
    "1e999", "0x10", "1_000", "١٢", "１２", "=A1", "nan", "inf", "", "?", '"1', "\x00", "\x1b[31m", "a\rb", "1\u200b",
    "\ufeff1", "9" * 400, "1 2", "−5", "1,5", "'1'", "\u2028", "\x85", "1;2", "{", "%", "2024-01-01", "true",
]  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """Write a file and return the source's settings."""

    def write(name, content, source="csv", **settings):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return DataSection(source=source, path=str(path), **settings)

    return write


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (TABLE + '1,2,"a\n', "line 32: a quotation mark is not closed"),
        (TABLE.replace("0.0,0,a", '0.0,0,"a'), "line 2: a quotation mark is not closed"),
        (TABLE.replace("1.5,", "=A1,", 1), "a spreadsheet formula: save its value"),
        (TABLE.replace("1.5,", "1_000,", 1), "'1_000' in row 1"),
        (TABLE.replace("1.5,", "١٢,", 1), "texts, numbers expected"),
        (TABLE.replace("1.5,", "0x10,", 1), "'0x10' in row 1"),
        (TABLE.replace("1.5,", "1e999,", 1), "infinity, or a number too large"),
        (TABLE.replace("u,v", "é,e\u0301"), "same name: 'é'"),
        (TABLE + "1,2," + "x" * 200_000 + "\n", "a label of 200000 characters"),
        (TABLE + "1,2,a\0\n", "zero bytes near line"),
        (TABLE.encode() + "1,2,é\n".encode() + "1,2,é\n".encode("latin-1"), "mixed encodings: line 32 is UTF-8"),
        (",".join(f"c{place}" for place in range(200_001)) + "\n1\n", "200001 columns, at most 200000"),
    ],
)
def test_tables_that_are_refused(content, words, write):
    with pytest.raises(InputError, match=words):
        open_source(write("t.csv", content))


def test_labels_with_line_breaks_or_formulas_are_reported(write):
    broken = open_source(write("t.csv", TABLE.replace("0.0,0,a", '0.0,0,"a').replace("6.0,4,a", '6.0,4,"a')))
    assert any("labels have line breaks" in sentence for sentence in broken.findings.warnings)
    source = open_source(write("u.csv", TABLE.replace(",a\n", ",=A1\n")))
    assert source.classes == ["=A1", "b"]
    assert any("spreadsheet formulas are read as texts: =A1" in sentence for sentence in source.findings.warnings)


def test_a_quotation_mark_inside_a_text_is_part_of_it(write):
    assert open_source(write("t.csv", TABLE.replace(",a\n", ',5" disk\n') + '1,2,5" disk\n')).classes == [
        '5" disk',
        "b",
    ]


def test_long_cells_and_byte_order_marks_are_read(write):
    wide = TABLE.replace("u,v", "u,v,text").replace(",a\n", "," + "x" * 200_000 + ",a\n").replace(",b\n", ",y,b\n")
    source = open_source(write("t.csv", "\ufeff\ufeff" + wide, drop_columns=["text"]))
    assert source.columns.features == ["u", "v"]
    assert len(source.train) == 30


@pytest.mark.parametrize(
    "name", ["rot13", "hex", "base64", "idna", "punycode", "undefined", "unicode_escape", "\0", "x" * 99]
)
@pytest.mark.parametrize(
    ("file", "content", "source"), [("t.csv", TABLE, "csv"), ("t_TRAIN.ts", TS, "ts"), ("t.arff", ARFF, "arff")]
)
def test_only_encodings_of_files_are_accepted(name, file, content, source, write):
    with pytest.raises(InputError, match="is not the name of an encoding of text"):
        open_source(write(file, content, source, encoding=name))


@pytest.mark.parametrize("cell", ["1_0", "١", "１", "0x1", "=A1", "1e999"])
@pytest.mark.parametrize(("file", "content", "source"), [("t_TRAIN.ts", TS, "ts"), ("t.arff", ARFF, "arff")])
def test_only_numbers_are_numbers_in_series_too(cell, file, content, source, write):
    with pytest.raises(InputError):
        open_source(write(file, content.replace("\n1,", f"\n{cell},"), source))


def test_lines_end_as_in_an_editor(write):
    source = open_source(write("t_TRAIN.ts", TS.replace("3:a", "3:a\u2028").replace("4:b", "4:b\x0c"), "ts"))
    assert source.train.x.shape == (2, 3, 1)


def test_a_long_value_without_its_quotation_mark_is_scanned_once(write):
    with pytest.raises(InputError, match="line 5: a quotation mark"):
        open_source(write("t.arff", ARFF.replace("1,a", "1," + " " * 300_000 + "x'"), "arff"))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ('file,label\n0.csv,"a\n1.csv,b\n', "cannot be read as csv"),
        ("file,label\n../0.csv,a\n1.csv,b\n", "is not in the folder"),
        ("file,label\n/etc/hostname,a\n1.csv,b\n", "is not in the folder"),
        ("file,label\n" + "x" * 5000 + ",a\n1.csv,b\n", "not in its folder"),
    ],
)
def test_a_table_of_labels_names_files_of_its_folder(labels, words, tmp_path):
    for number in range(2):
        (tmp_path / f"{number}.csv").write_text("u,v\n1,2\n3,4\n")
    (tmp_path / "labels.csv").write_text(labels)
    with pytest.raises(InputError, match=words):
        open_source(DataSection(source="series_folder", path=str(tmp_path)))


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("u;u\n", "several columns have the name 'u'"),
        ("1;=A1\n", "its first line has numbers and texts"),
        ("1,234;2,500\n", "is either 1234 or 1.234"),
    ],
)
def test_ambiguous_files_of_series(first, words, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.csv").write_text(first + "1;2\n3;4\n")
    with pytest.raises(InputError, match=words):
        open_source(DataSection(source="series_folder", path=str(tmp_path)))


def special(kind, path):
    """Create something at a path that is not a regular file."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    else:
        path.symlink_to(kind)


@pytest.mark.parametrize("kind", ["fifo", "socket", "/dev/zero", "/proc/self/environ"])
@pytest.mark.parametrize(
    "source", ["csv", "parquet", "npz", "hdf5", "ts", "arff", "npy", "mnist", "cifar10", "image_folder"]
)
def test_pipes_and_devices_are_refused_before_they_are_opened(kind, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets must be short
    special(kind, (tmp_path / "s").relative_to(tmp_path))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.csv").symlink_to(tmp_path / "s")
    for path in (tmp_path / "s", folder):
        for read in (
            lambda path=path: open_source(DataSection(source=source, path=str(path))),
            lambda path=path: read_samples(path, DataSection(source=source)),
            lambda path=path: propose(path),
        ):
            with pytest.raises(InputError, match="a regular file is needed"):
                read()


def hostile_file(rng):
    """Return the name, source and content of a file in which some cells are hostile."""
    share = rng.choice([1.0, 0.99, 0.9])

    def cell():
        return f"{rng.gauss(0, 3):.3f}" if rng.random() < share else rng.choice(CELLS)

    kind = rng.choice(["csv", "tsv", "ts", "ucr", "arff"])
    rows = [[cell() for _ in range(3)] for _ in range(rng.choice([0, 1, 20]))]
    if kind in ("csv", "tsv"):
        sign = "," if kind == "csv" else "\t"
        text = "\n".join(sign.join([*row, rng.choice("ab")]) for row in [["u", "v", "w"], *rows]).replace(
            f"w{sign}a", f"w{sign}label", 1
        )
        name, source = f"t.{kind}", "csv"
    elif kind == "ts":
        text = TS.partition("1,2")[0] + "\n".join(",".join(row) + f":{rng.choice('ab')}" for row in rows)
        name, source = "t_TRAIN.ts", "ts"
    elif kind == "ucr":
        text = "\n".join("\t".join([rng.choice("12"), *row]) for row in rows)
        name, source = "t_TRAIN.tsv", "ts"
    else:
        text = (
            "@relation x\n"
            + "".join(f"@attribute {one} numeric\n" for one in "uvw")
            + "@attribute class {a,b}\n@data\n"
        )
        text += "\n".join(",".join([*row, rng.choice("ab")]) for row in rows)
        name, source = "t.arff", "arff"
    content = text.encode(rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"]), "replace")
    if rng.random() < 0.5:
        place = rng.randrange(len(content) + 1)
        content = content[:place] + rng.choice([b"\0", b'"', b"'", b"\r", b"\xff", b"\n\n"]) + content[place:]
    return name, source, content


def opened(settings):
    """Return the source, None if it is refused; any other error fails the test."""
    try:
        return open_source(settings)
    except InputError:
        return None


@pytest.mark.parametrize("seed", range(4))
def test_seeded_hostile_files_give_one_message_or_finite_values(seed, write):
    rng = random.Random(seed)
    found = [opened(write(name, content, source)) for name, source, content in (hostile_file(rng) for _ in range(60))]
    accepted = [source for source in found if source is not None]
    assert 0 < len(accepted) < 60
    for source in accepted:
        assert np.isfinite(np.asarray(source.train.x[: len(source.train)], np.float64)).all()


def test_names_that_are_not_utf8_are_refused_for_tables(tmp_path):
    path = tmp_path / "n\udcff.csv"
    path.write_text(TABLE)
    for read in (
        lambda: open_source(DataSection(source="csv", path="x").model_copy(update={"path": str(path)})),
        lambda: propose(path),
    ):
        with pytest.raises(InputError, match="bytes that are not UTF-8"):
            read()

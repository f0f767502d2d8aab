"""Files of predictions: every line names its sample, in every format."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from rcdp_hpc.config.choices.output_formats import OUTPUT_FORMATS
from rcdp_hpc.deploy.formats.base import Block, Predictions
from rcdp_hpc.deploy.outputs import Output, format_name
from rcdp_hpc.errors import InputError

P = np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]], np.float32)
CLASSES = ["cat", "dog, big"]


def blocks(*tables: np.ndarray) -> list[Block]:
    return [Block(table.argmax(1), table) for table in tables]


def written(suffix, ids=None, id_name="sample") -> io.BytesIO:
    file = io.BytesIO()
    output = Output.open(Path("y"), format_name(Path(f"y{suffix}")))
    output.format.write(file, Predictions(iter(blocks(P[:2], P[2:])), 3, CLASSES, ids, id_name))
    file.seek(0)
    return file


def test_csv_has_a_first_column_of_names():
    table = list(csv.reader(io.TextIOWrapper(written(".csv", ["a/x.png", "b.png", "c"], "file"), "utf-8", newline="")))
    assert table[0] == ["file", "label", "p_cat", "p_dog, big"]
    assert table[1] == ["a/x.png", "dog, big", "0.25", "0.75"]
    assert [row[0] for row in table[1:]] == ["a/x.png", "b.png", "c"]


def test_without_names_samples_have_numbers():
    table = list(csv.reader(io.TextIOWrapper(written(".csv"), "utf-8", newline="")))
    assert [row[0] for row in table] == ["sample", "0", "1", "2"]
    with np.load(written(".npz")) as arrays:
        assert arrays["id"].tolist() == [0, 1, 2]


def test_a_column_of_names_never_hides_another_one():
    table = list(csv.reader(io.TextIOWrapper(written(".csv", ["1", "2", "3"], "label"), "utf-8", newline="")))
    assert table[0][:2] == ["sample_label", "label"]


def test_npz_has_the_names_next_to_the_arrays():
    with np.load(written(".npz", ["ä.png", "b", "c"], "file"), allow_pickle=False) as arrays:
        assert arrays["id"].tolist() == ["ä.png", "b", "c"]
        assert arrays["name"].tolist() == ["dog, big", "cat", "cat"]
        np.testing.assert_array_equal(arrays["probability"], P)
        np.testing.assert_array_equal(arrays["label"], [1, 0, 0])


def test_jsonl_has_one_object_per_line():
    lines = [json.loads(line) for line in written(".jsonl", ["ä", "b", "c\udcff"], "file")]
    assert lines[0] == {"file": "ä", "label": "dog, big", "probability": {"cat": 0.25, "dog, big": 0.75}}
    assert lines[2]["file"] == "c\udcff"


@pytest.mark.parametrize("ids", [None, ["a", "b", "c\udcff"]])
def test_parquet_is_the_same_table(ids):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(written(".parquet", ids, "file" if ids else "sample"))
    assert table.column_names == ["file" if ids else "sample", "label", "p_cat", "p_dog, big"]
    assert table.column(0).to_pylist() == ([0, 1, 2] if ids is None else ["a", "b", "c\\xff"])
    assert table.column("p_cat").to_pylist() == [0.25, 1, 0.5]
    assert table.column("label").to_pylist() == ["dog, big", "cat", "cat"]


def test_csv_has_file_names_that_are_not_utf8_unchanged():
    assert b"\xff.png,dog" in written(".csv", ["\udcff.png", "b", "c"]).getvalue().replace(b'"', b"")


@pytest.mark.parametrize("name", ["y.CSV", "y.csv", "y.Npz", "y.JSONL"])
def test_the_case_of_a_suffix_does_not_matter(name, tmp_path):
    assert format_name(tmp_path / name) == name[2:].lower()


@pytest.mark.parametrize("name", ["y.txt", "y", "csv", "-"])
def test_another_suffix_is_refused_with_the_formats(name, tmp_path):
    with pytest.raises(InputError, match=r"end in \.csv, \.npz, \.parquet or \.jsonl"):
        format_name(tmp_path / name)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "y.csv").mkdir()
    with pytest.raises(InputError, match="a folder; name a file"):
        format_name(tmp_path / "y.csv")


def test_a_named_format_takes_any_file_name_except_that_of_another_format(tmp_path):
    assert format_name(tmp_path / "y.txt", "csv") == format_name(tmp_path / "y.CSV", "csv") == "csv"
    assert format_name(tmp_path / "y.csv", "mine:Format") == "mine:Format"
    with pytest.raises(InputError, match=r"y\.npz: the name ends in \.npz, and --format is csv"):
        format_name(tmp_path / "y.npz", "csv")
    with pytest.raises(InputError, match=r"--format = 'cvs': expected one of csv, npz.*did you mean csv"):
        format_name(tmp_path / "y.csv", "cvs")


def test_names_and_suffixes_of_formats_are_different():
    assert (
        len({choice.suffix for choice in OUTPUT_FORMATS})
        == len({choice.name for choice in OUTPUT_FORMATS})
        == len(OUTPUT_FORMATS.choices)
    )
    assert OUTPUT_FORMATS.names == [choice.suffix.removeprefix(".") for choice in OUTPUT_FORMATS]


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "rcdp_hpc.deploy.formats.parquet", raising=False)
    with pytest.raises(InputError, match=r"--format = 'parquet' needs pyarrow.*pip install 'rcdp_hpc\[sources\]'"):
        Output.open(Path("y"), "parquet")

import os
from pathlib import Path

import numpy as np
import pytest
from data.sources.conftest import everything, opened
from launch import REPOSITORY

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import read_samples
from rcdp_hpc.errors import InputError

REAL = Path(os.environ.get("RCDP_TEST_DATA", REPOSITORY.parent / "shared/data")) / "japanese-vowels"
HEADER = "#a comment\n@problemName Toy\n@timeStamps false\n@univariate false\n@classLabel true 1 2 10\n@data\n"
TRAIN = HEADER + "1,2,3:10,20,30:2\n4,5:40,50:10\n6:60:1\n"


def write(folder, train=TRAIN, test=None):
    (folder / "Toy_TRAIN.ts").write_text(train)
    if test is not None:
        (folder / "Toy_TEST.ts").write_text(test)
    return folder


def test_series_of_unequal_lengths(tmp_path):
    source = opened("ts", write(tmp_path, test=HEADER + "7,7,7,7:8,8,8,8:1\n"))
    assert source.classes == ["1", "2", "10"]
    assert source.train.y.tolist() == [1, 2, 0]
    assert source.sample_shape == (4, 2)
    assert source.train.lengths.tolist() == [3, 2, 1]
    assert source.test.lengths.tolist() == [4]
    x = everything(source.train)
    assert x[0].tolist() == [[1, 10], [2, 20], [3, 30], [0, 0]]
    assert x[2].tolist() == [[6, 60], [0, 0], [0, 0], [0, 0]]
    assert source.lengths(np.array([1, 0])).tolist() == [2, 3]
    assert source.lengths(np.array([3])).tolist() == [4]


def test_series_of_one_length_have_no_lengths(tmp_path):
    (tmp_path / "a.ts").write_text(HEADER + "1,2:3,4:1\n5,6:7,8:2\n")
    source = opened("ts", tmp_path / "a.ts")
    assert source.train.lengths is None
    assert source.test is None


def test_files_named_one_by_one(tmp_path):
    write(tmp_path, test=TRAIN)
    source = opened("ts", tmp_path / "Toy_TRAIN.ts", test_path=str(tmp_path / "Toy_TEST.ts"))
    assert len(source.test) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "1,2:3:1\n", r"line 7: its dimensions have 1 to 2 steps"),
        (HEADER + "1,2:3,4:1\n1,2:2\n", r"line 8: 1 dimensions, 2 in the first"),
        (
            HEADER + "1,?:3,4:1\n",
            r"1 missing values in 1 of 1 series, first in .*, line 7, step 1, feature 0.*data.missing",
        ),
        (HEADER + "1,inf:3,4:1\n", r"line 7: infinity"),
        (HEADER + "1,2:3,4:7\n", r"line 7: label '7' is not among those of @classLabel"),
        (HEADER + "1,2,3\n", "no ':' before a class label"),
        (HEADER, "holds no series"),
        ("1,2:1\n", "line 1: data before the line @data"),
        (HEADER.replace("true", "false"), "no '@classLabel true'"),
        (HEADER.replace("@timeStamps false", "@timeStamps true"), "time stamps"),
    ],
)
def test_damaged_series(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        opened("ts", write(tmp_path, text))


def test_a_label_that_occurs_only_in_the_test_part(tmp_path):
    with pytest.raises(InputError, match="label '10' of row 0 does not occur"):
        opened("ts", write(tmp_path, HEADER + "1:2:1\n1:2:2\n", HEADER + "1:2:10\n"))


def test_missing_files(tmp_path):
    with pytest.raises(InputError, match=r"no file \*_TRAIN\.ts"):
        opened("ts", tmp_path)
    with pytest.raises(InputError, match="no such file"):
        opened("ts", tmp_path / "gone.ts")
    (tmp_path / "b.ts").write_bytes(bytes(range(128, 256)))
    with pytest.raises(InputError, match="not a text file"):
        opened("ts", tmp_path / "b.ts")


@pytest.mark.skipif(not REAL.exists(), reason=f"the real Japanese Vowels are not at {REAL}")
def test_the_real_japanese_vowels():
    source = opened("ts", REAL)
    assert source.sample_shape == (29, 12)
    assert np.bincount(source.train.y).tolist() == [30] * 9
    assert np.bincount(source.test.y).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert source.train.lengths.min() >= 7
    assert source.train.lengths[0] == 20
    first = source.train.x[np.array([0])][0]
    assert first[0, :2].tolist() == [np.float32(1.860936), np.float32(-0.207383)]
    assert not first[20:].any()


@pytest.mark.parametrize(
    "text",
    [
        "@classLabel false\n@data\n1,2:3,4\n5,6:7,8\n",
        "@univariate false\n@DATA\n1,2:3,4\n5,6:7,8\n",
        "@classLabel true a b\n@Data  \n1,2:3,4:a  \n5,6:7,8:?\n",
        "@problemName no_word_about_labels\n@data\n1,2:3,4:a\n5,6:7,8:b\n",
        "@targetLabel true\n@data\n1,2:3,4:0.5\n5,6:7,8:0.7\n",
    ],
)
def test_prediction_needs_no_labels(tmp_path, text):
    (tmp_path / "new.ts").write_text(text)
    assert read_samples(tmp_path / "new.ts").x[:].tolist() == [[[1, 3], [2, 4]], [[5, 7], [6, 8]]]


def test_comments_begin_with_a_hash_or_a_percent_sign(tmp_path):
    text = "%# made from an ARFF file: @data\n%\n" + HEADER + "% the first series\n1,2:3,4:1\n# the second\n5,6:7,8:2\n"
    (tmp_path / "a.ts").write_text(text)
    assert everything(opened("ts", tmp_path / "a.ts").train).tolist() == [[[1, 3], [2, 4]], [[5, 7], [6, 8]]]


def test_encodings(tmp_path):
    text = "# Fußgänger\n" + HEADER + "1,2:3,4:1\n5,6:7,8:2\n"
    for name, data in (("b", text.encode("utf-8-sig")), ("u", text.encode("utf-16")), ("l", text.encode("cp1252"))):
        (tmp_path / f"{name}.ts").write_bytes(data)
        source = opened("ts", tmp_path / f"{name}.ts")
        assert len(source.train) == 2
        assert bool(source.findings.warnings) == (name == "l")
    assert not opened("ts", tmp_path / "l.ts", encoding="latin-1").findings.warnings
    with pytest.raises(InputError, match="not a text file in the encoding ascii"):
        opened("ts", tmp_path / "l.ts", encoding="ascii")
    with pytest.raises(InputError, match="not the name of an encoding"):
        opened("ts", tmp_path / "l.ts", encoding="nonsense")


def test_missing_values(tmp_path):
    (tmp_path / "a.ts").write_text(HEADER + "1,?:3,4:1\n5,6:7,8:2\n1,2:3,4:?\n1,?:2,?:10\n")
    with pytest.raises(InputError, match=r"1 missing values in 1 of 4 series, first in .*line 7, step 1, feature 0"):
        opened("ts", tmp_path / "a.ts")
    source = opened("ts", tmp_path / "a.ts", missing="drop")
    assert source.train.lengths.tolist() == [2, 1]
    assert sum(source.findings.left_out.values()) == 2
    new = read_samples(tmp_path / "a.ts", DataSection(missing="drop"), longest=2)
    assert new.ids == ["1", "2", "3"]
    (tmp_path / "b.ts").write_text(HEADER + "1,2:3,4:1\n1,2:3,4:?\n")
    with pytest.raises(InputError, match="1 label is missing"):
        opened("ts", tmp_path / "b.ts")


def test_labels_of_the_header(tmp_path):
    (tmp_path / "a.ts").write_text("@classLabel true walking up sitting\n@data\n1,2:walking up\n3,4:sitting\n")
    assert opened("ts", tmp_path / "a.ts").classes == ["sitting", "walking up"]
    (tmp_path / "a.ts").write_text("@classLabel true 01 1\n@data\n1,2:01\n3,4:1\n")
    assert sorted(opened("ts", tmp_path / "a.ts").classes) == ["01", "1"]
    (tmp_path / "a.ts").write_text("@classLabel true a,b c,d\n@data\n1,2:a,b\n3,4:c,d\n")
    assert opened("ts", tmp_path / "a.ts").classes == ["a,b", "c,d"]


def test_a_header_that_is_wrong_about_its_series(tmp_path):
    header = "@univariate true\n@equalLength true\n@classLabel true a b\n@data\n"
    (tmp_path / "a.ts").write_text(header + "1,2:3,4:a\n1:2:b\n")
    source = opened("ts", tmp_path / "a.ts")
    assert source.train.lengths.tolist() == [2, 1]
    assert len(source.findings.warnings) == 2


def test_measured_quantities(tmp_path):
    with pytest.raises(InputError, match="regression"):
        opened("ts", write(tmp_path, "@targetLabel true\n@data\n1,2:0.5\n"))


def test_tsv_of_the_ucr_archive(tmp_path):
    (tmp_path / "Toy_TRAIN.tsv").write_text("1\t0.5\t1.5\tNaN\n-1\t2.5\t3.5\t4.5\n")
    (tmp_path / "Toy_test.TSV").write_text("-1\t1\t2\t3\n")
    source = opened("ts", tmp_path)
    assert source.classes == ["-1", "1"]
    assert source.sample_shape == (3, 1)
    assert source.train.lengths.tolist() == [2, 3]
    assert source.test.y.tolist() == [0]
    (tmp_path / "other_TRAIN.ts").write_text(TRAIN)
    with pytest.raises(InputError, match="several files of the train part"):
        opened("ts", tmp_path)

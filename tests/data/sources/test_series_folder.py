import gzip

import numpy as np
import pytest
from data.sources.conftest import everything, opened

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import read_samples
from rcdp_hpc.errors import InputError

SHORT, LONG, MIDDLE = "1,10\n2,20\n", "3,30\n4,40\n5,50\n", "6,60\n7,70\n"


def write(folder, **files):
    """Write files; keys are paths with two underscores for each /."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_one_folder_for_each_class(tmp_path):
    source = opened("series_folder", write(tmp_path, up__1=SHORT, up__2=LONG, down__1=MIDDLE))
    assert source.kind == "series"
    assert source.classes == ["down", "up"]
    assert source.train.ids == ["down/1.csv", "up/1.csv", "up/2.csv"]
    assert source.train.lengths.tolist() == [2, 2, 3]
    assert everything(source.train)[1:].tolist() == [[[1, 10], [2, 20], [0, 0]], [[3, 30], [4, 40], [5, 50]]]


def test_training_and_test_folders(tmp_path):
    source = opened("series_folder", write(tmp_path, Train__a__1=SHORT, Train__b__1=MIDDLE, TEST__b__9=SHORT))
    assert source.test.y.tolist() == [1]
    assert source.test.ids == ["b/9.csv"]
    assert source.train.lengths is None


def test_other_folders_of_parts(tmp_path):
    write(tmp_path, train__a__1=SHORT, train__b__1=MIDDLE, valid__b__9=SHORT)
    source = opened("series_folder", tmp_path)
    assert source.test.ids == ["b/9.csv"]
    assert any("valid are the test part" in sentence for sentence in source.findings.assumed)
    write(tmp_path, test__a__9=SHORT)
    source = opened("series_folder", tmp_path)
    assert source.test.ids == ["a/9.csv"]
    assert source.findings.left_out == {"folders next to those of training and test": 1}
    with pytest.raises(InputError, match="but no folder train"):
        opened("series_folder", write(tmp_path / "c", a__1=SHORT, b__1=MIDDLE, test__a__1=SHORT))


def test_a_table_of_labels(tmp_path):
    write(tmp_path, a=SHORT, sub__b=LONG, c=SHORT, labels="File,Label\na.csv,01\nsub/b.csv,1\n")
    source = opened("series_folder", tmp_path)
    assert source.train.ids == ["a.csv", "sub/b.csv"]
    assert len(source.classes) == 2
    assert source.findings.left_out == {"files that labels.csv does not list": 1}
    for text, words in (
        ("file,label\na.csv,1\ngone.csv,2\n", "1 of 2 files are not in its folder: gone.csv"),
        ("file,label\na.csv,1\na.csv,2\n", "lists a.csv twice"),
        ("a.csv,1\n", "columns file and label expected"),
        ("file,label\na.csv\n", "row 0 .* has 1 cells"),
        ("file,label\na.csv,\nc.csv,1\n", "label is missing"),
    ):
        with pytest.raises(InputError, match=words):
            opened("series_folder", write(tmp_path, labels=text))


def test_other_dialects_of_a_series(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    expected = [[1.5, 10], [2.5, 20]]
    (tmp_path / "a" / "1.csv").write_text("v;w\n1,5;10\n2,5;20\n")
    (tmp_path / "a" / "2.txt").write_text("1.5 10\n2.5   20\n")
    (tmp_path / "a" / "3.tsv").write_text("# a comment\n1.5\t10\n\n2.5\t20\n")
    (tmp_path / "a" / "4.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf1.5,10\r\n2.5,20\r\n"))
    np.save(tmp_path / "b" / "5.npy", np.array(expected))
    source = opened("series_folder", tmp_path)
    assert everything(source.train).tolist() == [expected] * 5


def test_columns_that_are_not_features(tmp_path):
    write(tmp_path, a__1=",time,v\n0,2,20\n1,1,10\n", b__1=",time,v\n0,1,5\n1,2,6\n")
    source = opened("series_folder", tmp_path)
    assert source.findings.left_out == {"columns of row numbers in files of series": 2}
    assert any("data.time_column = 'time'" in sentence for sentence in source.findings.warnings)
    source = opened("series_folder", tmp_path, time_column="time")
    assert everything(source.train).tolist() == [[[10], [20]], [[5], [6]]]
    assert not source.findings.warnings
    source = opened("series_folder", tmp_path, drop_columns=["time", ""])
    assert everything(source.train)[0].tolist() == [[20], [10]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,10\n2\n", "line 2: 1 values, 2 in the first line"),
        ("1,10\n2,x\n", r"'x' in row 1 \(from 0\) of the numbers, column 1, is not a number"),
        ("", "holds no numbers"),
        ("a,b\n", "a header and no numbers"),
        ("1\n2\n", "1 dimensions, 2 in the first series"),
        ("1,inf\n", "infinity"),
        ("1,10\n,20\n3,30\n", r"1 missing values in 1 of 2 series, first in .*z\.csv, step 1, feature 0"),
        ("v,w\n1,2\n", None),
    ],
)
def test_files_that_are_not_series(tmp_path, text, words):
    write(tmp_path, a__1=SHORT, b__z=text)
    if words is None:
        assert len(opened("series_folder", tmp_path).train) == 2
        return
    with pytest.raises(InputError, match=words):
        opened("series_folder", tmp_path)


def test_columns_of_other_names(tmp_path):
    with pytest.raises(InputError, match=r"columns w, v; the first file has v, w"):
        opened("series_folder", write(tmp_path, a__1="v,w\n1,2\n", b__1="w,v\n1,2\n"))


def test_missing_values_and_padding(tmp_path):
    write(tmp_path, a__1="1,10\nNA,\nnan,?\n", a__2="1,\n2,20\n", b__1=SHORT)
    source = opened("series_folder", tmp_path, missing="drop")
    assert source.train.ids == ["a/1.csv", "b/1.csv"]
    assert source.train.lengths.tolist() == [1, 2]
    assert source.findings.left_out == {"series with missing values (data.missing = 'drop')": 1}
    filled = opened("series_folder", tmp_path, missing="mean")
    assert np.isnan(everything(filled.train)).sum() == 1


def test_files_that_are_not_read_are_counted(tmp_path):
    write(tmp_path, a__1=SHORT, b__1=LONG)
    (tmp_path / "a" / ".hidden.csv").write_text(SHORT)
    (tmp_path / "a" / "notes.pdf").write_bytes(b"x")
    (tmp_path / "stray.csv").write_text(SHORT)
    left_out = opened("series_folder", tmp_path).findings.left_out
    assert left_out["hidden files"] == 1
    assert left_out["files outside the folders of the classes"] == 1
    assert sum(left_out.values()) == 3


def test_folders_without_series(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        opened("series_folder", tmp_path / "gone")
    with pytest.raises(InputError, match="no folders of classes and no labels"):
        opened("series_folder", tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match=r"a: no series \(.*\) of this class"):
        opened("series_folder", tmp_path)


def test_prediction(tmp_path):
    write(tmp_path, b=SHORT, a=LONG, labels="file,label\nb.csv,1\n")
    data = DataSection(source="series_folder")
    new = read_samples(tmp_path, data, longest=4)
    assert (new.ids, new.id_name, new.lengths.tolist()) == (["a.csv", "b.csv"], "file", [3, 2])
    assert new.x[np.array([1])][0].tolist() == [[1, 10], [2, 20], [0, 0], [0, 0]]
    assert read_samples(tmp_path / "b.csv", data, longest=4).ids == ["b.csv"]

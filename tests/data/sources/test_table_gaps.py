"""Missing values of tables: refused with all columns at once, left out, or filled."""

import numpy as np
import pytest
from data.sources.conftest import everything, opened

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import Columns
from rcdp_hpc.data.sources.request import SampleRequest
from rcdp_hpc.data.sources.tables import read_samples
from rcdp_hpc.errors import InputError

pytest.importorskip("pyarrow")

GAPS = ["", "NA", "N/A", "NaN", "null", "?", "None", "-"]
ROWS = [
    [GAPS[row] if row < 8 else f"{row}.5", "" if row == 9 else f"{row % 4}.25", ["red", "blue", "blue", ""][row % 4]]
    for row in range(20)
]
LINES = ["a,b,colour,label", *(",".join([*row, "xy"[place % 2]]) for place, row in enumerate(ROWS))]
OPTIONS = {"category_columns": ["colour"]}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "t.csv").write_text("\n".join(LINES))
    return tmp_path / "t.csv"


def test_all_columns_are_counted_in_one_message(path):
    with pytest.raises(InputError) as caught:
        opened("csv", path, **OPTIONS)
    assert "14 missing values" in str(caught.value)
    assert "first in row 0 (from 0), column 'a'; values by column: 'a': 8, 'b': 1, 'colour': 5" in str(caught.value)
    assert "--set data.missing=drop" in str(caught.value)


def test_rows_are_left_out(path):
    source = opened("csv", path, **OPTIONS, missing="drop")
    assert source.train.ids == ["8", "10", "12", "13", "14", "16", "17", "18"]
    assert everything(source.train)[:, 0].tolist() == [8.5, 10.5, 12.5, 13.5, 14.5, 16.5, 17.5, 18.5]
    assert source.findings.left_out["rows with missing values (data.missing = 'drop')"] == 12
    assert source.train.y.tolist() == [0, 0, 0, 1, 0, 0, 1, 0]


def test_gaps_are_left_to_the_preparation(path):
    source = opened("csv", path, **OPTIONS, missing="mean")
    x = everything(source.train)
    assert np.isnan(x[:, 0]).tolist() == [row < 8 for row in range(20)]
    assert np.isnan(x[:, 2]).tolist() == [row % 4 == 3 for row in range(20)]
    assert any("'colour': 5; they are filled (data.missing = 'mean')" in line for line in source.findings.assumed)


def test_the_rows_of_a_group_go_together(tmp_path):
    text = "who,v,label\np,1,a\np,,a\nq,3,b\nq,4,b\nr,5,a\n"
    (tmp_path / "t.csv").write_text(text)
    source = opened("csv", tmp_path / "t.csv", sequence_column="who", missing="drop")
    assert source.train.ids == ["q", "r"]
    assert everything(source.train)[:, :, 0].tolist() == [[3, 4], [5, 0]]


def test_new_samples_follow_the_same_rules(path):
    columns = Columns(["b", "a"], {}, {})
    data = DataSection(source="csv")
    with pytest.raises(InputError, match=r"9 missing values .* values by column: 'b': 1, 'a': 8"):
        read_samples(SampleRequest(path, data, columns=columns))
    filled = read_samples(SampleRequest(path, DataSection(source="csv", missing="mean"), columns=columns))
    assert np.isnan(filled.x[:]).sum() == 9
    assert filled.findings.left_out["columns that training does not have or left out"] == 1


def test_categories_that_do_not_occur_in_training(path):
    columns = Columns(["colour"], {"colour": ["red", "green"]}, {"colour": "green"})
    data = DataSection(source="csv", missing="drop")
    with pytest.raises(InputError, match=r"row 1 \(from 0\), column colour: category 'blue' .*most_frequent"):
        read_samples(SampleRequest(path, data, columns=columns))
    data = DataSection(source="csv", missing="drop", unknown_categories="most_frequent")
    new = read_samples(SampleRequest(path, data, columns=columns))
    assert new.x[:, 0].tolist() == [0, 1, 1] * 5
    assert (
        "10 values that do not occur in training are read as the most frequent one, 'green'" in new.findings.warnings[0]
    )

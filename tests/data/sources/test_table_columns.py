"""The columns of a table that become features, and the reports about the others."""

import datetime
import decimal

import numpy as np
import pytest
from data.sources.conftest import everything, opened

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources.request import SampleRequest
from rcdp_hpc.data.sources.tables import read_samples
from rcdp_hpc.errors import InputError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

N = 24
RNG = np.random.default_rng(1)
A = np.round(RNG.normal(size=N), 3)


def source_of(tmp_path, suffix="csv", options=None, **columns):
    """Return a source with the column `a`, these, and two classes."""
    table = pa.table({**columns, "a": A, "label": ["xy"[row % 2] for row in range(N)]})
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        pytest.importorskip("pyarrow.csv").write_csv(table, path)
    else:
        parquet.write_table(table, path)
    return opened(suffix, path, **(options or {}))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("id", [1000 + 7 * row for row in range(N)], "id by its name"),
        ("PassengerId", [5 * row for row in range(N)], "id by its name"),
        ("order_id", RNG.permutation(N) * 11, "id by its name"),
        ("n", range(N), "counts the rows"),
        ("n", RNG.permutation(N) + 1, "counts the rows"),
        ("code", [f"u{row * 7919 % 100:03d}x" for row in range(N)], "all different"),
        ("when", [f"2024-01-{row + 1:02d} 10:00" for row in range(N)], "dates or times"),
        ("day", [f"{row + 1}.01.2024" for row in range(N)], "dates or times"),
        ("logged", [1_700_000_000 + row for row in range(N)], "time stamps in seconds"),
        ("timestamp", RNG.permutation(N) * 10**6 + 1_700_000_000_000, "time stamps in milliseconds"),
        ("date", [20240100 + row + 1 for row in range(N)], "dates written as numbers"),
        ("hash", [2**60 + 7919 * (row * 7 % N) for row in range(N)], "beyond 2**53"),
        ("Unnamed: 0", [row // 2 for row in range(N)], "without a column name"),
    ],
)
def test_columns_that_do_not_look_like_features_are_left_out_with_a_warning(tmp_path, suffix, name, values, reason):
    source = source_of(
        tmp_path, suffix, **{name: list(map(str, values)) if isinstance(values[0], str) else list(values)}
    )
    assert source.columns.features == ["a"]
    (warning,) = source.findings.warnings
    assert f"'{name}' is left out: " in warning
    assert reason in warning
    # As numbers these would become equal, but as categories each keeps its value.
    key = "category_columns" if "2**53" in reason else "keep_columns"
    assert f'data.{key}=["{name}"]' in warning


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("weight", RNG.normal(size=N)),
        ("weight", np.sort(RNG.normal(size=N))),
        ("price", RNG.permutation(N) * 17),
        ("big", RNG.permutation(N) * 3 + 20_240_101_000),
        ("year", 1990 + np.arange(N) % 9),
        ("constant", np.ones(N)),
    ],
)
def test_measurements_are_features(tmp_path, suffix, name, values):
    source = source_of(tmp_path, suffix, **{name: list(values)})
    assert source.columns.features == [name, "a"]
    np.testing.assert_array_equal(everything(source.train)[:, 0], values)
    assert source.findings.warnings == []


def test_an_id_that_repeats_is_a_feature_with_a_warning(tmp_path):
    source = source_of(tmp_path, patient_id=[row // 2 * 10 for row in range(N)])
    assert source.columns.features == ["patient_id", "a"]
    assert "its name is that of an id" in source.findings.warnings[0]


def test_columns_that_are_kept(tmp_path):
    days = [f"2024-01-{row + 1:02d}" for row in range(N)]
    kept = {"keep_columns": ["id", "when"]}
    source = source_of(tmp_path, options=kept, id=list(range(N)), when=days)
    assert source.columns.features == ["id", "when", "a"]
    assert np.diff(source.train.x[:, 1]).tolist() == [86400] * (N - 1)
    stamps = [datetime.datetime.fromisoformat(day) for day in days]
    typed = source_of(tmp_path, "parquet", kept, id=list(range(N)), when=stamps)
    np.testing.assert_array_equal(typed.train.x, source.train.x)
    with pytest.raises(InputError, match=r"no column 'idd'; it has .* Did you mean 'id'"):
        source_of(tmp_path, options={"keep_columns": ["idd"]}, id=list(range(N)))


def test_the_index_of_pandas(tmp_path):
    source = source_of(tmp_path, "parquet", __index_level_0__=[9 * row % N for row in range(N)])
    assert source.columns.features == ["a"]
    assert "index of pandas" in " ".join(source.findings.left_out)
    assert source.train.ids[:3] == ["0", "9", "18"]
    path = tmp_path / "t.csv"
    path.write_text(",a,label\n" + "".join(f"{5 * row},{row}.5,{'xy'[row % 2]}\n" for row in range(N)))
    assert opened("csv", path).columns.features == ["a"]


def test_ids_name_the_samples(tmp_path):
    names = [f"p{row:02d}" for row in range(N)]
    source = source_of(tmp_path, options={"id_column": "who"}, who=names)
    assert source.train.ids == names
    assert source.columns.features == ["a"]
    # A column that was left out names the rows of predictions, too.
    left = source_of(tmp_path, who=names)
    assert left.columns.row_names == "who"
    data = DataSection(source="csv")
    new = read_samples(SampleRequest(tmp_path / "t.csv", data, columns=left.columns))
    assert (new.ids, new.id_name) == (names, "who")


def test_types_of_parquet(tmp_path):
    source = source_of(
        tmp_path,
        "parquet",
        amount=[decimal.Decimal(f"{row % 5}.25") for row in range(N)],
        kind=pa.array([str(row % 3 + 1) for row in range(N)]).dictionary_encode(),
        large=pa.array([f"{row % 4}.5" for row in range(N)], pa.large_string()),
        flag=[row % 2 == 0 for row in range(N)],
        half=pa.array(np.arange(N).astype(np.float16) / 2, pa.float16()),
        lapse=pa.array([row % 7 for row in range(N)], pa.duration("s")),
        nothing=pa.nulls(N),
        day=[datetime.date(2024, 1, row + 1) for row in range(N)],
        clock=[datetime.time(row, 1) for row in range(N)],
    )
    assert source.columns.features == ["amount", "kind", "large", "flag", "half", "lapse", "a"]
    assert everything(source.train)[1, :6].tolist() == [1.25, 2, 1.5, 0, 0.5, 1]
    assert source.findings.left_out["columns without any value"] == 1
    assert "'day', 'clock' are left out: dates or times" in source.findings.warnings[0]
    with pytest.raises(
        InputError, match=r"lists, structures or bytes are not read: 'parts'.*drop_columns=\[\"parts\"\]"
    ):
        source_of(tmp_path, "parquet", parts=[[1, 2]] * N)


def test_all_columns_of_text_are_named_at_once(tmp_path):
    columns = {"colour": ["red", "blue"] * (N // 2), "note": [f"n{row % 20}" for row in range(N)]}
    with pytest.raises(InputError) as caught:
        source_of(tmp_path, **columns, size=["low" if row == 3 else f"{row}.5" for row in range(N)])
    message = str(caught.value)
    assert "3 columns hold texts, numbers expected: 'colour' (2 distinct texts, first 'red' in row 0" in message
    assert "'size' (1 of 24 values, first 'low' in row 3 (from 0))" in message
    assert "--set 'data.category_columns=[\"colour\"]'" in message
    assert '--set \'data.drop_columns=["note", "size"]\'' in message


@pytest.mark.parametrize("unit", ["{}.5%", "${}.50", "{},5 kg", "({})"])
def test_numbers_with_a_unit_are_not_ids(tmp_path, unit):
    with pytest.raises(InputError, match="1 column holds texts"):
        source_of(tmp_path, "parquet", v=[unit.format(row * 3) for row in range(N)])


def test_a_missing_label_column_is_proposed(tmp_path):
    with pytest.raises(InputError, match=r"no column 'class'.*likely --set data\.label_column=label"):
        source_of(tmp_path, options={"label_column": "class"})


def test_steps_that_are_counted_in_each_group(tmp_path):
    rows = [(group, step) for group in range(6) for step in range(3 + group % 2)]
    lines = [f"g{group},{step},{step % 2},{group * step}.5,{'xy'[group % 2]}" for group, step in rows]
    (tmp_path / "t.csv").write_text("\n".join(["who,step,bit,v,label", *lines]))
    source = opened("csv", tmp_path / "t.csv", sequence_column="who")
    assert source.columns.features == ["bit", "v"]
    assert "'step' is left out: it counts the rows of each sequence" in source.findings.warnings[0]
    assert opened("csv", tmp_path / "t.csv", sequence_column="who", keep_columns=["step"]).columns.features[0] == "step"


def test_a_table_with_only_ids(tmp_path):
    (tmp_path / "t.csv").write_text("id,label\n" + "".join(f"{row},{'xy'[row % 2]}\n" for row in range(N)))
    with pytest.raises(InputError, match=r"no column of features is left; .*'id': an id by its name"):
        opened("csv", tmp_path / "t.csv")


BEYOND = [2**53 + 1 + row % 3 for row in range(N)]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_integers_that_float64_does_not_distinguish_are_not_features(tmp_path, suffix):
    source = source_of(tmp_path, suffix, big=BEYOND)
    assert source.columns.features == ["a"]
    assert """To keep it: --set 'data.category_columns=["big"]'""" in source.findings.warnings[0]
    with pytest.raises(InputError, match=r"some of which become equal, in column 'big'.*data\.category_columns"):
        source_of(tmp_path, suffix, {"keep_columns": ["big"]}, big=BEYOND)
    source = source_of(tmp_path, suffix, {"category_columns": ["big"]}, big=BEYOND)
    assert source.columns.categories == {"big": [str(number) for number in BEYOND[:3]]}
    assert len(np.unique(everything(source.train)[:, 0])) == 3


def test_integers_that_float64_does_not_distinguish_in_prediction(tmp_path):
    columns = source_of(tmp_path, b=list(RNG.normal(size=N))).columns
    (tmp_path / "new.csv").write_text(f"a,b\n{2**53},0.5\n{2**53 + 1},0.5\n")
    with pytest.raises(InputError, match=r"become equal, in column 'a'\. Training had smaller numbers there"):
        read_samples(SampleRequest(tmp_path / "new.csv", DataSection(), columns=columns))


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("subject", [3 * row + row % 2 for row in range(N)], "increase in each row"),
        ("moment", [1_700_000_000 + int(step) for step in RNG.integers(0, 10**6, N)], "time stamps in seconds"),
        (
            "moment",
            [1_700_000_000_000 + int(step) for step in RNG.integers(0, 10**6, N)],
            "time stamps in milliseconds",
        ),
    ],
)
def test_a_possible_index_or_time_stamp_is_a_feature_with_a_warning(tmp_path, name, values, reason):
    source = source_of(tmp_path, **{name: values})
    assert source.columns.features == [name, "a"]
    assert reason in source.findings.warnings[0]
    assert f"""'data.drop_columns=["{name}"]'""" in source.findings.warnings[0]
    assert not source_of(tmp_path, options={"keep_columns": [name]}, **{name: values}).findings.warnings


def test_a_column_called_when_holds_time_stamps(tmp_path):
    values = [1_700_000_000 + int(step) for step in RNG.integers(0, 10**6, N)]
    assert source_of(tmp_path, when=values).columns.features == ["a"]


def test_measurements_are_features_without_a_warning(tmp_path):
    counts = RNG.integers(0, 10**6, N).tolist()
    source = source_of(
        tmp_path, counts=counts, sorted_floats=sorted(RNG.normal(size=N)), years=[1990 + row // 2 for row in range(N)]
    )
    assert source.columns.features == ["counts", "sorted_floats", "years", "a"]
    assert not source.findings.warnings

"""Samples for prediction from every kind of file."""

import h5py
import numpy as np
import pytest
from data.conftest import write_idx

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import Columns, csv_reading, parquet_reading, read_samples
from rcdp_hpc.errors import InputError

X = np.arange(24, dtype=np.float32).reshape(6, 4)


def taken(path, **settings):
    new = read_samples(path, DataSection(**settings))
    samples, lengths = new.x, new.lengths
    assert lengths is None
    return np.asarray(samples[:])


def test_arrays(tmp_path):
    np.savez(tmp_path / "s.npz", x=X)
    np.save(tmp_path / "s.npy", X)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["new/x"] = X
    write_idx(tmp_path / "images", X.reshape(6, 2, 2))
    np.testing.assert_array_equal(taken(tmp_path / "s.npz"), X)
    np.testing.assert_array_equal(taken(tmp_path / "s.npy"), X)
    np.testing.assert_array_equal(taken(tmp_path / "s.h5", x_name="new/x"), X)
    np.testing.assert_array_equal(taken(tmp_path / "images"), X.reshape(6, 2, 2))


@pytest.mark.parametrize("labelled", [False, True])
def test_tables_with_and_without_labels(tmp_path, labelled):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {f"c{number}": X[:, number] for number in range(4)} | ({"label": list("ababab")} if labelled else {})
    parquet.write_table(pa.table(columns), tmp_path / "s.parquet")
    np.testing.assert_array_equal(taken(tmp_path / "s.parquet"), X)
    lines = [",".join(columns)] + [",".join(str(column[row]) for column in columns.values()) for row in range(6)]
    (tmp_path / "s.csv").write_text("\n".join(lines))
    np.testing.assert_array_equal(taken(tmp_path / "s.csv"), X)
    with pytest.raises(
        InputError, match=r"numbers of the categories are unknown.* prepare and train again \(--restart\), or save"
    ):
        taken(tmp_path / "s.csv", category_columns=["c0"])


SEEN = Columns(["size", "colour"], {"colour": ["red", "blue"]})


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_are_found_by_name_and_categories_keep_their_numbers(tmp_path, suffix):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"note": ["x", "y"], "colour": ["blue", "red"], "size": [1.5, 2.5]})
    save(table, tmp_path / f"s.{suffix}")
    samples = read_samples(tmp_path / f"s.{suffix}", DataSection(category_columns=["colour"]), columns=SEEN).x
    assert samples[:].tolist() == [[1.5, 1], [2.5, 0]]
    # What the model knows is enough.
    assert read_samples(tmp_path / f"s.{suffix}", columns=SEEN).x[:].tolist() == [[1.5, 1], [2.5, 0]]
    save(table.drop_columns(["size"]), tmp_path / f"s.{suffix}")
    with pytest.raises(InputError, match=rf"s\.{suffix}: no column 'size'; it has note, colour"):
        read_samples(tmp_path / f"s.{suffix}", columns=SEEN)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_unknown_category_is_refused_with_its_place(tmp_path, suffix, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    # Rows are counted over the blocks in which they are read.
    monkeypatch.setattr(csv_reading, "CSV_BLOCK", 64)
    monkeypatch.setattr(csv_reading, "BLOCK_ROWS", 4)
    monkeypatch.setattr(parquet_reading, "PARQUET_ROWS", 7)
    colours = ["red", "blue"] * 20 + ["green"] + ["red"] * 9
    save(pa.table({"size": list(range(50)), "colour": colours}), tmp_path / f"s.{suffix}")
    message = rf"s\.{suffix}: row 40 \(from 0\), column colour: category 'green' .*, which have red, blue\."
    with pytest.raises(InputError, match=message):
        read_samples(tmp_path / f"s.{suffix}", columns=SEEN)


def save(table, path):
    csv, parquet = pytest.importorskip("pyarrow.csv"), pytest.importorskip("pyarrow.parquet")
    (csv.write_csv if path.suffix == ".csv" else parquet.write_table)(table, path)


def test_groups_of_a_table_are_series_in_order_of_time(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "s.csv").write_text("who,when,v\nb,2,20\na,1,1\nb,1,10\nb,3,30\n")
    data = DataSection(sequence_column="who", time_column="when")
    new = read_samples(tmp_path / "s.csv", data, longest=4)
    samples, lengths = new.x, new.lengths
    assert samples[:][:, :, 0].tolist() == [[10, 20, 30, 0], [1, 0, 0, 0]]
    assert lengths.tolist() == [3, 1]


def test_series(tmp_path):
    (tmp_path / "s.ts").write_text("@classLabel true a b\n@data\n1,2:3,4:a\n5:6:b\n")
    new = read_samples(tmp_path / "s.ts", longest=4)
    samples, lengths = new.x, new.lengths
    assert samples.shape == (2, 4, 2)
    assert lengths.tolist() == [2, 1]
    assert samples[np.array([1])][0].tolist() == [[5, 6], [0, 0], [0, 0], [0, 0]]
    (tmp_path / "t.ts").write_text("@classLabel true a b\n@data\n1,2:3,4:a\n5,6:6,7:b\n")
    assert read_samples(tmp_path / "t.ts", longest=2).lengths is None


def test_images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "sub").mkdir()
    for name, shade in (("b.png", 10), ("a.png", 20), ("sub/c.png", 30)):
        image.new("L", (8, 8), shade).save(tmp_path / name)
    x = taken(tmp_path, image_size=[4, 4], image_channels=1)
    assert x.shape == (3, 4, 4, 1)
    assert x[:, 0, 0, 0].tolist() == [20, 10, 30]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image"):
        taken(tmp_path / "empty")


def test_the_most_frequent_category_of_shards_without_counts(tmp_path):
    (tmp_path / "s.csv").write_text("size,colour\n1,green\n")
    data = DataSection(unknown_categories="most_frequent")
    with pytest.raises(InputError, match="--restart to record the most frequent category") as caught:
        read_samples(tmp_path / "s.csv", data, columns=SEEN)
    assert "set --set" not in str(caught.value)


@pytest.mark.parametrize("values", [[b"\xff", b"\x00"], [[1, 2], [3, 4]], [{"a": 1}, {"a": 2}]])
def test_a_feature_of_lists_is_named(tmp_path, values):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"a": [1.0, 2.0], "b": values, "c": values}), tmp_path / "s.parquet")
    with pytest.raises(InputError, match=r"s\.parquet: columns of lists, structures or bytes are not read: .*b"):
        read_samples(tmp_path / "s.parquet", columns=Columns(["a", "b"], {}))
    assert len(read_samples(tmp_path / "s.parquet", columns=Columns(["a"], {}))) == 2

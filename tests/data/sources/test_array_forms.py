"""Lengths, padding, missing values, layouts, labels and names of arrays: the same for npz, npy and hdf5."""

import itertools

import h5py
import numpy as np
import pytest
from data.conftest import write_idx
from data.sources.conftest import everything, opened

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources import base, hdf5, idx, npz, read_samples
from rcdp_hpc.errors import InputError

SERIES = np.arange(1.0, 25.0).reshape(4, 3, 2)
LABELS = np.array([0, 1, 0, 1])
ENDS = [3, 1, 2, 3]


def padded_with(value):
    x = SERIES.copy()
    for row, end in enumerate(ENDS):
        x[row, end:] = value
    return x


@pytest.fixture(params=["npz", "npy", "hdf5"])
def save(request, tmp_path):
    """Return a function that writes arrays in one of the three formats, and opens them."""

    count = itertools.count()

    def write(**arrays):
        options = {name: arrays.pop(name) for name in list(arrays) if name in DataSection.model_fields}
        # A file of HDF5 that is read lazily stays open.
        path = tmp_path / f"d{next(count)}"
        if request.param == "npz":
            path = path.with_suffix(".npz")
            np.savez(path, **arrays)
        elif request.param == "npy":
            path.mkdir(exist_ok=True)
            for name, array in arrays.items():
                np.save(path / f"{name}.npy", array)
        else:
            path = path.with_suffix(".h5")
            with h5py.File(path, "w") as file:
                for name, array in arrays.items():
                    file[name] = array
        return opened(request.param, path, **options)

    return write


def assert_padded(source):
    assert source.kind == "series"
    assert source.train.lengths.tolist() == ENDS
    np.testing.assert_array_equal(everything(source.train), padded_with(0))


@pytest.mark.parametrize("name", ["length", "lengths", "Lengths", "seq_len"])
@pytest.mark.parametrize("memory_budget", [1, 4096])
def test_given_lengths_make_padded_series(save, name, memory_budget):
    # What is after the ends is not used, whatever it is.
    assert_padded(save(x=padded_with(np.nan), y=LABELS, memory_budget=memory_budget, **{name: np.array(ENDS)}))
    assert_padded(save(x=padded_with(77), y=LABELS, memory_budget=memory_budget, **{name: np.array(ENDS)}))


def test_arrays_beyond_the_budget_are_padded_when_read(save):
    x = np.random.default_rng(0).normal(size=(3000, 10, 12)).astype(np.float32)
    lengths = np.arange(3000) % 10 + 1
    expected = np.where((np.arange(10) < lengths[:, None])[..., None], x, 0)
    source = save(x=np.where(expected == 0, np.nan, x), y=np.arange(3000) % 3, memory_budget=1)
    assert not isinstance(source.train.x, np.ndarray)
    assert source.train.lengths.tolist() == lengths.tolist()
    rows = np.array([2999, 0, 17, 17])
    np.testing.assert_array_equal(source.train.x[rows], expected[rows])


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ([3, 1, 2], "lengths has 3 entries, there are 4 samples"),
        ([3, 1, 2, 4], r"4 of row 3 \(from 0\) is not a whole number from 1 to 3"),
        ([3, 0, 2, 3], "0 of row 1"),
        ([3, 1.5, 2, 3], "1.5 of row 1"),
        ([[3, 1], [2, 3]], r"shape \(2, 2\)"),
    ],
)
def test_wrong_lengths(save, lengths, words):
    with pytest.raises(InputError, match=words):
        save(x=SERIES, y=LABELS, lengths=np.array(lengths))


def test_whole_series_have_no_lengths(save):
    assert save(x=SERIES, y=LABELS, lengths=np.full(4, 3)).train.lengths is None


def test_steps_of_nan_at_the_end_are_padding(save):
    source = save(x=padded_with(np.nan), y=LABELS)
    assert_padded(source)
    assert any("2 of 4 series end early, lengths 1 to 3" in sentence for sentence in source.findings.assumed)


def test_a_test_set_of_other_steps(save):
    source = save(x=padded_with(np.nan), y=LABELS, x_test=SERIES[:2, :2], y_test=LABELS[:2])
    assert source.test.lengths.tolist() == [2, 2]
    assert source.test.x.shape == (2, 3, 2)
    assert not everything(source.test)[:, 2].any()


def test_rows_that_end_early_are_series_of_one_value(save):
    x = SERIES[..., 0].copy()
    x[1, 1:] = x[2, 2:] = np.nan
    source = save(x=x, y=LABELS)
    assert source.sample_shape == (3, 1)
    assert source.train.lengths.tolist() == ENDS
    # One place alone may be a column of a table.
    x[1, 1] = 0
    with pytest.raises(InputError, match=r"2 missing values \(NaN\) in 2 of 4 samples.*row 1 \(from 0\), feature 2"):
        save(x=x, y=LABELS)
    assert save(x=x, y=LABELS, kind="series").train.lengths.tolist() == [3, 2, 2, 3]


def test_missing_values(save):
    x = SERIES.copy()
    x[1, 0, 1] = x[3, 1, 1] = x[3, 1, 0] = np.nan
    message = (
        r"3 missing values \(NaN\) in 2 of 4 samples, first in row 1 \(from 0\), step 0, feature 1; values by feature: "
        r"0: 1, 1: 2\. .*data\.missing = 'drop'"
    )
    with pytest.raises(InputError, match=message):
        save(x=x, y=LABELS)
    dropped = save(x=x, y=np.array([0, 1, 1, 1]), missing="drop")
    np.testing.assert_array_equal(everything(dropped.train), SERIES[[0, 2]])
    assert dropped.train.y.tolist() == [0, 1]
    assert dropped.findings.left_out["samples with missing values (data.missing = 'drop')"] == 2
    np.testing.assert_array_equal(everything(save(x=x, y=LABELS, missing="mean").train), x)


def test_a_series_of_only_nan(save):
    x = SERIES.copy()
    x[2] = np.nan
    with pytest.raises(InputError, match=r"1 series hold only NaN, first in row 2"):
        save(x=x, y=LABELS)
    assert len(save(x=x, y=LABELS, missing="drop").train) == 3


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("memory_budget", [1, 4096])
def test_channels_first(save, channels, memory_budget):
    x = np.random.default_rng(0).integers(0, 256, (300, channels, 40, 30)).astype(np.uint8)
    source = save(x=x, y=np.arange(300) % 2, memory_budget=memory_budget)
    assert source.sample_shape == (40, 30, channels)
    assert source.kind == "images"
    np.testing.assert_array_equal(source.train.x[np.array([5, 3])], x[[5, 3]].transpose(0, 2, 3, 1))
    assert any("channels come first" in sentence for sentence in source.findings.assumed)
    as_it_is = save(x=x, y=np.arange(300) % 2, image_layout="channels_last")
    assert as_it_is.sample_shape == (channels, 40, 30)


def test_an_ambiguous_axis_of_channels_is_reported(save):
    x = np.zeros((4, 3, 3, 3), np.uint8)
    source = save(x=x, y=LABELS)
    assert any("data.image_layout" in sentence for sentence in source.findings.warnings)
    clear = save(x=np.zeros((4, 8, 9, 3), np.uint8), y=LABELS)
    assert not clear.findings.warnings
    assert not clear.findings.assumed
    x = np.arange(4 * 2 * 3 * 3).reshape(4, 2, 3, 3)
    moved = save(x=x, y=LABELS, image_layout="channels_first")
    np.testing.assert_array_equal(everything(moved.train), x.transpose(0, 2, 3, 1))
    with pytest.raises(InputError, match="no axis of channels"):
        save(x=SERIES, y=LABELS, image_layout="channels_first")


def test_float_and_one_hot_labels(save):
    assert save(x=SERIES, y=LABELS.astype(float)).classes == ["0", "1"]
    source = save(x=SERIES, y=np.eye(3)[[2, 0, 1, 2]])
    assert source.train.y.tolist() == [2, 0, 1, 2]
    assert any("one-hot" in sentence for sentence in source.findings.assumed)
    with pytest.raises(InputError, match="Several labels for one sample"):
        save(x=SERIES, y=np.ones((4, 3)))


def test_samples_without_a_label_are_dropped_on_demand(save):
    y = np.array([0, np.nan, 1, 1])
    with pytest.raises(InputError, match="1 label is missing"):
        save(x=SERIES, y=y)
    source = save(x=SERIES, y=y, missing="drop")
    np.testing.assert_array_equal(everything(source.train), SERIES[[0, 2, 3]])


def test_common_names_of_arrays(save):
    source = save(
        X_train=SERIES, train_labels=LABELS, test_x=SERIES[:2], y_test=LABELS[:2], ids=np.arange(4), notes=[0]
    )
    assert source.classes == ["0", "1"]
    assert len(source.test) == 2
    assert source.train.ids == ["0", "1", "2", "3"]
    assert any("X_train is x, train_labels is y, test_x is x_test" in sentence for sentence in source.findings.assumed)
    assert list(source.findings.left_out.values()) == [1]
    assert list(source.findings.examples.values()) == [["notes"]]
    with pytest.raises(InputError, match="data and images could each be x"):
        save(data=SERIES, images=SERIES, y=LABELS)


def test_ids_of_another_number(save):
    with pytest.raises(InputError, match="one text or whole number for each of the 4 samples"):
        save(x=SERIES, y=LABELS, ids=np.arange(3))


def test_numbers_beyond_floating_point(save):
    x = np.arange(8).reshape(4, 2)
    x[2, 1] = 1_700_000_000_000_000_001
    with pytest.raises(InputError, match=r"beyond 2\^53.*row 2 \(from 0\), feature 1"):
        save(x=x, y=LABELS)
    assert everything(save(x=x == 1, y=LABELS).train).dtype == bool


def test_arrays_that_are_not_rows_of_samples(save):
    with pytest.raises(InputError, match=r"x\.reshape\(-1, 1\)"):
        save(x=np.arange(4.0), y=LABELS)


def test_prediction_takes_lengths_ids_and_layout(tmp_path):
    names = np.array(["a", "b", "c", "d"])
    np.savez(tmp_path / "s.npz", x=padded_with(9), lengths=np.array(ENDS), names=names, y=LABELS)
    new = read_samples(tmp_path / "s.npz", longest=5)
    assert new.lengths.tolist() == ENDS
    assert new.ids == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(new.x[:][:, :3], padded_with(0))
    assert new.x.shape == (4, 5, 2)
    np.save(tmp_path / "x.npy", padded_with(np.nan))
    assert read_samples(tmp_path / "x.npy", longest=3).lengths.tolist() == ENDS
    np.save(tmp_path / "lengths.npy", np.array([1, 1, 1, 1]))
    assert read_samples(tmp_path / "x.npy", longest=3).lengths.tolist() == [1, 1, 1, 1]
    images = np.zeros((2, 3, 9, 8), np.uint8)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"] = images
    assert read_samples(tmp_path / "s.h5").x.shape == (2, 9, 8, 3)


def test_the_shape_of_the_model_decides_ambiguous_arrays(tmp_path):
    path = tmp_path / "s.npz"
    np.savez(path, x=np.arange(54).reshape(2, 3, 3, 3))
    assert not read_samples(path, sample_shape=(3, 3, 3)).findings.warnings
    np.savez(path, x=np.arange(96).reshape(2, 4, 4, 3))
    assert read_samples(path, sample_shape=(4, 3, 4)).x.shape == (2, 4, 3, 4)
    rows = np.array([[1.0, 2.0, 3.0], [1.0, np.nan, np.nan]])
    np.savez(path, x=rows)
    new = read_samples(path, longest=3, sample_shape=(3, 1))
    assert new.x.shape == (2, 3, 1)
    assert new.lengths.tolist() == [3, 1]
    with pytest.raises(InputError, match=r"2 missing values \(NaN\)"):
        read_samples(path, longest=3, sample_shape=(3,))


def test_series_with_more_features_than_steps_are_warned_about(save):
    assert any("x.transpose(0, 2, 1)" in text for text in save(x=np.zeros((4, 3, 8)), y=LABELS).findings.warnings)
    assert not save(x=np.zeros((4, 8, 3)), y=LABELS).findings.warnings


@pytest.mark.parametrize("dtype", [np.float16, ">f4", ">f8", np.longdouble])
def test_other_number_formats(save, dtype):
    source = save(x=SERIES.astype(dtype), y=LABELS)
    np.testing.assert_array_equal(everything(source.train), SERIES)
    infinite = SERIES.astype(dtype)
    infinite[1, 2, 0] = -np.inf
    with pytest.raises(InputError, match=r"infinity .*row 1 \(from 0\), step 2, feature 0"):
        save(x=infinite, y=LABELS)


def test_prediction_names_the_rows_that_are_used(tmp_path):
    x = SERIES.copy()
    x[1, 0, 0] = np.nan
    np.savez(tmp_path / "s.npz", x=x)
    assert read_samples(tmp_path / "s.npz", DataSection(missing="drop"), longest=3).ids == ["0", "2", "3"]


def test_samples_larger_than_any_block(tmp_path, monkeypatch):
    for module, name in (
        (base, "BLOCK_BYTES"),
        (npz, "CHECK_BYTES"),
        (hdf5, "SLAB_BYTES"),
        (hdf5, "GAP_BYTES"),
        (idx, "BLOCK_BYTES"),
    ):
        monkeypatch.setattr(module, name, 7)
    monkeypatch.setattr(Budget, "source", 64)
    x = np.random.default_rng(0).normal(size=(4, 50))
    np.savez(tmp_path / "a.npz", x=x, y=LABELS)
    np.savez_compressed(tmp_path / "b.npz", x=x, y=LABELS)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["x"], file["y"] = x, LABELS
    for source, name in (("npz", "a.npz"), ("npz", "b.npz"), ("hdf5", "c.h5")):
        found = opened(source, tmp_path / name)
        assert not isinstance(found.train.x, np.ndarray)
        np.testing.assert_array_equal(found.train.x[np.array([3, 0, 3])], x[[3, 0, 3]])
        assert len(found.fingerprint()) == 64
    images = np.arange(200, dtype=np.uint8).reshape(2, 10, 10)
    write_idx(tmp_path / "train-images-idx3-ubyte", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.array([0, 1], np.uint8))
    np.testing.assert_array_equal(everything(opened("mnist", tmp_path).train), images)

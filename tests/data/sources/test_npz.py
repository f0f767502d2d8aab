import numpy as np
import pytest

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import open_source, read_samples
from rcdp_hpc.errors import InputError

X = np.arange(24, dtype=np.float64).reshape(6, 2, 2)
Y = np.array([0, 1, 0, 1, 5, 5])


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        path = tmp_path / "set.npz"
        np.savez(path, **arrays)
        return path

    return write


def read(path):
    return open_source(DataSection(source="npz", path=str(path)))


def test_known_values(save):
    source = read(save(x=X, y=Y))
    assert source.classes == ["0", "1", "5"]
    assert source.scale == 1
    assert source.test is None
    np.testing.assert_array_equal(source.train.y, [0, 1, 0, 1, 2, 2])
    np.testing.assert_array_equal(source.samples(np.array([1, 5])), X[[1, 5]].astype(np.float32))


def test_capitals_strings_test_set_and_bytes_as_images(save):
    names = np.array(["cat", "dog", "cat", "dog", "cow", "cow"])
    source = read(save(X=X.astype(np.uint8), Y=names, x_test=X[:2].astype(np.uint8), y_test=np.array(["dog", "cat"])))
    assert source.classes == ["cat", "cow", "dog"]
    assert source.scale == 1 / 255
    np.testing.assert_array_equal(source.test.y, [2, 0])


def test_byte_strings_and_columns_as_labels(save):
    assert read(save(x=X, y=np.array([b"b", b"a"] * 3))).classes == ["a", "b"]
    assert read(save(x=X, y=Y[:, None])).classes == ["0", "1", "5"]
    assert read(save(x=X, y=Y == 5)).classes == ["False", "True"]
    assert read(save(x=X, y=Y.astype(float), x_test=X, y_test=Y.astype(str))).classes == ["0", "1", "5"]


def with_value(value):
    x = X.copy()
    x[3, 1, 0] = value
    return x


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {"x": with_value(np.nan), "y": Y},
            ["x: 1 missing values (NaN) in 1 of 6 samples", "row 3 (from 0), step 1, feature 0", "data.missing"],
        ),
        ({"x": with_value(np.inf), "y": Y}, ["infinity", "row 3"]),
        ({"x": with_value(1e300), "y": Y}, ["too large for float32", "row 3"]),
        ({"x": X, "y": Y, "x_test": with_value(np.nan), "y_test": Y}, ["x_test: 1 missing values", "row 3"]),
        ({"x": X, "marks": Y}, ["no array y (labels)", "found x (6, 2, 2) float64, marks (6,) int64"]),
        ({"pictures": X, "y": Y}, ["no array x (samples)", "pictures (6, 2, 2) float64", "recognised: "]),
        ({"x": X, "y": Y, "x_test": X}, ["y_test is missing"]),
        ({"x": X, "y": Y[:-1]}, ["6 samples", "5 labels"]),
        ({"x": X, "y": np.zeros(6, int)}, ["two classes", "'0'"]),
        ({"x": X, "y": np.arange(6) / 7}, ["y: 6 distinct values in 6 samples", "a measured quantity", "classifies"]),
        ({"x": X, "y": np.where(Y == 5, np.nan, Y)}, ["y: 2 labels are missing", "first in row 4", "'drop'"]),
        ({"x": X, "y": np.ones((6, 6))}, ["(6, 6)", "one label for each sample", "Several labels"]),
        ({"x": np.arange(6.0), "y": Y}, ["(6,)", "(samples, values"]),
        ({"x": X[:0], "y": Y[:0]}, ["(0, 2, 2)"]),
        ({"x": X.astype(str), "y": Y}, ["expected numbers"]),
        ({"x": X.astype(complex), "y": Y}, ["expected numbers"]),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, ["'2'", "row 1"]),
        ({"x": X, "y": Y, "x_test": X[:, :1], "y_test": Y}, ["(1, 2)", "(2, 2)"]),
        ({"x": X, "y": Y, "x_test": X.astype(np.uint8), "y_test": Y}, ["one number format"]),
    ],
)
def test_messages_name_the_fault(save, arrays, words):
    path = save(**arrays)
    with pytest.raises(InputError) as caught:
        read(path)
    for word in [*words, path.name]:
        assert word in str(caught.value)


def test_objects_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path = tmp_path / "trap.npz"
    np.savez(path, x=np.array([Trap()] * 6, dtype=object), y=Y)
    with pytest.raises(InputError, match="Python objects"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut", b"\x80\x04pickle"])
def test_files_of_another_kind(tmp_path, content):
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"set\.npz"):
        read(path)


def test_cut_short_altered_missing_and_single_array(save, tmp_path):
    path = save(x=X, y=Y)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"set\.npz"):
        read(path)
    altered = bytearray(whole)
    altered[200] ^= 0xFF
    path.write_bytes(altered)
    with pytest.raises(InputError, match=r"set\.npz"):
        read(path)
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none.npz")
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(InputError, match="single array"):
        read(path)


def test_samples_for_prediction_need_no_labels(save):
    np.testing.assert_array_equal(read_samples(save(x=X)).x, X)
    with pytest.raises(InputError, match=r"no array x \(samples\)"):
        read_samples(save(y=Y))
    with pytest.raises(InputError, match="row 3"):
        read_samples(save(x=with_value(np.nan)))


def test_different_sources_have_different_fingerprints(save):
    first = read(save(x=X, y=Y)).fingerprint()
    assert read(save(x=X, y=Y)).fingerprint() == first
    assert read(save(x=with_value(0.5), y=Y)).fingerprint() != first
    assert read(save(x=X, y=Y[::-1])).fingerprint() != first

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from data.conftest import idx_bytes, write_idx
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import open_source, read_samples
from rcdp_hpc.data.sources.idx import read_idx, read_labels
from rcdp_hpc.data.sources.rows import MappedRows
from rcdp_hpc.errors import InputError

HERE = Path("some-file")


@pytest.fixture
def folder(tmp_path):
    images = np.arange(6 * 2 * 3).reshape(6, 2, 3)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", [3, 1, 3, 9, 1, 3])
    write_idx(tmp_path / "t10k-images-idx3-ubyte", images[:2] + 100)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", [9, 1])
    return tmp_path


def read(folder):
    return open_source(DataSection(source="mnist", path=str(folder)))


def test_known_values(folder):
    source = read(folder)
    assert source.classes == ["1", "3", "9"]
    assert source.train.x.dtype == np.uint8
    np.testing.assert_array_equal(source.train.x, np.arange(36).reshape(6, 2, 3))
    np.testing.assert_array_equal(source.train.y, [1, 0, 1, 2, 0, 1])
    np.testing.assert_array_equal(source.test.y, [2, 0])
    assert source.test.x[0, 0, 0] == 100
    assert source.samples(np.array([6, 7])).dtype == np.float32
    np.testing.assert_allclose(source.samples(np.array([6]))[0, 0, 0], 100 / 255, rtol=1e-6)


def test_white_is_exactly_one(folder):
    write_idx(folder / "train-images-idx3-ubyte.gz", np.full((6, 2, 3), 255))
    assert (read(folder).samples(np.arange(6)) == 1).all()


def test_names_of_emnist_are_accepted(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("emnist")
    for path in folder.iterdir():
        name = path.name.replace("t10k", "test")
        (other / f"emnist-balanced-{name}").write_bytes(path.read_bytes())
    assert len(read(other).test) == 2


def test_test_set_is_optional(folder):
    for path in folder.glob("t10k*"):
        path.unlink()
    assert read(folder).test is None


def test_a_plain_file_has_precedence_over_a_gzipped_one(folder):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"anything")
    assert len(read(folder).train) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "train-labels-idx1-ubyte").unlink(), ["train labels", "train-labels-idx1-ubyte.gz"]),
        (lambda f: (f / "t10k-images-idx3-ubyte").unlink(), ["test images"]),
        (lambda f: (f / "other-train-labels-idx1-ubyte").touch(), ["several", "other-train"]),
        (lambda f: write_idx(f / "train-labels-idx1-ubyte", [1, 2]), ["fewer labels", "2 labels", "6 images"]),
        (lambda f: write_idx(f / "train-labels-idx1-ubyte", [1] * 9), ["more labels", "9 labels"]),
        (
            lambda f: write_idx(f / "train-labels-idx1-ubyte", np.zeros((6, 2, 3))),
            ["magic", "0x00000803", "0x00000801"],
        ),
        (lambda f: write_idx(f / "train-images-idx3-ubyte.gz", [1, 2]), ["magic", "0x00000801", "0x00000803"]),
        (lambda f: write_idx(f / "t10k-labels-idx1-ubyte.gz", [9, 4]), ["'4'", "row 1", "training labels"]),
        (lambda f: write_idx(f / "t10k-images-idx3-ubyte", np.zeros((2, 5, 5))), ["5x5", "2x3"]),
        (lambda f: (f / "train-images-idx3-ubyte.gz").write_bytes(b"plain"), ["train-images", "not a gzip"]),
        (lambda f: write_idx(f / "train-labels-idx1-ubyte", [3] * 6), ["1", "training labels"]),
    ],
)
def test_messages_name_the_fault(folder, change, words):
    change(folder)
    with pytest.raises(InputError) as caught:
        read(folder)
    for word in [*words, str(folder)]:
        assert word in str(caught.value)


def test_one_class_only(folder):
    write_idx(folder / "train-labels-idx1-ubyte", [3] * 6)
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", [3, 3])
    with pytest.raises(InputError, match="two classes or more are needed, only class '3'"):
        read(folder)


def test_missing_folder_and_missing_path(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"data\.path is empty"):
        open_source(DataSection(source="mnist"))
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / "nowhere.gz")


def test_gzip_cut_short(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz: cut short"):
        read(folder)


def test_images_for_prediction_need_no_labels(folder):
    assert read_samples(folder / "t10k-images-idx3-ubyte").x.shape == (2, 2, 3)
    write_idx(folder / "none-images", np.zeros((0, 2, 3)))
    with pytest.raises(InputError, match="no images"):
        read_samples(folder / "none-images")


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)))
def test_round_trip(array):
    np.testing.assert_array_equal(read_idx(io.BytesIO(idx_bytes(array)), HERE), array)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)), st.data())
def test_any_other_length_is_refused_with_both_lengths(array, data):
    whole = idx_bytes(array)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(InputError, match=f"some-file: cut short.*{cut} ") as caught:
        read_idx(io.BytesIO(whole[:cut]), HERE)
    if cut >= 4 + 4 * array.ndim:
        assert f"{len(whole)} bytes expected" in str(caught.value)
    with pytest.raises(InputError, match="longer"):
        read_idx(io.BytesIO(whole + b"x"), HERE)


@given(st.binary(max_size=64))
def test_arbitrary_bytes_raise_only_input_errors(data):
    try:
        array = read_idx(io.BytesIO(data), HERE)
    except InputError:
        return
    assert idx_bytes(array) == data


def test_a_huge_shape_in_the_header_takes_no_memory():
    data = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)
    with pytest.raises(InputError, match="cut short"):
        read_idx(io.BytesIO(data), HERE)


def test_gzip_damaged_inside(folder):
    packed = bytearray(gzip.compress(idx_bytes(np.zeros((6, 20, 30)))))
    packed[15] ^= 0xFF
    (folder / "train-images-idx3-ubyte.gz").write_bytes(packed)
    with pytest.raises(InputError, match="train-images"):
        read(folder)


@pytest.mark.parametrize("packed", [False, True])
def test_images_beyond_the_budget_are_mapped(tmp_path, packed):
    images = np.random.default_rng(0).integers(0, 256, (300, 40, 40), np.uint8)
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{'.gz' * packed}", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(300) % 10)
    sources = [
        open_source(DataSection(source="mnist", path=str(tmp_path), memory_budget=budget)) for budget in (1, 4096)
    ]
    assert isinstance(sources[0].train.x, MappedRows)
    assert isinstance(sources[1].train.x, np.ndarray)
    assert sources[0].fingerprint() == sources[1].fingerprint()
    rows = np.array([299, 0, 7])
    np.testing.assert_array_equal(sources[0].samples(rows), sources[1].samples(rows))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("change", "words"), [(lambda data: data[:-1], "cut short"), (lambda data: data + b"x", "longer")]
)
def test_a_large_file_of_another_length_is_refused(tmp_path, packed, change, words):
    data = change(idx_bytes(np.zeros((300, 40, 40), np.uint8)))
    path = tmp_path / f"images{'.gz' * packed}"
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(InputError, match=f"{words}.*480016 bytes expected for shape 300x40x40, {len(data)} found"):
        read_samples(path, DataSection(memory_budget=1))

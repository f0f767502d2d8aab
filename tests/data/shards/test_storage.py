"""Number formats, compression and lengths in the shards, and other format versions."""

import h5py
import numpy as np
import pytest
import torch
from data.conftest import make_config, uneven_data

from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards import compression as compression_module
from rcdp_hpc.data.shards import writer as shards_module
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.data.split import SPLITS
from rcdp_hpc.errors import DataDamagedError, InputError, StageFailedError
from rcdp_hpc.runtime.digests import read_sealed, write_sealed
from rcdp_hpc.runtime.files import write_json
from rcdp_hpc.training.states.stored_values import values_on


def everything(directory):
    shards = ShardReader(directory)
    return {split: shards.read(split, 0, shards.rows(split)) for split in SPLITS}


@pytest.fixture
def byte_file(tmp_path):
    x, y = uneven_data((60, 30, 12), shape=(9, 5))
    np.savez(tmp_path / "bytes.npz", x=np.clip(x * 40 + 100, 0, 255).astype(np.uint8), y=y)
    return tmp_path / "bytes.npz"


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("uint8", np.arange(256, dtype=np.uint8).reshape(4, 8, 8)),
        ("float16", np.linspace(-9, 9, 24, dtype=np.float16).reshape(2, 3, 4)),
        ("float32", np.linspace(-9, 9, 24, dtype=np.float32).reshape(2, 3, 4)),
    ],
)
def test_a_device_makes_the_same_values_of_stored_samples(kind, stored):
    storage = Storage(kind, scale=1 / 255 if kind == "uint8" else 1.0)
    values = values_on(torch.device("cpu"), storage, stored)
    assert values.dtype == torch.float32
    np.testing.assert_array_equal(values.numpy(), storage.decode(stored))
    assert values_on(torch.device("meta"), storage, stored).shape == stored.shape


def test_rows_are_read_as_they_are_stored(tmp_path, byte_file):
    prepare_shards(make_config(byte_file, shards=2), tmp_path / "bytes")
    shards = ShardReader(tmp_path / "bytes")
    values, stored = shards.read("train", 3, 40), shards.read_stored("train", 3, 40)
    assert stored.x.dtype == np.uint8
    np.testing.assert_array_equal(stored.storage.decode(stored.x), values.x)
    np.testing.assert_array_equal(values.storage.decode(values.x), values.x)
    np.testing.assert_array_equal(stored.y, values.y)


def test_bytes_stay_bytes_and_synthetic_rows_are_rounded(tmp_path, byte_file):
    index = prepare_shards(make_config(byte_file, shards=2), tmp_path / "bytes")
    assert index["storage"] == {"kind": "uint8", "scale": 1 / 255, "compression": "none"}
    prepare_shards(make_config(byte_file, shards=2, storage="float32"), tmp_path / "floats")
    with h5py.File(tmp_path / "bytes/train-00000-of-00002.h5") as file:
        assert file["x"].dtype == np.uint8
    stored, exact = everything(tmp_path / "bytes"), everything(tmp_path / "floats")
    for split in SPLITS:
        original = ~stored[split].synthetic
        np.testing.assert_array_equal(stored[split].x[original], exact[split].x[original])
        np.testing.assert_array_equal(stored[split].source_index, exact[split].source_index)
        assert stored[split].x.dtype == np.float32
    difference = np.abs(stored["train"].x - exact["train"].x)
    assert 0 < difference.max() <= 0.5001 / 255
    for name in ("bytes", "floats"):
        assert verify_shards(tmp_path / name) == []


def test_float16(tmp_path, npz_file):
    prepare_shards(make_config(npz_file, shards=2, storage="float16"), tmp_path / "shards")
    with h5py.File(tmp_path / "shards/train-00000-of-00002.h5") as file:
        assert file["x"].dtype == np.float16
    assert verify_shards(tmp_path / "shards") == []
    x, y = uneven_data()
    np.savez(tmp_path / "large.npz", x=x * 1e6, y=y)
    with pytest.raises(InputError, match="values up to 65504"):
        prepare_shards(make_config(tmp_path / "large.npz", storage="float16", standardize="none"), tmp_path / "other")


def test_uint8_storage_of_floats_is_refused(tmp_path, npz_file):
    with pytest.raises(InputError, match=r"'uint8' needs a source of bytes, this one holds float32"):
        prepare_shards(make_config(npz_file, storage="uint8"), tmp_path / "shards")


@pytest.mark.parametrize("storage", ["uint8", "float32", "float16"])
@pytest.mark.parametrize("compression", ["lzf", "gzip"])
def test_compression(tmp_path, byte_file, storage, compression):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    options = {"shards": 2, "storage": storage}
    prepare_shards(make_config(byte_file, **options), plain)
    prepare_shards(make_config(byte_file, compression=compression, **options), packed)
    with h5py.File(packed / "train-00000-of-00002.h5") as file:
        assert file["x"].compression == compression
    one, other = everything(plain), everything(packed)
    for split in SPLITS:
        np.testing.assert_array_equal(one[split].x, other[split].x)
    assert verify_shards(packed) == []


@pytest.mark.parametrize("slow", ["lzf", "gzip"])
def test_the_fastest_compression_is_measured_on_the_disk_of_the_shards(tmp_path, byte_file, monkeypatch, slow):
    read = compression_module._read_seconds
    monkeypatch.setattr(
        compression_module, "_read_seconds", lambda path, rows: read(path, rows) + 10 * (slow in path.name)
    )
    index = prepare_shards(make_config(byte_file, compression="fastest"), tmp_path / "shards")
    (fast,) = {"lzf", "gzip"} - {slow}
    assert index["storage"]["compression"] == fast
    with h5py.File(next((tmp_path / "shards").glob("train-*.h5"))) as file:
        assert file["x"].compression == fast
    assert not list((tmp_path / "shards").glob("measured*"))
    assert verify_shards(tmp_path / "shards") == []


def test_a_full_disk_under_compression(tmp_path, byte_file, monkeypatch):
    def no_room(path, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards_module, "_refuse_full_disk", no_room)
    with pytest.raises(StageFailedError, match="no space left to write"):
        prepare_shards(make_config(byte_file, compression="lzf"), tmp_path / "shards")
    assert not list(tmp_path.glob("shards*"))


@pytest.mark.parametrize("kind", ["uint8", "float16", "float32"])
def test_stored_values_are_read_back(kind):
    storage = Storage(kind, 1 / 255 if kind == "uint8" else 1.0)
    values = storage.rounded(np.linspace(0, 1, 256, dtype=np.float32))
    np.testing.assert_array_equal(storage.rounded(values), values)


def write_series(folder, counts=(40, 15), seed=0):
    generator = np.random.default_rng(seed)
    lines = ["@classLabel true low high", "@data"]
    for label in generator.permutation(np.repeat([0, 1], counts)):
        steps = int(generator.integers(3, 10))
        channels = generator.normal(size=(2, steps)) + label
        values = ":".join(",".join(f"{value:.4f}" for value in channel) for channel in channels)
        lines.append(f"{values}:{('low', 'high')[label]}")
    (folder / "s_TRAIN.ts").write_text("\n".join(lines))
    return folder / "s_TRAIN.ts"


@pytest.fixture
def series_shards(tmp_path):
    prepare_shards(make_config(write_series(tmp_path), source="ts", shards=2), tmp_path / "shards")
    return tmp_path / "shards"


def test_shards_have_lengths(series_shards):
    rows = everything(series_shards)
    train = rows["train"]
    assert train.length.dtype == np.int32
    for row in range(len(train.y)):
        assert not train.x[row, train.length[row] :].any()
        assert train.x[row, train.length[row] - 1].any()
    assert verify_shards(series_shards) == []
    made = np.flatnonzero(train.synthetic)
    assert len(made)
    where = {int(s): i for i, s in enumerate(train.source_index) if not train.synthetic[i]}
    for row in made:
        source, other = where[int(train.source_index[row])], where[int(train.neighbour_index[row])]
        length = train.length[row]
        assert length == train.length[source]
        # The neighbour is resampled to the length of its seed first.
        old, new = np.arange(train.length[other]), np.linspace(0, train.length[other] - 1, length)
        end = np.stack([np.interp(new, old, train.x[other, : len(old), d]) for d in range(2)], axis=1)
        expected = train.x[source, :length] + train.step[row] * (end - train.x[source, :length])
        np.testing.assert_allclose(train.x[row, :length], expected, atol=1e-5)


def test_rows_without_padding_have_no_lengths(tmp_path, npz_file):
    prepare_shards(make_config(npz_file), tmp_path / "shards")
    assert everything(tmp_path / "shards")["train"].length is None


def test_a_shard_without_lengths_is_damaged(series_shards):
    path = next(series_shards.glob("train-00000*"))
    with h5py.File(path, "r+") as file:
        del file["length"]
    with pytest.raises(DataDamagedError, match=r"length is missing|bytes long"):
        ShardReader(series_shards, verify=False).read("train", 0, 1)


def test_other_formats_are_refused(tmp_path, npz_file):
    prepare_shards(make_config(npz_file), tmp_path / "shards")
    path = tmp_path / "shards/index.json"
    index = read_sealed(path)
    write_sealed(path, {**index, "format_version": 5})
    with pytest.raises(InputError, match="has format version 5, this package reads version 4"):
        ShardReader(tmp_path / "shards")
    write_json(path, {**index, "format_version": 3})  # earlier formats had no digest
    with pytest.raises(InputError, match=r"version 3.* Prepare again with --restart"):
        ShardReader(tmp_path / "shards")
    write_json(path, index)
    with pytest.raises(DataDamagedError, match="no checksum"):
        ShardReader(tmp_path / "shards")

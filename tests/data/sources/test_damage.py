"""Files that are cut short or altered give a message or the right data, but no traceback and not less data."""

import gzip
import io
import os
import pickle
import random
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
from data.conftest import write_idx
from data.sources.conftest import everything, opened, write_tar

from rcdp_hpc.data.sources import hdf5_file
from rcdp_hpc.errors import InputError

X = np.random.default_rng(0).normal(size=(60, 6, 3)).astype(np.float32)
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
Y = np.arange(60) % 3


def npz(folder, save=np.savez):
    save(folder / "d.npz", x=X, y=Y)
    return "npz", folder / "d.npz", folder / "d.npz"


def packed_npz(folder):
    return npz(folder, np.savez_compressed)


def npy(folder):
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    return "npy", folder, folder / "x.npy"


def hdf5(folder, **options):
    with h5py.File(folder / "d.h5", "w") as file:
        file.create_dataset("x", data=X, **options)
        file["y"] = Y
    return "hdf5", folder / "d.h5", folder / "d.h5"


def packed_hdf5(folder):
    return hdf5(folder, compression="gzip", chunks=(10, 6, 3), fletcher32=True)


def idx(folder, suffix=""):
    for name, array in (("train-images-idx3-ubyte", IMAGES), ("train-labels-idx1-ubyte", Y.astype(np.uint8))):
        write_idx(folder / name, array)
        if suffix:
            (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
            (folder / name).unlink()
    return "mnist", folder, folder / f"train-images-idx3-ubyte{suffix}"


def packed_idx(folder):
    return idx(folder, ".gz")


def cifar(folder, mode="w"):
    rng = np.random.default_rng(0)
    batch = {b"data": rng.integers(0, 256, (4, 3072)).astype(np.uint8), b"labels": [0, 1, 0, 1]}
    members = {f"c/{name}": pickle.dumps(batch, 2) for name in [f"data_batch_{n}" for n in range(1, 6)]}
    members |= {
        "c/test_batch": pickle.dumps(batch, 2),
        "c/batches.meta": pickle.dumps({b"label_names": [b"a", b"b"]}, 2),
    }
    return "cifar10", write_tar(folder / "c.tar", members, mode), folder / "c.tar"


def packed_cifar(folder):
    return cifar(folder, "w:gz")


# Formats that keep a checksum of everything, so that altered data never pass.
CHECKED = (npz, packed_npz, packed_idx, packed_cifar)
ALL = (*CHECKED, npy, hdf5, packed_hdf5, idx, cifar)


def read(source, path):
    """Return the samples, or None if the file was refused."""
    try:
        return everything(opened(source, path).train)
    except InputError:
        return None


@pytest.mark.parametrize("make", ALL)
def test_files_that_are_cut_short(tmp_path, make):
    source, path, file = make(tmp_path)
    whole, expected = file.read_bytes(), read(source, path)
    draw = random.Random(1)
    for size in [0, 1, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(30))]:
        file.write_bytes(whole[:size])
        found = read(source, path)
        # What ends a tar file is padding.
        assert found is None or (make is cifar and np.array_equal(found, expected)), size


@pytest.mark.parametrize("make", ALL)
def test_files_with_an_altered_bit(tmp_path, make):
    source, path, file = make(tmp_path)
    whole, expected = file.read_bytes(), read(source, path)
    draw = random.Random(2)
    for _ in range(40):
        altered, place = bytearray(whole), draw.randrange(len(whole))
        altered[place] ^= 1 << draw.randrange(8)
        file.write_bytes(altered)
        found = read(source, path)
        assert found is None or found.shape == expected.shape, place
        if make in CHECKED and found is not None:
            np.testing.assert_array_equal(found, expected, str(place))


def test_hdf5_that_is_cut_short_is_not_reported_as_locked(tmp_path):
    _, path, _ = hdf5(tmp_path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match=r"d\.h5: cut short: \d+ of \d+ bytes"):
        opened("hdf5", path)


@pytest.mark.parametrize("memory_budget", [1, 4096])
def test_a_damaged_chunk_names_dataset_and_rows(tmp_path, memory_budget):
    x = np.random.default_rng(0).normal(size=(3000, 40)).astype(np.float32)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["y"] = np.arange(3000) % 2
        dataset = file.create_dataset("x", data=x, compression="gzip", chunks=(100, 40))
        place = dataset.id.get_chunk_info(17).byte_offset
    with (tmp_path / "d.h5").open("r+b") as file:
        file.seek(place + 20)
        file.write(b"damage" * 20)
    with pytest.raises(InputError, match=r"rows \d+ to \d+ of dataset /x cannot be read"):
        opened("hdf5", tmp_path / "d.h5", memory_budget=memory_budget).fingerprint()


def test_rows_that_are_damaged_later(tmp_path):
    x = np.zeros((3000, 400), np.uint8)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["y"] = np.arange(3000) % 2
        dataset = file.create_dataset("x", data=x, compression="gzip", chunks=(100, 400))
        place = dataset.id.get_chunk_info(29).byte_offset
    with (tmp_path / "d.h5").open("r+b") as file:
        file.seek(place)
        file.write(b"damage")
    # Bytes are not looked at before they are used.
    source = opened("hdf5", tmp_path / "d.h5", memory_budget=1)
    assert not source.train.x[:100].any()
    with pytest.raises(InputError, match=r"rows 2950 to 2950 of dataset /x"):
        source.samples(np.array([3, 2950]))


def test_a_filter_that_is_not_installed(tmp_path, monkeypatch):
    _, path, _ = packed_hdf5(tmp_path)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code != h5py.h5z.FILTER_DEFLATE)
    with pytest.raises(InputError, match=r"dataset /x is compressed by the HDF5 filter deflate \(number 1\).*h5repack"):
        opened("hdf5", path)


def test_file_systems_without_a_lock_service(tmp_path, monkeypatch):
    source, path, _ = hdf5(tmp_path)

    def refuse(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(hdf5_file.fcntl, "flock", refuse)
    np.testing.assert_array_equal(read(source, path), X)


def test_hdf5_whose_writer_was_killed(tmp_path):
    code = (
        f"import h5py, os, signal; f = h5py.File({str(tmp_path / 'd.h5')!r}, 'w', libver='latest'); f['x'] = [[1]]; "
        "f.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    with pytest.raises(InputError, match="not closed by the program that wrote it"):
        opened("hdf5", tmp_path / "d.h5")


def test_hdf5_after_a_user_block(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w", userblock_size=1024) as file:
        file["x"], file["y"] = X, Y
    np.testing.assert_array_equal(read("hdf5", tmp_path / "d.h5"), X)
    whole = (tmp_path / "d.h5").read_bytes()
    (tmp_path / "d.h5").write_bytes(whole[:-100])
    with pytest.raises(InputError, match="cut short"):
        opened("hdf5", tmp_path / "d.h5")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(tmp_path):
    _, path, _ = hdf5(tmp_path)
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        opened("hdf5", path)


def test_npz_with_two_arrays_of_one_name(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, X)
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", buffer.getvalue())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.npy", buffer.getvalue())
    with pytest.raises(InputError, match="holds x twice"):
        opened("npz", tmp_path / "d.npz")


def test_structured_arrays_and_objects(tmp_path):
    x = np.zeros(6, [("a", "f4"), ("b", "f4")])
    np.savez(tmp_path / "d.npz", x=x, y=Y[:6])
    with pytest.raises(InputError, match="structured array with the fields a, b"):
        opened("npz", tmp_path / "d.npz")
    ragged = np.array([np.zeros(2), np.zeros(3)], dtype=object)
    np.savez(tmp_path / "e.npz", x=ragged, y=Y[:2])
    with pytest.raises(InputError, match=r"Python objects.*lengths=lengths"):
        opened("npz", tmp_path / "e.npz")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        dataset = file.create_dataset("x", (2,), h5py.vlen_dtype(np.float32))
        dataset[0], dataset[1] = [1], [2, 3]
        file["y"] = [0, 1]
    with pytest.raises(InputError, match=r"rows of unequal length.*lengths=lengths"):
        opened("hdf5", tmp_path / "d.h5")

"""npy, npz beyond the budget, and hdf5."""

import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from data.sources.conftest import everything, opened

from rcdp_hpc.data.sources import hdf5 as hdf5_module
from rcdp_hpc.errors import InputError

ROWS = np.array([2999, 0, 17, 17, 16])


@pytest.fixture(scope="module")
def arrays():
    x = np.random.default_rng(0).normal(size=(3000, 10, 12)).astype(np.float32)
    return x, np.arange(3000) % 3


def write_npy(folder, **arrays):
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def test_npy(tmp_path, arrays):
    x, y = arrays
    folder = write_npy(tmp_path / "d", x=x, y=y, x_test=x[:5], y_test=y[:5])
    held, streamed = opened("npy", folder), opened("npy", folder, memory_budget=1)
    assert isinstance(held.train.x, np.ndarray)
    assert not isinstance(streamed.train.x, np.ndarray)
    np.testing.assert_array_equal(streamed.train.x[ROWS], x[ROWS])
    assert streamed.classes == ["0", "1", "2"]
    assert len(streamed.test) == 5
    assert held.fingerprint() == streamed.fingerprint()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_beyond_the_budget(tmp_path, arrays, save):
    x, y = arrays
    save(tmp_path / "d.npz", x=x, y=y)
    source = opened("npz", tmp_path / "d.npz", memory_budget=1)
    assert not isinstance(source.train.x, np.ndarray)
    np.testing.assert_array_equal(source.train.x[ROWS], x[ROWS])
    assert source.fingerprint() == opened("npz", tmp_path / "d.npz").fingerprint()


def test_values_that_are_not_finite_are_found_in_arrays_that_are_not_held(tmp_path, arrays):
    x, y = arrays[0].copy(), arrays[1]
    x[1234, 3, 4] = np.nan
    with pytest.raises(InputError, match=r"first in row 1234 \(from 0\), step 3, feature 4"):
        opened("npy", write_npy(tmp_path / "d", x=x, y=y), memory_budget=1)


def test_bad_npy(tmp_path, arrays):
    x, y = arrays
    with pytest.raises(InputError, match=r"no array y \(labels\); found x\.npy"):
        opened("npy", write_npy(tmp_path / "a", x=x))
    with pytest.raises(InputError, match="2999 labels"):
        opened("npy", write_npy(tmp_path / "b", x=x, y=y[1:]))
    with pytest.raises(InputError, match="Python objects"):
        opened("npy", write_npy(tmp_path / "c", x=np.array([[print]]), y=y))
    with pytest.raises(InputError, match="not a folder"):
        opened("npy", tmp_path / "gone")
    folder = write_npy(tmp_path / "e", x=x, y=y)
    (folder / "x.npy").write_bytes((folder / "x.npy").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"x\.npy"):
        opened("npy", folder)


@pytest.mark.parametrize("chunks", [None, (7, 10, 12)])
def test_hdf5(tmp_path, arrays, monkeypatch, chunks):
    x, y = arrays
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("some/images", data=x, chunks=chunks)
        file["names"] = np.array(["cat", "ant", "bee"], dtype=object)[y]
        file["tx"], file["ty"] = x[:4], np.array([b"ant", b"ant", b"bee", b"cat"])
    options = {"x_name": "some/images", "y_name": "/names", "x_test_name": "tx", "y_test_name": "ty"}
    held = opened("hdf5", tmp_path / "d.h5", **options)
    streamed = opened("hdf5", tmp_path / "d.h5", memory_budget=1, **options)
    assert held.classes == streamed.classes == ["ant", "bee", "cat"]
    assert streamed.test.y.tolist() == [0, 0, 1, 2]
    assert not isinstance(streamed.train.x, np.ndarray)
    monkeypatch.setattr(hdf5_module, "SLAB_BYTES", 480 * 20)
    for rows in (ROWS, np.arange(3000)[::-1], np.empty(0, np.int64)):
        np.testing.assert_array_equal(streamed.train.x[rows], x[rows])
    np.testing.assert_array_equal(everything(streamed.train), x)


def test_hdf5_links_out_of_the_file(tmp_path, arrays):
    x, y = arrays
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = x
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["y"], file["real"] = y, x
        file["outer"] = h5py.ExternalLink("other.h5", "x")
        file["soft"] = h5py.SoftLink("/real")
        file["group/z"] = x
        layout = h5py.VirtualLayout(x.shape, x.dtype)
        layout[:] = h5py.VirtualSource("other.h5", "x", x.shape)
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("stored", (3,), "f4", external=[("raw.bin", 0, h5py.h5f.UNLIMITED)])
    for name, message in (
        ("outer", "not followed"),
        ("soft", "not followed"),
        ("virtual", "content in other files"),
        ("stored", "content in other files"),
        ("nowhere", "no dataset 'nowhere'; the file holds group/z"),
        ("group", "not a dataset with rows"),
        ("real/x", "no dataset"),
    ):
        with pytest.raises(InputError, match=message):
            opened("hdf5", tmp_path / "d.h5", x_name=name)


def test_hdf5_that_is_open_for_writing_elsewhere(tmp_path, arrays):
    path = tmp_path / "d.h5"
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = arrays
    code = f"import h5py, sys, time; f = h5py.File({str(path)!r}, 'a'); print('open', flush=True); time.sleep(60)"
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"open\n"
        with pytest.raises(InputError, match="open for writing in another process"):
            opened("hdf5", path)
    finally:
        writer.kill()
        writer.wait()
    time.sleep(0)
    opened("hdf5", path)


def test_damaged_hdf5(tmp_path):
    (tmp_path / "d.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    with pytest.raises(InputError, match="not an HDF5 file, or its beginning is damaged"):
        opened("hdf5", tmp_path / "d.h5")
    with pytest.raises(InputError, match="no such file"):
        opened("hdf5", tmp_path / "gone.h5")

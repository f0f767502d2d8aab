import errno
import os

import numpy as np
import pytest
from data.sources.conftest import opened

from rcdp_hpc.data.sources import rows as rows_module
from rcdp_hpc.data.sources.rows import MappedRows, RaggedRows, Spool
from rcdp_hpc.errors import StageFailedError


@pytest.mark.parametrize("room", [0, 50, 10**6])
def test_a_spool_returns_the_added_rows(room):
    blocks = np.split(np.arange(60, dtype=np.int16).reshape(20, 3), [3, 4, 11])
    spool = Spool((3,), np.dtype(np.int16), room)
    for block in blocks:
        spool.add(block)
    found = spool.finish()
    assert isinstance(found, np.ndarray if room > 120 else MappedRows)
    assert found.shape == (20, 3)
    np.testing.assert_array_equal(found[np.array([19, 0, 5])], np.concatenate(blocks)[[19, 0, 5]])
    np.testing.assert_array_equal(found[:], np.concatenate(blocks))


def test_pages_are_released(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "RELEASE_BYTES", 100)
    np.save(tmp_path / "x.npy", np.arange(1000).reshape(100, 10))
    rows = MappedRows(np.load(tmp_path / "x.npy", mmap_mode="r"))
    for _ in range(3):
        np.testing.assert_array_equal(rows[5:7], np.arange(50, 70).reshape(2, 10))


def test_ragged_rows_in_another_order():
    steps = np.arange(12, dtype=np.float32).reshape(6, 2)
    rows = RaggedRows(steps, np.array([0, 4]), np.array([4, 2]), 5, np.array([5, 4, 3, 2, 1, 0]))
    assert rows[:1][0, :, 0].tolist() == [10, 8, 6, 4, 0]
    assert rows[np.array([1])][0, :, 1].tolist() == [3, 1, 0, 0, 0]


def test_a_full_disk_while_a_source_is_spooled(tmp_path, monkeypatch):
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(rows_module.tempfile, "TemporaryFile", lambda **options: Full())
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((5000, 100), np.float32), y=np.arange(5000) % 2)
    with pytest.raises(StageFailedError, match=r"No space left.*set TMPDIR to a larger disk"):
        opened("npz", tmp_path / "d.npz", memory_budget=1)


def test_a_file_system_without_shared_mappings(tmp_path, monkeypatch):
    real, modes = np.memmap, []

    def memmap(file, dtype, mode, *rest):
        modes.append(mode)
        if mode == "r":
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return real(file, dtype, mode, *rest)

    np.arange(12, dtype="<f4").tofile(tmp_path / "file")
    monkeypatch.setattr(np, "memmap", memmap)
    rows = rows_module.mapped(tmp_path / "file", np.dtype("<f4"), (4, 2), 16)
    assert modes == ["r", "c"]
    assert rows[1:3].tolist() == [[6, 7], [8, 9]]

from __future__ import annotations

import errno
import os

import pytest

from rcdp_hpc.errors import DataDamagedError, InputError, StageFailedError
from rcdp_hpc.runtime.files import (
    overwrite_json,
    read_json,
    write_atomic,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_earlier_file_and_no_rubbish(tmp_path):
    path = tmp_path / "file"
    write_text(path, "first")

    def half(file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StageFailedError, match="no room left"):
        write_atomic(path, half)
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["file"]


def test_a_real_full_device_is_explained(tmp_path):
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(StageFailedError, match="no room left"),
    ):
        write_atomic(tmp_path / "file", lambda file: full.write(b"x"))


def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((InputError, StageFailedError), match="file"):
        write_text(tmp_path / "file" / "below", "x")


def test_broken_json_is_damage(tmp_path):
    path = tmp_path / "state.json"
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    path.write_text('{"a"')
    with pytest.raises(DataDamagedError, match=r"state\.json"):
        read_json(path)


def test_a_small_file_is_written_over_itself(tmp_path):
    path = tmp_path / "state.json"
    write_json(path, {"a": "long" * 100})
    before = path.stat().st_ino
    overwrite_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    assert path.stat().st_ino == before
    with pytest.raises(StageFailedError, match="nowhere"):
        overwrite_json(tmp_path / "nowhere", {})

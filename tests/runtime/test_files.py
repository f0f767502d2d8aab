from __future__ import annotations

import errno
import os
import resource
import shutil

import pytest

from rcdp_hpc.errors import DataDamagedError, InputError, StageFailedError
from rcdp_hpc.runtime import files
from rcdp_hpc.runtime.files import (
    UNKNOWN_ROOM,
    free_bytes,
    keep_copy,
    overwrite_json,
    read_json,
    reserve,
    write_atomic,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_earlier_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "file"
    write_text(path, "first")

    def half(file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StageFailedError, match="no space left"):
        write_atomic(path, half)
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["file"]


def test_a_real_full_device_is_explained(tmp_path):
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(StageFailedError, match="no space left"),
    ):
        write_atomic(tmp_path / "file", lambda file: full.write(b"x"))


def test_a_folder_that_cannot_be_created_is_explained(tmp_path):
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


def test_a_small_file_is_overwritten_in_place(tmp_path):
    path = tmp_path / "state.json"
    write_json(path, {"a": "long" * 100})
    before = path.stat().st_ino
    overwrite_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    assert path.stat().st_ino == before
    with pytest.raises(StageFailedError, match="nowhere"):
        overwrite_json(tmp_path / "nowhere", {})


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EDQUOT, StageFailedError, "your disk quota is used up"),
        (errno.EIO, StageFailedError, "the disk or the connection to it has failed"),
        (errno.ESTALE, StageFailedError, "another machine has removed or replaced the file"),
        (errno.EFBIG, StageFailedError, "4 GiB on FAT"),
        (errno.EMFILE, StageFailedError, "ulimit -n"),
        (errno.ENOTCONN, StageFailedError, "the file server does not respond"),
        (errno.EOPNOTSUPP, InputError, "the file system does not support an operation"),
        (errno.EILSEQ, InputError, "may not allow the name"),
        (errno.EROFS, InputError, "Read-only file system"),
    ],
)
def test_errors_of_file_systems_have_a_remedy(tmp_path, number, kind, words):
    def fail(file):
        raise OSError(number, os.strerror(number))

    with pytest.raises(kind) as caught:
        write_atomic(tmp_path / "file", fail)
    assert str(caught.value).startswith(f"{tmp_path / 'file'}: ")
    assert words in str(caught.value)


def test_the_first_error_is_reported_not_that_of_a_library(tmp_path):
    def library(file):
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limit[1]))
        try:
            file.write(bytes(2**17))
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0") from None
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    with pytest.raises(StageFailedError, match="ulimit -f"):
        write_atomic(tmp_path / "file", library)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_without_hard_links_the_earlier_file_is_renamed(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "last").write_text("first")
    (tmp_path / "earlier").write_text("older")
    keep_copy(tmp_path / "last", tmp_path / "earlier")
    assert (tmp_path / "earlier").read_text() == "first"
    assert os.listdir(tmp_path) == ["earlier"]


def test_reserving_space_keeps_the_content(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "")

    monkeypatch.setattr(files, "_allocate", refuse)
    with open(tmp_path / "file", "w+b", buffering=0) as file:
        file.write(b"begin")
        file.seek(2**21)
        file.write(b"end")
        reserve(file, 2**21 + 2**10)
        assert os.fstat(file.fileno()).st_blocks * 512 >= 2**21
    content = (tmp_path / "file").read_bytes()
    assert (len(content), content[:5], content[2**21 : 2**21 + 3]) == (2**21 + 2**10, b"begin", b"end")
    assert content.count(0) == len(content) - 8


def test_a_file_system_that_reports_no_size_is_not_full(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(0, 0, 0))
    assert free_bytes(tmp_path) == UNKNOWN_ROOM

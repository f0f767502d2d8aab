from __future__ import annotations

import io
import os
import zipfile

import numpy as np
import pytest
import torch

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.sealed_zip import open_sealed_zip, write_sealed_zip


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "file.pt"
    write_sealed_zip(path, lambda file: torch.save({"x": torch.arange(3.0)}, file))
    return path


def refused(path) -> str:
    with pytest.raises(DataDamagedError) as found, open_sealed_zip(path):
        pass
    assert str(path) in str(found.value)
    return str(found.value)


def is_sealed_zip(path) -> bool:
    try:
        with open_sealed_zip(path):
            return True
    except DataDamagedError:
        return False


def test_every_flipped_bit_is_refused(archive):
    content = archive.read_bytes()
    assert is_sealed_zip(archive)
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 1 << place % 8
        archive.write_bytes(altered)
        assert not is_sealed_zip(archive), place
    archive.write_bytes(content)
    assert is_sealed_zip(archive)


def test_every_other_length_is_refused(archive):
    content = archive.read_bytes()
    for length in range(0, len(content), 7):
        archive.write_bytes(content[:length])
        assert not is_sealed_zip(archive), length
    for more in (b"\0", content, b"PK\x05\x06" + bytes(18)):
        archive.write_bytes(content + more)
        assert not is_sealed_zip(archive)
        archive.write_bytes(more + content)
        assert not is_sealed_zip(archive)


def test_other_readers_accept_the_archive(archive):
    assert torch.equal(torch.load(archive, weights_only=True)["x"], torch.arange(3.0))
    assert zipfile.ZipFile(archive).testzip() is None


def test_bytes_do_not_depend_on_how_they_are_written(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.arange(4))
    content = buffer.getvalue()

    def by_bytes(file):
        for place in range(len(content)):
            file.write(content[place : place + 1])

    write_sealed_zip(tmp_path / "a.npz", by_bytes)
    write_sealed_zip(tmp_path / "b.npz", lambda file: file.write(content))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert is_sealed_zip(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "empty", "loop"])
def test_other_kinds_of_files_give_one_message(kind, tmp_path):
    path = tmp_path / "file.pt"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "empty":
        path.touch()
    elif kind == "loop":
        path.symlink_to(path)
    refused(path)


def test_compressed_members_are_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros", bytes(2**20))
    write_sealed_zip(tmp_path / "a.pt", lambda file: file.write(buffer.getvalue()))
    assert "compressed" in refused(tmp_path / "a.pt")

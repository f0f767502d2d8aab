import errno
import hashlib
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from data.conftest import make_config

from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards import writer as shards_module
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.errors import InputError, StageFailedError, StoppedError
from rcdp_hpc.runtime import files


def fingerprints(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


@pytest.fixture
def prepared(tmp_path, npz_file):
    """An earlier preparation with seed 1."""
    prepare_shards(make_config(npz_file), tmp_path / "shards")
    return tmp_path / "shards"


def stop_after(calls):
    left = iter(range(calls))

    def check():
        if next(left, None) is None:
            raise StoppedError("stopped by a test")

    return check


def assert_untouched(directory, before):
    assert fingerprints(directory) == before
    assert sorted(path.name for path in directory.parent.iterdir() if "shards" in path.name) == ["shards"]
    assert verify_shards(directory) == []


@pytest.mark.parametrize("calls", [0, 1, 3, 12])
def test_a_stop_keeps_the_earlier_preparation(prepared, npz_file, calls):
    before = fingerprints(prepared)
    with pytest.raises(StoppedError):
        prepare_shards(make_config(npz_file, seed=2), prepared, stop_after(calls), restart=True)
    assert_untouched(prepared, before)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"\.h5: no space left to write \(.* MiB free, so a limit"),
        (errno.EDQUOT, r"\.h5: your disk quota is used up \(Disk quota exceeded\)"),
        (errno.EFBIG, r"\.h5: .*4 GiB on FAT"),
    ],
)
def test_a_full_disk_while_writing(prepared, npz_file, monkeypatch, number, words):
    before = fingerprints(prepared)
    real, left = shards_module._reserve, iter(range(7))

    def reserve(path, size):
        if next(left, None) is None:
            raise OSError(number, os.strerror(number), str(path))
        real(path, size)

    monkeypatch.setattr(shards_module, "_reserve", reserve)
    with pytest.raises(StageFailedError, match=words):
        prepare_shards(make_config(npz_file, seed=2), prepared, restart=True)
    assert_untouched(prepared, before)


def test_a_full_disk_before_writing(prepared, npz_file, monkeypatch):
    before = fingerprints(prepared)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**5, 10**5))
    with pytest.raises(StageFailedError, match=r"MiB needed, 0\.1 MiB free"):
        prepare_shards(make_config(npz_file, seed=2), prepared, restart=True)
    assert_untouched(prepared, before)


def test_other_disk_errors(prepared, npz_file, monkeypatch):
    before = fingerprints(prepared)

    def broken(path, size):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(shards_module, "_reserve", broken)
    with pytest.raises(StageFailedError, match="Input/output error"):
        prepare_shards(make_config(npz_file, seed=2), prepared, restart=True)
    assert_untouched(prepared, before)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EINVAL])
def test_file_systems_that_cannot_allocate(number, tmp_path, npz_file, monkeypatch):
    def unsupported(*_):
        raise OSError(number, "")

    monkeypatch.setattr(files, "_allocate", unsupported)
    prepare_shards(make_config(npz_file), tmp_path / "plain")
    assert verify_shards(tmp_path / "plain") == []
    monkeypatch.undo()
    prepare_shards(make_config(npz_file), tmp_path / "reserved")
    assert fingerprints(tmp_path / "plain") == fingerprints(tmp_path / "reserved")


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_small_file_system(small_disk, npz_file, tmp_path, monkeypatch):
    with pytest.raises(StageFailedError, match=r"1\.\d MiB needed, 1\.0 MiB free"):
        prepare_shards(make_config(npz_file, shards=16), small_disk / "shards")
    # The disk fills up after the check: HDF5 must not be the one to find out.
    monkeypatch.setattr("rcdp_hpc.data.prepare.shards_bytes", lambda *_: 0)
    for filling in (400, 700, 850, 930, 980):
        (small_disk / "other").write_bytes(bytes(filling * 1024))
        with pytest.raises(StageFailedError, match=r"not enough disk space|no space"):
            prepare_shards(make_config(npz_file, shards=60), small_disk / "shards")
        assert os.listdir(small_disk) == ["other"]
    (small_disk / "other").unlink()
    prepare_shards(make_config(npz_file, shards=2), small_disk / "shards")
    assert verify_shards(small_disk / "shards") == []


def test_a_folder_that_cannot_be_written(tmp_path, npz_file, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises((InputError, StageFailedError), match="file"):
        prepare_shards(make_config(npz_file), tmp_path / "file" / "shards")
    with pytest.raises(InputError, match="is a file, expected the folder"):
        prepare_shards(make_config(npz_file), tmp_path / "file")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=r"shards: cannot be written .*--out"):
        prepare_shards(make_config(npz_file), tmp_path / "shards")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_another_user(tmp_path, npz_file):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot be written"):
        prepare_shards(make_config(npz_file), tmp_path / "closed" / "shards")


@pytest.mark.parametrize("restart", [False, True])
def test_foreign_files_are_never_removed(tmp_path, npz_file, restart):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds thesis\.tex, which preparation did not write"):
        prepare_shards(make_config(npz_file), tmp_path / "shards", restart=restart)
    assert (tmp_path / "shards/thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_accepted(tmp_path, npz_file):
    (tmp_path / "shards").mkdir()
    prepare_shards(make_config(npz_file), tmp_path / "shards")
    assert verify_shards(tmp_path / "shards") == []


def test_the_files_of_a_killed_preparation_are_removed(prepared, npz_file, caplog):
    before = fingerprints(prepared)
    shutil.copytree(prepared, prepared.with_name("shards.partial"))
    (prepared.with_name("shards.partial") / "index.json").unlink()
    prepared.with_name("shards.old").mkdir()
    with caplog.at_level(logging.INFO):
        prepare_shards(make_config(npz_file), prepared)
    assert "interrupted preparation" in caplog.text
    assert_untouched(prepared, before)


def test_a_restart_renames_the_earlier_preparation_when_the_new_one_is_complete(prepared, npz_file, caplog):
    before = fingerprints(prepared)
    with caplog.at_level(logging.INFO):
        prepare_shards(make_config(npz_file, seed=2), prepared, restart=True)
    assert "stays until the new shards are complete" in caplog.text
    (aside,) = prepared.parent.glob("shards.before-*/shards")
    assert fingerprints(aside) == before
    assert fingerprints(prepared) != before
    assert verify_shards(prepared) == verify_shards(aside) == []


def test_after_a_kill_after_the_exchange_the_earlier_preparation_is_renamed(prepared, npz_file):
    before = fingerprints(prepared)
    shutil.copytree(prepared, prepared.with_name("shards.old"))
    prepare_shards(make_config(npz_file), prepared)
    (aside,) = prepared.parent.glob("shards.before-*/shards")
    assert fingerprints(aside) == fingerprints(prepared) == before
    assert not prepared.with_name("shards.old").exists()


def test_a_kill_during_the_exchange(prepared, npz_file):
    before = fingerprints(prepared)
    prepared.rename(prepared.with_name("shards.old"))
    prepared.with_name("shards.partial").mkdir()
    # Without the source, only the earlier preparation can be restored.
    npz_file.unlink()
    prepare_shards(make_config(npz_file), prepared)
    assert_untouched(prepared, before)


def test_a_failed_exchange_restores_the_earlier_preparation(prepared, npz_file, monkeypatch):
    before = fingerprints(prepared)
    real = os.rename

    def rename(source, target):
        if str(source).endswith(".partial"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(StageFailedError):
        prepare_shards(make_config(npz_file, seed=2), prepared, restart=True)
    assert_untouched(prepared, before)


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from data.conftest import make_config
from rcdp_hpc.data.prepare import prepare_shards
calls = iter(range(int(sys.argv[4])))
def check():
    if next(calls, None) is None:
        os.kill(os.getpid(), 9)
prepare_shards(make_config(sys.argv[2], seed=2), Path(sys.argv[3]), check, restart=True)
"""


def test_kill_9_loses_nothing(prepared, npz_file):
    before = fingerprints(prepared)
    tests = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(tests.parent)}
    command = [sys.executable, "-c", KILLED, str(tests), str(npz_file), str(prepared), "6"]
    killed = subprocess.run(command, env=environment, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    assert prepared.with_name("shards.partial").exists()
    assert fingerprints(prepared) == before
    prepare_shards(make_config(npz_file), prepared)
    assert_untouched(prepared, before)

"""Failing system calls give one message with the file and a remedy, and the right exit code."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest
from filesystems.conftest import FAST

from rcdp_hpc.errors import EXIT_DAMAGED, EXIT_FAILED, EXIT_INPUT

WORDS = {
    errno.EPERM: "cannot be written (Operation not permitted)",
    errno.EACCES: "cannot be written (Permission denied)",
    errno.EROFS: "Read-only file system",
    errno.EOPNOTSUPP: "the file system does not support an operation",
    errno.EIO: "the disk or the connection to it has failed",
    errno.ESTALE: "another machine has removed or replaced the file",
    errno.EDQUOT: "your disk quota is used up",
    errno.ENOSPC: "no space left to write",
    errno.EFBIG: "4 GiB on FAT",
}
CODES = dict.fromkeys((errno.EPERM, errno.EACCES, errno.EROFS, errno.EOPNOTSUPP), EXIT_INPUT)


@pytest.fixture(scope="module")
def finished(failing, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    done = failing("", "run", "digits", "--out", out, *FAST)
    assert done["code"] == 0, done["printed"]
    return out


def check(done: dict, number: int, code: int, name: str) -> None:
    errors = [line for line in done["printed"].splitlines() if "error:" in line]
    assert "Traceback" not in done["printed"], done["printed"]
    assert len(errors) == 1, done["printed"]
    assert WORDS[number] in errors[0]
    assert name in errors[0].partition(": " + WORDS[number][:9])[0]
    assert done["code"] == code, done["printed"]


@pytest.mark.parametrize(
    ("call", "number", "name", "passing"),
    [
        ("write", errno.EIO, ".h5", 3),
        ("write", errno.EDQUOT, ".h5", 40),
        ("write", errno.ESTALE, ".h5", 20),
        ("truncate", errno.ESTALE, ".h5", 0),
        ("fallocate", errno.EDQUOT, ".h5", 2),
        ("fallocate", errno.EFBIG, ".h5", 0),
        ("fsync", errno.EIO, ".h5", 1),
        ("open", errno.EROFS, ".h5", 2),
        ("rename", errno.EPERM, "shards", 3),
        ("write", errno.ESTALE, "index.json", 0),
        ("fsync", errno.ENOSPC, "config.toml", 0),
        ("mkdir", errno.EDQUOT, "shards", 0),
    ],
)
def test_preparing(failing, tmp_path, call, number, name, passing):
    # HDF5 itself writes compressed data, without allocating space before.
    compression = "gzip" if passing > 1 else "none"
    rule = f"{call}:{number}:{name}:{passing}"
    out, settings = tmp_path / "run", (*FAST, "--set", f"data.compression={compression}")
    done = failing(rule, "prepare", "digits", "--out", out, *settings)
    check(done, number, CODES.get(number, EXIT_FAILED), name)
    assert not (out / "shards").exists()
    done = failing("", "prepare", "digits", "--out", out, *settings)
    assert done["code"] == 0, done["printed"]


def test_space_allocated_by_writing_detects_a_quota(failing, tmp_path):
    rules = f"fallocate:{errno.EOPNOTSUPP}:.h5:0;write:{errno.EDQUOT}:.h5:5"
    done = failing(rules, "prepare", "digits", "--out", tmp_path / "run", *FAST)
    check(done, errno.EDQUOT, EXIT_FAILED, ".h5")


@pytest.mark.parametrize(
    ("command", "call", "number", "name", "code"),
    [
        ("search", "write", errno.ENOSPC, "journal", EXIT_FAILED),
        ("search", "write", errno.EIO, "history.jsonl", EXIT_FAILED),
        ("search", "rename", errno.EROFS, "checkpoint.npz", EXIT_INPUT),
        ("search", "write", errno.EDQUOT, "best.toml", EXIT_FAILED),
        ("search", "pread", errno.EIO, "train-00000", EXIT_FAILED),
        ("train", "write", errno.EDQUOT, "last.pt", EXIT_FAILED),
        ("train", "fsync", errno.ESTALE, "last.pt", EXIT_FAILED),
        ("train", "link", errno.EIO, "last.pt", EXIT_FAILED),
        ("train", "write", errno.ENOSPC, "metrics.jsonl", EXIT_FAILED),
        ("train", "rename", errno.EROFS, "model.pt", EXIT_INPUT),
        ("evaluate", "write", errno.EIO, "summary.json", EXIT_FAILED),
        ("evaluate", "pread", errno.EIO, "model.pt", EXIT_DAMAGED),
        ("evaluate", "read", errno.ESTALE, "test-0", EXIT_FAILED),
        ("verify", "pread", errno.EIO, "test-0", EXIT_FAILED),
        ("predict", "write", errno.ENOSPC, "labels.csv", EXIT_FAILED),
        ("predict", "pread", errno.EIO, "new.npz", EXIT_FAILED),
    ],
)
def test_the_other_stages(finished, failing, tmp_path, command, call, number, name, code):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    if command in ("search", "train"):
        shutil.rmtree(run / "train")
        (run / "state/train.json").unlink()
    if command == "search":
        shutil.rmtree(run / "search")
        (run / "state/search.json").unlink()
    words = {"verify": [run], "predict": [run, tmp_path / "new.npz", "--to", tmp_path / "labels.csv"]}
    np.savez(tmp_path / "new.npz", x=np.zeros((20, 8, 8), "f4"))
    done = failing(f"{call}:{number}:{name}:0", command, *words.get(command, ["--out", run]))
    check(done, number, code, name)

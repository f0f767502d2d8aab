"""The whole pipeline on file systems without fallocate, hard links, permissions, or case-sensitive names."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from filesystems.conftest import FAST, mounted

from rcdp_hpc.data.shards.verify import verify_shards

# ext2 has no fallocate; FAT has neither that nor links, permissions and case-sensitive names.
KINDS = ("ext2", "vfat", "exfat")
NO_LINKS = ";".join(
    f"{call}:{number}:/:0"
    for call, number in (
        ("link", errno.EPERM), ("symlink", errno.EPERM), ("chmod", errno.ENOSYS), ("fallocate", errno.EOPNOTSUPP),
        ("grow", errno.EPERM),
    )
)  # fmt: skip


def fingerprints(folder: Path) -> dict[str, str]:
    """SHA-256 of every shard."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.h5")}


@pytest.fixture(scope="module")
def plain(failing, tmp_path_factory) -> dict[str, str]:
    """Digests of the shards on an ordinary disk."""
    out = tmp_path_factory.mktemp("plain") / "run"
    done = failing("", "prepare", "digits", "--out", out, *FAST)
    assert done["code"] == 0, done["printed"]
    return fingerprints(out / "shards")


def check_whole_run(failing, rules: str, place: Path, plain: dict[str, str]) -> None:
    """Prepare, search, train, evaluate, resume, predict and prepare again."""
    samples = place / "new.npz"
    np.savez(samples, x=np.random.default_rng(0).uniform(0, 16, (20, 8, 8)).astype("f4"))
    run = place / "run"
    for command in (
        ("run", "digits", "--out", run, *FAST),
        ("train", "--out", run, "--set", "training.epochs=2"),
        ("predict", run, samples, "--to", place / "labels.csv"),
        ("prepare", "--out", run, "--restart"),
    ):
        done = failing(rules, *command)
        assert done["code"] == 0, done["printed"]
    assert (run / "train/last.pt.previous").exists()
    assert len((place / "labels.csv").read_text().splitlines()) == 21
    assert not list(run.rglob("*.tmp"))
    assert verify_shards(run / "shards") == []
    assert fingerprints(run / "shards") == plain


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_run(kind, failing, tmp_path, plain):
    with mounted(kind, tmp_path) as place:
        check_whole_run(failing, "", place, plain)


def test_a_whole_run_without_links_permissions_and_fallocate(failing, tmp_path, plain):
    check_whole_run(failing, NO_LINKS, tmp_path, plain)


def test_a_disk_without_fallocate_that_is_full(failing, tmp_path):
    with mounted("ext2", tmp_path) as place:
        (place / "run").mkdir()
        with contextlib.suppress(OSError), (place / "ballast").open("wb", buffering=0) as file:
            while file.write(bytes(2**14)):
                pass
        # The shards need about 600 KiB, more than any of these sizes.
        for free in (200, 400, 550):
            with (place / "ballast").open("r+b") as file:
                file.truncate(file.seek(0, os.SEEK_END) - 2**10 * (free - shutil.disk_usage(place).free // 2**10))
            done = failing("", "prepare", "digits", "--out", place / "run", *FAST)
            errors = [line for line in done["printed"].splitlines() if "error:" in line]
            assert done["code"] == 1, done["printed"]
            assert len(errors) == 1, done["printed"]
            assert "not enough disk space" in errors[0] or "no space left" in errors[0]
            assert "Traceback" not in done["printed"]
            assert not list(place.rglob("*.h5"))

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from data.shards.test_reader import flip
from launch import python, rcdp, run_ranks

from rcdp_hpc.data.shards import stage_in
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.stage_in import staged_in
from rcdp_hpc.errors import StageFailedError, StoppedError
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.owners import this_process


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A temporary folder as $TMPDIR."""
    folder = tmp_path / "local"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def whole(shards):
    return [(split, 0, shards.rows(split)) for split in ("train", "validation")]


def go_on():
    pass


def test_rows_are_read_from_copies_that_are_removed_at_the_end(digits_shards, place):
    shards, plain = ShardReader(digits_shards), ShardReader(digits_shards)
    with staged_in(SingleProcess(), shards, whole(shards), go_on):
        (folder,) = place.iterdir()
        assert folder.stat().st_mode & 0o077 == 0
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            entry["file"] for piece in whole(shards) for entry in shards.entries(*piece)
        )
        rows = shards.read("train", 3, 500)
        assert all(Path(file.filename).parent == folder for file in shards._open.values())
    np.testing.assert_array_equal(rows.x, plain.read("train", 3, 500).x)
    assert list(place.iterdir()) == []
    np.testing.assert_array_equal(shards.read("train", 3, 500).x, rows.x)


def test_only_files_with_the_rows_are_copied(digits_shards, place):
    shards = ShardReader(digits_shards)
    with staged_in(SingleProcess(), shards, [("train", 0, 1)], go_on):
        assert list(shards.local_copies) == ["train-00000-of-00005.h5"]


def test_an_error_within_the_block_removes_the_copies(digits_shards, place):
    shards = ShardReader(digits_shards)
    with pytest.raises(ValueError, match="boom"), staged_in(SingleProcess(), shards, whole(shards), go_on):
        raise ValueError("boom")
    assert list(place.iterdir()) == []
    assert shards.local_copies == {}


def test_a_stop_while_copying_removes_the_copies(digits_shards, place):
    def stop():
        if list(place.glob("*/val-*")):
            raise StoppedError("stopped by a test")

    shards = ShardReader(digits_shards)
    with pytest.raises(StoppedError), staged_in(SingleProcess(), shards, whole(shards), stop):
        pass
    assert list(place.iterdir()) == []


def test_a_full_disk_is_reported_before_copying(digits_shards, place, monkeypatch):
    monkeypatch.setattr(stage_in, "SPARE_BYTES", 2**62)
    shards = ShardReader(digits_shards)
    with (
        pytest.raises(StageFailedError, match=r"not enough disk space for copies .* Set TMPDIR"),
        staged_in(SingleProcess(), shards, whole(shards), go_on),
    ):
        pass
    assert list(place.iterdir()) == []


def test_a_damaged_file_is_not_copied_and_reported_by_the_reader(digits_shards, place, tmp_path):
    directory = shutil.copytree(digits_shards, tmp_path / "shards")
    flip(directory / "train-00001-of-00005.h5")
    shards = ShardReader(directory)
    with staged_in(SingleProcess(), shards, whole(shards), go_on):
        assert "train-00001-of-00005.h5" not in shards.local_copies
        found = shards.damaged("train", 0, shards.rows("train"), go_on)
    assert list(found) == ["train-00001-of-00005.h5"]
    assert str(directory) in found["train-00001-of-00005.h5"]


def test_only_the_copies_of_a_killed_job_are_removed(digits_shards, place, dead_process):
    shards = ShardReader(digits_shards)
    with staged_in(SingleProcess(), shards, whole(shards), go_on):
        (folder,) = place.iterdir()
        left = shutil.copytree(folder, place / folder.name.replace(this_process().tag, dead_process.tag))
    other = place / "rcdp-0123456789abcdef-other"
    other.mkdir()
    assert left.exists()
    with staged_in(SingleProcess(), shards, whole(shards), go_on):
        assert not left.exists()
        assert other.exists()


def test_other_tasks_on_the_node_keep_their_copies(digits_shards, place):
    one, two = ShardReader(digits_shards), ShardReader(digits_shards)
    with staged_in(SingleProcess(), one, whole(one), go_on):
        with staged_in(SingleProcess(), two, whole(two), go_on):
            assert len(list(place.iterdir())) == 2
        assert all(path.exists() for path in one.local_copies.values())


@pytest.mark.mpi
def test_ranks_of_a_node_share_one_copy_with_the_same_result(tmp_path):
    (tmp_path / "local").mkdir()
    code = (
        "import sys, rcdp_hpc.cli as cli, rcdp_hpc.data.shards.stage_in as stage_in\n"
        "copy = stage_in._copy\n"
        "def logged(*arguments):\n"
        "    print('copying', flush=True)\n"
        "    return copy(*arguments)\n"
        "stage_in._copy = logged\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    wishes = (
        "reservoir.nodes=30", "reservoir.kernel=dense-fp32", "search.generations=0", "training.epochs=2",
        "training.threads=1", "training.batch=24", "data.shards=5",
    )  # fmt: skip
    flags = [part for wish in wishes for part in ("--set", wish)]
    for out in ("with", "without"):
        done = run_ranks(0, rcdp("prepare", "digits", "--out", str(tmp_path / out), *flags))
        assert done.returncode == 0, done.stdout
    env = {"TMPDIR": str(tmp_path / "local")}
    staged = ["train", "--out", str(tmp_path / "with"), *flags, "--set", "data.stage_in=true"]
    done = run_ranks(2, [*python(code), *staged], env=env)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("copying\n") == 1
    assert not list((tmp_path / "local").glob("rcdp-*"))
    assert run_ranks(2, rcdp("train", "--out", str(tmp_path / "without"), *flags)).returncode == 0
    losses = [
        [json.loads(line)["train_loss"] for line in (tmp_path / out / "train/metrics.jsonl").read_text().splitlines()]
        for out in ("with", "without")
    ]
    assert losses[0] == losses[1]

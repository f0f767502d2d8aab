import fcntl
import multiprocessing
import os
import pickle
import shutil

import h5py
import numpy as np
import pytest
from data.conftest import make_config
from hypothesis import given, settings
from hypothesis import strategies as st

from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.runtime.digests import read_sealed, write_sealed


@pytest.fixture
def directory(digits_shards, tmp_path):
    return shutil.copytree(digits_shards, tmp_path / "shards")


FIRST = "train-00000-of-00005.h5"


def rewrite(directory, change, name=FIRST):
    """Change a shard and adapt the index to its new bytes, as a malicious writer would."""
    with h5py.File(directory / name, "r+") as file:
        change(file)
    index = read_sealed(directory / "index.json")
    for split in index["splits"].values():
        for shard in split["shards"]:
            if shard["file"] == name:
                shard["bytes"] = os.path.getsize(directory / name)
    write_sealed(directory / "index.json", index)


def test_attributes_and_rows(digits_shards):
    shards = ShardReader(digits_shards)
    assert shards.classes == list("0123456789")
    assert shards.sample_shape == (8, 8)
    assert shards.scale == 1 / 16
    assert shards.class_counts("train").sum() == shards.rows("train")
    rows = shards.read("train", 3, 10)
    assert rows.x.shape == (7, 8, 8)
    assert [a.dtype for a in (rows.x, rows.y, rows.synthetic, rows.source_index)] == ["f4", "i4", "bool", "i8"]
    assert shards.read("test", 5, 5).x.shape == (0, 8, 8)
    shards.close()
    assert len(shards.read("test", 0, 5).y) == 5


def test_rows_out_of_range_and_unknown_splits(digits_shards):
    shards = ShardReader(digits_shards)
    with pytest.raises(IndexError, match="of test"):
        shards.read("test", 0, shards.rows("test") + 1)
    with pytest.raises(ValueError, match="'val' is not one of train, validation, test"):
        shards.rows("val")


@settings(deadline=None)
@given(st.data())
def test_any_range_of_rows(digits_shards, data):
    shards = ShardReader(digits_shards, verify=False)
    whole = shards.read("train", 0, shards.rows("train"))
    start = data.draw(st.integers(0, len(whole.y)))
    stop = data.draw(st.integers(start, len(whole.y)))
    part = shards.read("train", start, stop)
    np.testing.assert_array_equal(part.x, whole.x[start:stop])
    np.testing.assert_array_equal(part.source_index, whole.source_index[start:stop])


def test_only_needed_files_are_opened_and_few_stay_open(tmp_path, npz_file):
    prepare_shards(make_config(npz_file, shards=40), tmp_path / "shards")
    shards = ShardReader(tmp_path / "shards")
    for path in (tmp_path / "shards").glob("train-*"):
        if path.name != "train-00001-of-00040.h5":
            path.rename(path.with_suffix(".away"))
    shards.read("train", 4, 6)
    for path in (tmp_path / "shards").glob("*.away"):
        path.rename(path.with_suffix(".h5"))
    assert len(shards.read("train", 0, shards.rows("train")).y) == shards.rows("train")
    assert len(shards._open) == 16


def test_no_shards(tmp_path):
    with pytest.raises(InputError, match=r"index\.json: missing.*rcdp prepare"):
        ShardReader(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: i.update(format="other"), "not an index"),
        (lambda i: i.pop("classes"), "classes: Field required"),
        (lambda i: i["splits"]["train"]["shards"][1].update(file="../../etc/passwd"), "shards.1.file"),
        (lambda i: i["splits"]["train"]["shards"][1].update(rows=-1), "shards.1.rows"),
        (lambda i: i["splits"]["train"].update(rows=7), "do not add up"),
        (lambda i: i["splits"].pop("test"), "splits"),
    ],
)
def test_a_damaged_index(directory, change, words):
    index = read_sealed(directory / "index.json")
    change(index)
    write_sealed(directory / "index.json", index)
    with pytest.raises(DataDamagedError, match=words) as caught:
        ShardReader(directory)
    assert "index.json" in str(caught.value)


def test_a_truncated_index_and_a_later_version(directory):
    path = directory / "index.json"
    index = read_sealed(path)
    write_sealed(path, {**index, "format_version": 99})
    with pytest.raises(InputError, match="format version 99"):
        ShardReader(directory)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataDamagedError, match=r"index\.json"):
        ShardReader(directory)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: os.truncate(p, 5000), "5000 bytes long"),
        (lambda p: p.unlink(), "missing"),
        (lambda p: (p.rename(p.with_suffix(".real")), p.symlink_to(p.with_suffix(".real"))), "symbolic link"),
        (flip, "SHA-256"),
    ],
)
def test_a_damaged_shard_is_found_before_its_rows_are_used(directory, damage, words):
    shards = ShardReader(directory, verify=True)
    damage(directory / FIRST)
    with pytest.raises(DataDamagedError, match=words) as caught:
        shards.read("train", 0, 1)
    assert FIRST in str(caught.value)
    assert "rcdp verify" in str(caught.value)
    assert "--restart" in str(caught.value)
    assert len(shards.read("train", shards.rows("train") - 1, shards.rows("train")).y) == 1


def test_without_verify_only_lengths_are_checked(directory):
    flip(directory / FIRST)
    ShardReader(directory, verify=False).columns("train", 0, 1, ("y",))
    (directory / FIRST).write_bytes(b"x" * (directory / FIRST).stat().st_size)
    with pytest.raises(DataDamagedError, match="cannot be opened as HDF5"):
        ShardReader(directory, verify=False).read("train", 0, 1)
    os.truncate(directory / FIRST, 5000)
    with pytest.raises(DataDamagedError, match="5000 bytes long"):
        ShardReader(directory, verify=False).read("train", 0, 1)


def replaced_by(name, make):
    def change(file):
        rows = file[name].shape[0]
        del file[name]
        make(file, name, rows)

    return change


def external_storage(file, name, rows):
    file.create_dataset(name, (rows,), "i4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(file, name, rows):
    layout = h5py.VirtualLayout((rows,), "i4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "y", (rows,))
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f, n, rows: f.__setitem__(n, h5py.ExternalLink("other.h5", "/y")), "links to another file"),
        (lambda f, n, rows: f.__setitem__(n, h5py.SoftLink("/step")), "links to another file"),
        (external_storage, "content in the file"),
        (virtual, "content in the file"),
        (lambda f, n, rows: f.create_group(n), "content in the file"),
        (lambda f, n, rows: None, "missing"),
        (lambda f, n, rows: f.create_dataset(n, (rows,), "f8"), "float64"),
        (lambda f, n, rows: f.create_dataset(n, (rows + 1,), "i4"), r"expected int32 of shape \(\d+,\)"),
        (lambda f, n, rows: f.create_dataset(n, (rows,), h5py.string_dtype()), "int32 of shape"),
    ],
)
def test_links_and_other_datasets_are_refused(directory, make, words):
    rewrite(directory, replaced_by("y", make))
    with pytest.raises(DataDamagedError, match=words):
        ShardReader(directory, verify=False).read("train", 0, 1)


def _read_in_child(shards, queue):
    queue.put(int(shards.read("train", 0, 5).y.sum()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_each_process_opens_its_own_files(digits_shards, method):
    shards = ShardReader(digits_shards)
    expected = int(shards.read("train", 0, 5).y.sum())
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=_read_in_child, args=(shards, queue))
    process.start()
    assert queue.get(timeout=60) == expected
    process.join()
    assert pickle.loads(pickle.dumps(shards)).rows("train") == shards.rows("train")


def test_a_locked_file_can_be_read(directory):
    """Locks may hang or fail on NFS and Lustre, so that reading uses none."""
    with (directory / FIRST).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert len(ShardReader(directory).read("train", 0, 3).y) == 3

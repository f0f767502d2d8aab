import os
import re
import shutil

import h5py
import numpy as np
import pytest
from data.conftest import make_config
from data.shards.test_reader import flip

from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.index import FILE_PREFIX
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.digests import file_sha256, read_sealed, write_sealed


@pytest.fixture
def directory(tmp_path, npz_file):
    """Shards with one file for each split."""
    prepare_shards(make_config(npz_file, shards=1), tmp_path / "shards")
    return tmp_path / "shards"


def change(directory, split, edit):
    """Change the rows of a split and adapt counts and checksums, so that only the checks of rows can find it."""
    path = directory / f"{FILE_PREFIX[split]}-00000-of-00001.h5"
    with h5py.File(path, "r+") as file:
        columns = {name: file[name][()] for name in file}
        edit(columns)
        for name, values in columns.items():
            file[name][()] = values
    index = read_sealed(directory / "index.json")
    entry = index["splits"][split]
    counts = np.bincount(columns["y"], minlength=3).tolist()
    synthetic = np.bincount(columns["y"][columns["synthetic"]], minlength=3).tolist()
    entry.update(class_counts=counts, synthetic_counts=synthetic)
    entry["shards"][0].update(
        class_counts=counts, synthetic_counts=synthetic, bytes=path.stat().st_size, sha256=file_sha256(path)
    )
    write_sealed(directory / "index.json", index)


def first_made(columns):
    return int(np.argmax(columns["synthetic"]))


def test_undamaged_shards(directory, digits_shards):
    assert verify_shards(directory) == []
    assert verify_shards(digits_shards) == []


def test_no_shards(tmp_path):
    with pytest.raises(InputError, match="rcdp prepare"):
        verify_shards(tmp_path)


def test_every_damaged_file_is_found(digits_shards, tmp_path):
    directory = shutil.copytree(digits_shards, tmp_path / "shards")
    flip(directory / "train-00001-of-00005.h5")
    os.truncate(directory / "train-00003-of-00005.h5", 100)
    next(directory.glob("test-00000-of-*.h5")).unlink()
    (directory / "left-over.txt").touch()
    findings = "\n".join(verify_shards(directory))
    for name in ("train-00001", "train-00003", "test-00000", "left-over.txt"):
        assert name in findings
    assert findings.count("\n") == 3


def test_a_damaged_index_is_found(directory):
    (directory / "index.json").write_text("{")
    assert "index.json" in verify_shards(directory)[0]


def test_wrong_counts(directory):
    index = read_sealed(directory / "index.json")
    index["splits"]["validation"]["shards"][0]["class_counts"][0] += 1
    index["splits"]["train"]["synthetic_counts"][1] -= 1
    write_sealed(directory / "index.json", index)
    findings = verify_shards(directory)
    assert any("val-00000-of-00001.h5: class_counts" in finding for finding in findings)
    assert any("train: synthetic_counts" in finding for finding in findings)


def swap_to_front(columns):
    order = np.argsort(columns["y"] != 2, kind="stable")
    for name in columns:
        columns[name] = columns[name][order]


def synthetic_in_test(columns):
    columns["synthetic"][0] = True
    columns["neighbour_index"][0] = columns["source_index"][1]


def foreign_neighbour(columns):
    columns["neighbour_index"][first_made(columns)] = 10_000


def neighbour_of_another_class(columns):
    made = first_made(columns)
    other = (columns["y"] != columns["y"][made]) & ~columns["synthetic"]
    columns["neighbour_index"][made] = columns["source_index"][np.argmax(other)]


def off_the_segment(columns):
    columns["x"][first_made(columns), 2, 1] += 1e-3


def not_a_number(columns):
    columns["x"][first_made(columns), 2, 1] = np.nan


def step_outside(columns):
    columns["step"][first_made(columns)] = 1.5


def own_neighbour(columns):
    columns["neighbour_index"][first_made(columns)] = columns["source_index"][first_made(columns)]


def unmarked(columns):
    columns["synthetic"][first_made(columns)] = False


def far_neighbour(columns):
    """Use the farthest sample of the class as neighbour, and change x accordingly."""
    made = np.flatnonzero(columns["synthetic"] & (columns["y"] == 1))[0]
    originals = np.flatnonzero((columns["y"] == 1) & ~columns["synthetic"])
    source = originals[columns["source_index"][originals] == columns["source_index"][made]][0]
    distance = ((columns["x"][originals] - columns["x"][source]) ** 2).sum(axis=(1, 2))
    far = originals[distance.argmax()]
    columns["neighbour_index"][made] = columns["source_index"][far]
    x = columns["x"]
    x[made] = x[source] + columns["step"][made] * (x[far] - x[source])


@pytest.mark.parametrize(
    ("split", "edit", "words"),
    [
        ("train", swap_to_front, "class 2 is .* rows away from its share"),
        ("test", swap_to_front, "test.*class 2 is .* rows away from its share"),
        ("test", synthetic_in_test, "test: 1 synthetic rows; only training"),
        ("train", foreign_neighbour, "1 synthetic rows have a neighbour_index that is not a training sample"),
        ("train", neighbour_of_another_class, "neighbour_index of another class"),
        ("train", off_the_segment, "class .: 1 synthetic rows are not on the segment"),
        ("train", not_a_number, "class .: 1 synthetic rows are not on the segment"),
        ("train", step_outside, "not between 0 and 1"),
        ("train", own_neighbour, "own source as neighbour"),
        ("train", unmarked, "is synthetic without a neighbour, or original with"),
        ("train", far_neighbour, "class 1: 1 synthetic rows have a neighbour that is not among the 7 nearest"),
    ],
)
def test_damage_with_correct_checksums(directory, split, edit, words):
    change(directory, split, edit)
    assert re.search(words, "\n".join(verify_shards(directory)))


def test_a_sample_in_two_splits(directory):
    with h5py.File(directory / "train-00000-of-00001.h5") as file:
        seed = file["source_index"][first_made(file)]

    def leak(columns):
        columns["source_index"][0] = seed

    change(directory, "test", leak)
    assert any(
        f"share 1 samples of the source, for example number {seed}" in finding for finding in verify_shards(directory)
    )


def test_a_training_part_that_is_not_balanced(directory):
    index = read_sealed(directory / "index.json")
    index["settings"]["data"]["balance"] = "smote"
    write_sealed(directory / "index.json", index)
    assert verify_shards(directory) == []

    def relabel(columns):
        columns["y"][np.flatnonzero(columns["y"] == 0)[0]] = 1

    change(directory, "train", relabel)
    assert any("not balanced" in finding for finding in verify_shards(directory))


def test_classes_are_checked_in_groups_if_memory_is_short(digits_shards, monkeypatch):
    for name, value in (("GROUP_BYTES", 1), ("BLOCK_BYTES", 5000), ("QUERY_ROWS", 7)):
        monkeypatch.setattr(f"rcdp_hpc.data.shards.provenance.{name}", value)
    assert verify_shards(digits_shards) == []


def test_verification_can_be_stopped(directory):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_shards(directory, check_stop=stop)

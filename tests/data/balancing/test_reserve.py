import math
import re

import h5py
import numpy as np
import pytest
from data.conftest import make_config
from data.shards.test_verify import change

from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.data.split import interleaved_labels
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.digests import read_sealed, write_sealed


def prepared(tmp_path, npz_file, name="shards", **data):
    prepare_shards(make_config(npz_file, **{"reserve": 0.25, "shards": 1, **data}), tmp_path / name)
    return ShardReader(tmp_path / name)


@pytest.mark.parametrize("balance", ["smote", "none", "random_under", "random_over", "smote_tomek", "svm_smote"])
def test_a_reserve_has_its_share_of_every_class_and_passes_verification(tmp_path, npz_file, balance):
    shards = prepared(tmp_path, npz_file, balance=balance)
    wanted = [math.ceil(0.25 * rows) for rows in shards.class_counts("train")]
    assert shards.class_counts("reserve").tolist() == wanted
    rows = shards.read("reserve", 0, shards.rows("reserve"))
    assert rows.synthetic.all()
    assert (rows.neighbour_index >= 0).all()
    np.testing.assert_array_equal(rows.y, interleaved_labels(wanted))
    assert verify_shards(tmp_path / "shards") == []


def test_a_reserve_does_not_change_the_other_parts(tmp_path, npz_file):
    with_one, without = prepared(tmp_path, npz_file), prepared(tmp_path, npz_file, "bare", reserve=0)
    assert with_one.splits == ("train", "validation", "test", "reserve")
    assert without.splits == ("train", "validation", "test")
    for split in without.splits:
        assert with_one.index["splits"][split] == without.index["splits"][split]


def test_the_reserve_and_training_share_no_row(tmp_path, npz_file):
    shards = prepared(tmp_path, npz_file)
    train, reserve = (shards.read(split, 0, shards.rows(split)).x.reshape(-1, 12) for split in ("train", "reserve"))
    assert not (reserve[:, None] == train[None]).all(axis=2).any()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            lambda columns: columns["x"].__setitem__(3, 0),
            r"reserve: class \d: 1 synthetic rows are not on the segment of their samples, for example row 3",
        ),
        (
            lambda columns: columns["source_index"].__setitem__(3, 10**6),
            "reserve: 1 synthetic rows have a source_index",
        ),
        (lambda columns: columns["synthetic"].__setitem__(3, False), "reserve: 1 rows that are not synthetic"),
    ],
)
def test_verification_checks_the_reserve(tmp_path, npz_file, edit, words):
    prepared(tmp_path, npz_file)
    change(tmp_path / "shards", "reserve", edit)
    findings = "\n".join(verify_shards(tmp_path / "shards"))
    assert re.search(words, findings)


def test_a_reserve_of_another_size_is_found(tmp_path, npz_file):
    prepared(tmp_path, npz_file)
    index = read_sealed(tmp_path / "shards/index.json")
    assert index["settings"]["data"]["reserve"] == 0.25
    index["settings"]["data"]["reserve"] = 0.5
    write_sealed(tmp_path / "shards/index.json", index)
    assert any("the reserve has" in finding for finding in verify_shards(tmp_path / "shards"))


def test_a_class_of_one_sample_has_no_reserve(tmp_path):
    np.savez(tmp_path / "one.npz", x=np.random.default_rng(0).random((21, 3)), y=[0] * 20 + [1])
    with pytest.raises(InputError, match=r"data.reserve: class 1 has too few training samples \(1\)"):
        prepared(tmp_path, tmp_path / "one.npz", balance="none")
    shards = prepared(tmp_path, tmp_path / "one.npz", balance="random_over")
    assert shards.class_counts("reserve")[1] > 0


def test_the_order_of_labels_follows_from_the_counts(digits_shards):
    shards = ShardReader(digits_shards)
    for split in shards.splits:
        labels = shards.columns(split, 0, shards.rows(split), ("y",))["y"]
        np.testing.assert_array_equal(labels, interleaved_labels(shards.class_counts(split)))


def test_bytes_have_a_reserve(tmp_path):
    generator = np.random.default_rng(1)
    np.savez(tmp_path / "b.npz", x=generator.integers(0, 256, (60, 5), np.uint8), y=np.arange(60) % 3)
    shards = prepared(tmp_path, tmp_path / "b.npz", standardize="none")
    with h5py.File(tmp_path / "shards" / shards.index["splits"]["reserve"]["shards"][0]["file"]) as file:
        assert file["x"].dtype == np.uint8
    assert verify_shards(tmp_path / "shards") == []

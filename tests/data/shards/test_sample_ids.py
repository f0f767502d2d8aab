"""The shards store the names of the test samples, each with the right row."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.sample_ids import IDS_NAME, read_test_ids, write_test_ids
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.data.sources import Part, Source
from rcdp_hpc.errors import DataDamagedError


def source(train_ids, test_ids) -> Source:
    def part(ids):
        return Part(np.zeros((4, 2)), np.array([0, 0, 1, 1]), ids=ids)

    return Source("npz", ["a", "b"], part(train_ids), part(test_ids), 1.0, "")


@pytest.fixture
def shards(tmp_path):
    """Images with one pixel value, which is also the name of the file."""
    pillow = pytest.importorskip("PIL.Image")
    for label, name in enumerate("ab"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            value = 20 * label + number
            pixels = np.full((4, 4, 3), value, np.uint8)
            pillow.fromarray(pixels).save(tmp_path / "images" / name / f"{value}.png")
    settings = ["data.source=image_folder", f"data.path={tmp_path / 'images'}", "data.image_size=[4,4]",
              "data.class_keep_fractions=[]",
                "data.balance=none", "data.shards=1", "run.progress=false", "reservoir.sequence=rows"]  # fmt: skip
    prepare_shards(load_config("digits", settings), tmp_path / "shards")
    return tmp_path / "shards"


def test_each_test_row_has_the_name_of_its_sample(shards):
    opened = ShardReader(shards)
    ids = read_test_ids(shards, opened.index)
    rows = opened.read("test", 0, opened.rows("test"))
    values = np.rint(rows.x.reshape(len(rows.y), -1)[:, 0] * 255).astype(int)
    assert [name.rpartition("/")[2] for name in ids] == [f"{value}.png" for value in values]
    assert verify_shards(shards) == []


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-9])])
def test_a_damaged_file_of_names_is_found(shards, damage):
    damage(shards / IDS_NAME)
    (finding,) = verify_shards(shards)
    assert IDS_NAME in finding
    with pytest.raises(DataDamagedError, match=IDS_NAME):
        read_test_ids(shards, json.loads((shards / "index.json").read_text()))


@pytest.mark.parametrize(
    ("train_ids", "test_ids", "rows", "expected"),
    [
        (list("wxyz"), None, [3, 0], ["z", "w"]),
        (list("wxyz"), list("1234"), [4, 7], ["1", "4"]),
        (list("wxyz"), None, [4, 7], None),
        (None, None, [1], None),
        (["a\nb", "\udcff", "", "ä"], None, [0, 1, 2, 3], ["a\nb", "\udcff", "", "ä"]),
    ],
)
def test_names_of_both_parts(train_ids, test_ids, rows, expected, tmp_path):
    entry = write_test_ids(tmp_path, source(train_ids, test_ids), np.array(rows))
    assert (entry is None) == (expected is None)
    assert read_test_ids(tmp_path, {"test_ids": entry}) == expected

import shutil

import numpy as np
import pytest
from data.conftest import make_config
from data.shards.test_reader import flip
from hypothesis import given, settings
from hypothesis import strategies as st

from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.repair import RefilledShards, replacement_record, without_damaged
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed, write_sealed


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Digits in six shards, with a reserve of 30 percent: enough to replace one shard, not two."""
    directory = tmp_path_factory.mktemp("refill") / "shards"
    keep = [1, 0.5, 0.3, 0.2, 0.1, 0.08, 0.15, 0.6, 0.4, 0.9]
    prepare_shards(make_config(source="digits", class_keep_fractions=keep, shards=6, reserve=0.3), directory)
    return directory


def name_of(number):
    return f"train-{number:05d}-of-00006.h5"


def view_of(directory, *numbers):
    return RefilledShards(directory, True, {name_of(number): "damaged by a test" for number in numbers})


def rows_of(shards):
    return shards.read("train", 0, shards.rows("train"))


def recipes(rows):
    return list(zip(rows.source_index.tolist(), rows.neighbour_index.tolist(), rows.step.tolist(), strict=True))


def shard_rows(shards, number):
    return slice(*shards._starts["train"][number : number + 2])


def test_rows_of_the_reserve_replace_lost_rows_of_their_class(prepared):
    whole, view = ShardReader(prepared), view_of(prepared, 2)
    before, after = rows_of(whole), rows_of(view)
    lost = shard_rows(whole, 2)
    np.testing.assert_array_equal(after.y, before.y)
    undamaged = np.ones(len(before.y), bool)
    undamaged[lost] = False
    np.testing.assert_array_equal(after.x[undamaged], before.x[undamaged])
    np.testing.assert_array_equal(after.source_index[undamaged], before.source_index[undamaged])
    assert after.synthetic[lost].all()
    reserve = whole.read("reserve", 0, whole.rows("reserve"))
    for label in range(10):
        expected = reserve.x[reserve.y == label][: (before.y[lost] == label).sum()]
        np.testing.assert_array_equal(after.x[lost][after.y[lost] == label], expected)
    assert view.refills[0].missing == [0] * 10
    assert replacement_record(view)["rows"] == whole.rows("train")


def test_rows_beyond_the_reserve_are_missing_and_counted(prepared):
    whole, view = ShardReader(prepared), view_of(prepared, 4, 1)
    rows = rows_of(view)
    missing = np.sum([refill.missing for refill in view.refills], axis=0)
    assert missing.sum() > 0
    np.testing.assert_array_equal(np.bincount(rows.y, minlength=10), whole.class_counts("train") - missing)
    np.testing.assert_array_equal(view.class_counts("train"), np.bincount(rows.y, minlength=10))
    assert view.rows("train") == len(rows.y) == whole.rows("train") - missing.sum()
    # Every row of the reserve was used once.
    reserve = set(recipes(whole.read("reserve", 0, whole.rows("reserve"))))
    assert sum(recipe in reserve for recipe in recipes(rows)) == whole.rows("reserve")
    # Damage of a second shard does not change the replacement of the first.
    alone = rows_of(view_of(prepared, 4))
    np.testing.assert_array_equal(rows.x[-400:], alone.x[-400:])


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_range_of_rows(prepared, data):
    view = view_of(prepared, *data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True)))
    whole, total = rows_of(view), view.rows("train")
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))
    part = view.read("train", start, stop)
    np.testing.assert_array_equal(part.x, whole.x[start:stop])
    np.testing.assert_array_equal(part.step, whole.step[start:stop])


def test_rows_beyond_the_refilled_part_are_refused(prepared):
    view = view_of(prepared, 0, 1, 2)
    with pytest.raises(IndexError):
        view.read("train", 0, view.rows("train") + 1)


def test_without_a_reserve_all_lost_rows_are_missing(digits_shards):
    shards = ShardReader(digits_shards)
    file = shards.index["splits"]["train"]["shards"][1]["file"]
    view = RefilledShards(digits_shards, True, {file: "damaged by a test"})
    assert view.refills[0].refilled == [0] * 10
    assert len(rows_of(view).y) == shards.rows("train") - shards.index["splits"]["train"]["shards"][1]["rows"]


def test_all_shards_damaged(digits_shards):
    files = [shard["file"] for shard in ShardReader(digits_shards).index["splits"]["train"]["shards"]]
    with pytest.raises(DataDamagedError, match="every training shard is damaged"):
        RefilledShards(digits_shards, True, dict.fromkeys(files, "damaged by a test"))


def looked_over(directory, search=True):
    return without_damaged(
        SingleProcess(), ShardReader(directory), {}, search, local_rows=lambda rows: (0, rows), check_stop=lambda: None
    )


def test_damage_of_the_reserve_is_found_before_its_rows_are_used(prepared, tmp_path):
    directory = shutil.copytree(prepared, tmp_path / "shards")
    assert type(looked_over(directory)) is ShardReader
    flip(directory / name_of(3))
    flip(directory / "reserve-00000-of-00002.h5")
    view = looked_over(directory)
    assert list(view.damaged_files) == [name_of(3), "reserve-00000-of-00002.h5"]
    assert sum(view.refills[0].missing) > 0
    rows_of(view)
    with pytest.raises(DataDamagedError, match=name_of(3)):
        rows_of(looked_over(directory, search=False))


def test_rows_in_another_order_are_refused(prepared, tmp_path):
    directory = shutil.copytree(prepared, tmp_path / "shards")
    index = read_sealed(directory / "index.json")
    counts = index["splits"]["train"]["shards"][2]["class_counts"]
    counts[0], counts[1] = counts[0] + 1, counts[1] - 1
    write_sealed(directory / "index.json", index)
    with pytest.raises(DataDamagedError, match="do not have the order"):
        view_of(directory, 2)

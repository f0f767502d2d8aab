import hashlib
import json
import logging
import os

import numpy as np
import pytest
from data.conftest import make_config, uneven_data, write_idx
from threadpoolctl import threadpool_limits

from rcdp_hpc.config import load_config
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.data.shards.writer import shard_numbers
from rcdp_hpc.data.split import SPLITS, slab_bounds
from rcdp_hpc.errors import DataDamagedError, InputError


def everything(directory):
    shards = ShardReader(directory)
    return {split: shards.read(split, 0, shards.rows(split)) for split in SPLITS}


def fingerprints(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def test_rows_are_samples_of_the_source(tmp_path, npz_file):
    prepare_shards(make_config(npz_file, standardize="none"), tmp_path / "shards")
    with np.load(npz_file) as source:
        x, y = source["x"], source["y"]
    seen = []
    for rows in everything(tmp_path / "shards").values():
        original = ~rows.synthetic
        np.testing.assert_array_equal(rows.x[original], x[rows.source_index[original]])
        np.testing.assert_array_equal(rows.y, y[rows.source_index])
        assert (rows.neighbour_index[original] == -1).all()
        assert (rows.step[original] == 0).all()
        seen.extend(rows.source_index[original])
    assert sorted(seen) == list(range(len(y)))


def test_no_row_of_validation_or_test_is_or_is_made_from_a_training_seed(digits_shards):
    rows = everything(digits_shards)
    assert rows["train"].synthetic.any()
    made = rows["train"].synthetic
    used = {split: set(part.source_index.tolist()) for split, part in rows.items()}
    used["train"] |= set(rows["train"].neighbour_index[made].tolist())
    for one in SPLITS:
        for other in SPLITS:
            assert one == other or not used[one] & used[other]
    assert not rows["validation"].synthetic.any()
    assert not rows["test"].synthetic.any()


def test_every_synthetic_row_lies_between_its_source_and_one_of_its_seven_nearest(digits_shards):
    train = everything(digits_shards)["train"]
    shards = ShardReader(digits_shards)
    where = {int(s): i for i, s in enumerate(train.source_index) if not train.synthetic[i]}
    flat = train.x.reshape(len(train.x), -1).astype(np.float64)
    for label in range(len(shards.classes)):
        members = np.flatnonzero((train.y == label) & ~train.synthetic)
        k = min(7, len(members) - 1)
        for row in np.flatnonzero((train.y == label) & train.synthetic):
            source, neighbour = where[int(train.source_index[row])], where[int(train.neighbour_index[row])]
            assert train.y[source] == train.y[neighbour] == label
            expected = flat[source] + train.step[row] * (flat[neighbour] - flat[source])
            # Stored as whole sixteenths: half a step off at most.
            np.testing.assert_allclose(flat[row], expected, atol=0.5001 / 16)
            others = members[members != source]
            distance = np.sort(((flat[others] - flat[source]) ** 2).sum(axis=1))
            assert ((flat[neighbour] - flat[source]) ** 2).sum() <= distance[k - 1] + 1e-12


def test_the_training_part_is_balanced_and_the_others_are_as_the_source(digits_shards):
    index = json.loads((digits_shards / "index.json").read_text())
    counts = index["splits"]["train"]["class_counts"]
    assert len(set(counts)) == 1
    for entry in index["class_table"]:
        assert entry["before"] + entry["dropped"] + entry["validation"] + entry["test"] == entry["source"]
        assert entry["after"] == counts[0]


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 17])
@pytest.mark.parametrize("split", SPLITS)
def test_slabs_over_shards_are_disjoint_complete_and_stratified(digits_shards, ranks, split):
    shards = ShardReader(digits_shards)
    rows, counts = shards.rows(split), shards.class_counts(split)
    whole = shards.read(split, 0, rows)
    pieces = [shards.read(split, *slab_bounds(rows, rank, ranks)) for rank in range(ranks)]
    for name in ("x", "y", "synthetic", "source_index", "neighbour_index", "step"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in pieces]), getattr(whole, name))
    for piece in pieces:
        share = len(piece.y) * counts / rows
        assert (np.abs(np.bincount(piece.y, minlength=10) - share) < 2).all()


@pytest.mark.parametrize("number", [1, 2, 3, 5, 8, 13])
def test_any_number_of_shards_holds_the_same_rows(tmp_path, npz_file, number):
    prepare_shards(make_config(npz_file, shards=1), tmp_path / "one")
    prepare_shards(make_config(npz_file, shards=number), tmp_path / "many")
    one, many = everything(tmp_path / "one"), everything(tmp_path / "many")
    for split in SPLITS:
        np.testing.assert_array_equal(one[split].x, many[split].x)
        np.testing.assert_array_equal(one[split].source_index, many[split].source_index)
    sizes = [s["rows"] for s in json.loads((tmp_path / "many/index.json").read_text())["splits"]["train"]["shards"]]
    assert len(sizes) == number
    assert max(sizes) - min(sizes) <= 1
    assert verify_shards(tmp_path / "many") == []


def test_no_more_shards_than_rows(tmp_path, npz_file):
    index = prepare_shards(make_config(npz_file, shards=1000, balance="none"), tmp_path / "shards")
    assert len(index["splits"]["train"]["shards"]) == index["splits"]["train"]["rows"]
    assert verify_shards(tmp_path / "shards") == []


def test_same_seed_and_settings_give_the_same_bytes_for_any_number_of_threads(tmp_path):
    config = make_config(source="digits", class_keep_fractions=[1, 0.2] * 5)
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            prepare_shards(config, tmp_path / f"threads{threads}")
        found.append(fingerprints(tmp_path / f"threads{threads}"))
    assert found[0] == found[1]
    prepare_shards(make_config(source="digits", class_keep_fractions=[1, 0.2] * 5, seed=2), tmp_path / "other")
    assert fingerprints(tmp_path / "other")["train-00000-of-00016.h5"] != found[0]["train-00000-of-00016.h5"]


def test_a_separate_test_set_is_not_split(tmp_path):
    generator = np.random.default_rng(0)
    for name, rows in (("train", 90), ("t10k", 20)):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte.gz", generator.integers(0, 256, (rows, 5, 4)))
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", np.arange(rows) % 3)
    config = make_config(tmp_path, source="mnist", class_keep_fractions=[1, 0.5, 0.5], shards=3)
    index = prepare_shards(config, tmp_path / "shards")
    assert index["splits"]["test"]["rows"] == 20
    test = everything(tmp_path / "shards")["test"]
    assert sorted(test.source_index) == list(range(90, 110))
    assert test.x.max() <= 1
    assert verify_shards(tmp_path / "shards") == []


def test_without_balancing_nothing_is_synthetic(tmp_path, npz_file):
    index = prepare_shards(make_config(npz_file, balance="none"), tmp_path / "shards")
    assert sum(index["splits"]["train"]["synthetic_counts"]) == 0
    assert len(set(index["splits"]["train"]["class_counts"])) == 3
    assert verify_shards(tmp_path / "shards") == []


def test_tables_and_byte_samples(tmp_path):
    x, y = uneven_data((40, 20), shape=(6,))
    np.savez(tmp_path / "table.npz", x=(np.abs(x) * 50).astype(np.uint8), y=np.array(["yes", "no"])[y])
    prepare_shards(make_config(tmp_path / "table.npz"), tmp_path / "shards")
    shards = ShardReader(tmp_path / "shards")
    assert shards.classes == ["no", "yes"]
    assert shards.sample_shape == (6,)
    assert shards.scale == 1 / 255
    assert verify_shards(tmp_path / "shards") == []


def test_a_class_of_one_sample(tmp_path, caplog):
    x, y = uneven_data((40, 20, 1))
    np.savez(tmp_path / "one.npz", x=x, y=y)
    with pytest.raises(InputError, match="class 2 has 1 training sample"):
        prepare_shards(make_config(tmp_path / "one.npz"), tmp_path / "shards")
    assert not (tmp_path / "shards").exists()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        prepare_shards(make_config(tmp_path / "one.npz", balance="none"), tmp_path / "shards")
    assert [r.getMessage() for r in caplog.records] == [
        "no samples in validation, because there are too few: class 2",
        "no samples in test, because there are too few: class 2",
    ]
    assert verify_shards(tmp_path / "shards") == []


def test_the_same_settings_find_the_shards_and_do_nothing(tmp_path, npz_file, caplog):
    config = make_config(npz_file)
    index = prepare_shards(config, tmp_path / "shards")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").iterdir()}
    with caplog.at_level(logging.INFO):
        assert prepare_shards(config, tmp_path / "shards") == index == json.loads(json.dumps(index))
    assert "already prepared" in caplog.text
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").iterdir()}


def test_other_settings_are_refused_by_name_unless_restarted(tmp_path, npz_file):
    prepare_shards(make_config(npz_file), tmp_path / "shards")
    other = make_config(npz_file, seed=2, shards=3, verify_on_read=False)
    with pytest.raises(
        InputError,
        match=r"data\.shards \(16 -> 3\), run\.seed \(1 -> 2\)\. .* data\.path, data\.test_path, .*data\.mem",
    ):
        prepare_shards(other, tmp_path / "shards")
    index = prepare_shards(other, tmp_path / "shards", restart=True)
    assert len(index["splits"]["train"]["shards"]) == 3
    assert verify_shards(tmp_path / "shards") == []


def test_the_source_can_move_but_not_change(tmp_path, npz_file):
    prepare_shards(make_config(npz_file), tmp_path / "shards")
    moved = npz_file.rename(tmp_path / "moved.npz")
    prepare_shards(make_config(moved), tmp_path / "shards")
    prepare_shards(make_config(tmp_path / "gone.npz"), tmp_path / "shards")
    x, y = uneven_data(seed=5)
    np.savez(tmp_path / "other.npz", x=x, y=y)
    with pytest.raises(InputError, match=r"other data than data\.path = .*other\.npz"):
        prepare_shards(make_config(tmp_path / "other.npz"), tmp_path / "shards")


def test_a_source_that_was_written_again_is_compared(tmp_path, npz_file):
    prepare_shards(make_config(npz_file), tmp_path / "shards")
    later = (tmp_path / "shards/index.json").stat().st_mtime + 10
    os.utime(npz_file, (later, later))
    prepare_shards(make_config(npz_file), tmp_path / "shards")
    x, y = uneven_data(seed=5)
    np.savez(npz_file, x=x, y=y)
    os.utime(npz_file, (later, later))
    with pytest.raises(InputError, match="other data"):
        prepare_shards(make_config(npz_file), tmp_path / "shards")


def test_a_linked_folder_stays_a_link(tmp_path, npz_file):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "shards").symlink_to(tmp_path / "scratch")
    for seed in (1, 2):
        prepare_shards(make_config(npz_file, seed=seed), tmp_path / "shards", restart=True)
    assert (tmp_path / "shards").is_symlink()
    assert verify_shards(tmp_path / "scratch") == []


def test_damaged_shards_are_reported_on_the_next_start(tmp_path, npz_file):
    prepare_shards(make_config(npz_file), tmp_path / "shards")
    os.truncate(next((tmp_path / "shards").glob("val-*")), 100)
    with pytest.raises(DataDamagedError, match=r"val-.*--restart"):
        prepare_shards(make_config(npz_file), tmp_path / "shards")


def test_the_log_reports_each_step(tmp_path, caplog):
    x, y = uneven_data([8] * 25)
    np.savez(tmp_path / "many.npz", x=x, y=y)
    with caplog.at_level(logging.INFO):
        prepare_shards(make_config(tmp_path / "many.npz"), tmp_path / "shards")
    assert "many.npz: 200 samples of shape (4, 3)" in caplog.text
    assert "and 5 more classes" in caplog.text
    assert "125 train, 25 validation, 50 test rows" in caplog.text


def test_every_count_in_the_log_is_per_class(tmp_path, npz_file, caplog):
    with caplog.at_level(logging.INFO):
        prepare_shards(make_config(npz_file), tmp_path / "shards")
    lines = [record.getMessage().split() for record in caplog.records]
    assert ["class", "samples", "training", "balanced", "validation", "test"] in lines
    assert ["0", "60", "43", "43", "5", "12"] in lines
    assert ["2", "12", "9", "43", "1", "2"] in lines


def test_runs_with_other_seeds_share_the_shards_of_data_seed(tmp_path):
    first = prepare_shards(load_config("digits", ["run.seed=5"]), tmp_path / "a")
    second = prepare_shards(load_config("digits", ["run.seed=9", "data.seed=5"]), tmp_path / "b")
    assert first["settings"] == second["settings"]
    for split in first["splits"]:
        assert first["splits"][split]["shards"] == second["splits"][split]["shards"]
    # Another seed of the run finds them as its own; another seed of the data does not.
    assert prepare_shards(load_config("digits", ["run.seed=7", "data.seed=5"]), tmp_path / "a") == first
    with pytest.raises(InputError, match=r"run\.seed"):
        prepare_shards(load_config("digits", ["run.seed=7"]), tmp_path / "a")


@pytest.mark.parametrize(
    ("rows", "row_bytes", "expected"),
    [
        ({"train": 62, "validation": 6, "test": 1029}, 96, {"train": 16, "validation": 1, "test": 5}),
        ({"train": 8, "validation": 2, "test": 40}, 2**18, {"train": 8, "validation": 1, "test": 10}),
        ({"train": 48000, "validation": 6000, "test": 10000}, 3136, {"train": 16, "validation": 2, "test": 4}),
        (
            {"train": 10, "validation": 3, "test": 4, "reserve": 5},
            2**22,
            {"train": 10} | {"validation": 3, "test": 4, "reserve": 5},
        ),
    ],
)
def test_parts_that_are_not_trained_on_are_not_cut_into_tiny_files(rows, row_bytes, expected):
    assert shard_numbers(rows, 16, row_bytes) == expected

"""Units of samples by their names: split and order of a unit do not depend on other units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.errors import DataDamagedError, InputError

NAMES = ("site-1", "site-2", "site-3")


def table(path: Path, sites: str, classes: str = "xyz") -> Path:
    """Write a table with 40 rows of each of these sites."""
    lines = ["id,a,b,label"]
    for site in sites:
        rng = np.random.default_rng(int(site))
        lines += [
            f"site-{site}/{number},{rng.normal():.4f},{rng.normal(int(site)):.4f},{classes[number % len(classes)]}"
            for number in range(40)
        ]
    path.write_text("\n".join(lines) + "\n")
    return path


def shards_of(folder: Path, path: Path, *settings: str, pattern: str = "^(site-[0-9]+)/") -> ShardReader:
    config = load_config(
        "table",
        ["data.source=csv", f"data.path={path}", "data.id_column=id", "data.balance=none", "data.shards=3",
         f"data.unit_pattern='{pattern}'", "run.progress=false", *settings],
    )  # fmt: skip
    prepare_shards(config, folder / "shards")
    return ShardReader(folder / "shards")


def rows_of(shards: ShardReader, split: str, name: str) -> tuple[list[bytes], list[int]]:
    """Return the samples and the labels of a unit."""
    start = 0
    for unit in shards.index["units"][split]:
        if unit["name"] == name:
            rows = shards.read(split, start, start + unit["rows"])
            return [row.tobytes() for row in rows.x], rows.y.tolist()
        start += unit["rows"]
    return [], []


def test_the_rows_of_a_unit_do_not_depend_on_other_units(tmp_path):
    together = shards_of(tmp_path / "all", table(tmp_path / "all.csv", "123"), "data.standardize=none")
    alone = shards_of(tmp_path / "two", table(tmp_path / "two.csv", "2"), "data.standardize=none")
    assert [unit["name"] for unit in together.index["units"]["train"]] == list(NAMES)
    for split in ("train", "validation"):
        assert rows_of(together, split, "site-2") == rows_of(alone, split, "site-2") != ([], [])
    assert verify_shards(together.directory) == []
    fewer = shards_of(tmp_path / "fewer", tmp_path / "all.csv", "data.max_samples=60")
    assert sum(unit["rows"] for unit in fewer.index["units"]["train"]) == fewer.rows("train") < 60


def test_data_like_an_earlier_run_have_its_classes_and_standardisation(tmp_path):
    first = shards_of(tmp_path / "first", table(tmp_path / "first.csv", "12"))
    like = f"data.like={tmp_path / 'first'}"
    second = shards_of(tmp_path / "second", table(tmp_path / "second.csv", "3", "zx"), like)
    assert second.classes == first.classes == ["x", "y", "z"]
    assert second.index["standardization"] == first.index["standardization"]
    both = shards_of(tmp_path / "both", table(tmp_path / "both.csv", "123"), like)
    assert rows_of(both, "train", "site-1") == rows_of(first, "train", "site-1")
    # The same command finds the shards again.
    shards_of(tmp_path / "second", tmp_path / "second.csv", like)


def test_one_class_is_enough_for_data_like_an_earlier_run(tmp_path):
    shards_of(tmp_path / "first", table(tmp_path / "first.csv", "12"))
    path = table(tmp_path / "one.csv", "3", "y")
    one = shards_of(tmp_path / "one", path, f"data.like={tmp_path / 'first'}")
    assert one.class_counts("train").tolist()[::2] == [0, 0]
    with pytest.raises(InputError, match="two classes or more"):
        shards_of(tmp_path / "alone", path)


@pytest.mark.parametrize(
    ("classes", "columns", "message"),
    [("xq", "id,a,b,label", "class q is not one of the classes of"), ("xy", "id,a,c,label", "columns is")],
)
def test_data_unlike_the_earlier_run_are_refused(tmp_path, classes, columns, message):
    shards_of(tmp_path / "first", table(tmp_path / "first.csv", "12"))
    path = table(tmp_path / "other.csv", "3", classes)
    path.write_text(path.read_text().replace("id,a,b,label", columns))
    with pytest.raises(InputError, match=message):
        shards_of(tmp_path / "other", path, f"data.like={tmp_path / 'first'}")


def test_a_name_without_a_unit_is_refused(tmp_path):
    path = table(tmp_path / "one.csv", "12")
    with pytest.raises(InputError, match=r"'\^sites-' finds no unit in the sample name 'site-1/0'"):
        shards_of(tmp_path / "one", path, pattern="^sites-")
    with pytest.raises(InputError, match="not a regular expression"):
        shards_of(tmp_path / "one", path, pattern="(site")


def test_samples_without_names_have_no_units(tmp_path):
    config = load_config("digits", ["data.balance=none", "data.unit_pattern=a", "data.class_keep_fractions=[]"])
    with pytest.raises(InputError, match="needs names of the samples, and they have only numbers"):
        prepare_shards(config, tmp_path / "shards")


def test_an_index_whose_units_do_not_add_up_is_refused(tmp_path):
    from rcdp_hpc.runtime.digests import read_sealed, write_sealed

    shards = shards_of(tmp_path, table(tmp_path / "all.csv", "12"))
    index = read_sealed(shards.directory / "index.json")
    index["units"]["train"][0]["rows"] += 1
    write_sealed(shards.directory / "index.json", index)
    with pytest.raises(DataDamagedError, match="the rows of the units of train do not add up"):
        ShardReader(shards.directory)

"""A balancing class of the user's own, or of imbalanced-learn: prepared with, verified, and refused if it is broken."""

from __future__ import annotations

import json
import logging
import re
import sys

import numpy as np
import pytest
from data.conftest import make_config
from launch import REPOSITORY

from rcdp_hpc.config import load_config
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.errors import InputError

BROKEN = """
import numpy as np
from my_balancing import Jitter

class Nothing:
    pass

class Needs:
    def __init__(self, colour):
        pass
    def fit_resample(self, x, y):
        return x, y

class Raises:
    def fit_resample(self, x, y):
        raise KeyError("hue")

class OnlyX:
    def fit_resample(self, x, y):
        return x

class Narrow:
    def fit_resample(self, x, y):
        return x[:, 1:], y

class FewLabels:
    def fit_resample(self, x, y):
        return x, y[1:]

class OtherLabels:
    def fit_resample(self, x, y):
        return x, y + 1

class HalfLabels:
    def fit_resample(self, x, y):
        return x, y + 0.5

class Infinite:
    def fit_resample(self, x, y):
        return np.where(np.arange(len(x))[:, None] == 4, np.inf, x), y

class Text:
    def fit_resample(self, x, y):
        return [["a"] * x.shape[1]] * len(x), y

class Ragged:
    def fit_resample(self, x, y):
        return x, [[0], [1, 2]]

class Exits:
    def fit_resample(self, x, y):
        raise SystemExit("bye")

class Empties:
    def fit_resample(self, x, y):
        return x[y != 1], y[y != 1]

def function(x, y):
    return x, y
"""
OTHERS = """
import numpy as np

class Inverted:
    '''Returns rows in another order, one sample less, one sample twice, in float64, and changes its input.'''
    def fit_resample(self, x, y):
        rows, labels = np.concatenate([x[::-1], x[5:6]])[1:].astype(float), np.concatenate([y[::-1], y[5:6]])[1:]
        x[:] = 0
        y[:] = 0
        return rows.tolist(), labels.tolist()

class Means:
    '''Replaces every class by its mean.'''
    def fit_resample(self, x, y):
        return np.array([x[y == label].mean(axis=0) for label in range(3)]), np.arange(3)
"""


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """The module of docs/extending.md and others, importable in this test only."""
    page = (REPOSITORY / "docs/extending.md").read_text()
    (tmp_path / "my_balancing.py").write_text(re.search(r"```python\n(# my_balancing.py.*?)```", page, re.DOTALL)[1])
    (tmp_path / "broken_balancing.py").write_text(BROKEN)
    (tmp_path / "other_balancing.py").write_text(OTHERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(logging.getLogger("rcdp_hpc"), "propagate", True)
    yield
    for name in ("my_balancing", "broken_balancing", "other_balancing"):
        sys.modules.pop(name, None)


def clouds(folder, counts=(60, 30, 12), shape=(4, 3), lengths=None):
    generator = np.random.default_rng(0)
    y = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    x = generator.normal(size=(len(y), *shape)).astype(np.float32) + y.reshape(-1, *(1,) * len(shape))
    np.savez(folder / "clouds.npz", x=x.astype(np.float32), y=y)
    return folder / "clouds.npz"


def prepared(folder, balance, name="shards", **data):
    path = folder / "clouds.npz"
    if not path.exists():
        clouds(folder)
    prepare_shards(make_config(path, balance=balance, **data), folder / name)
    assert verify_shards(folder / name) == []
    shards = ShardReader(folder / name)
    return shards, shards.read("train", 0, shards.rows("train"))


def test_the_class_of_the_page_balances(tmp_path):
    shards, rows = prepared(tmp_path, "my_balancing:Jitter", reserve=0.1, shards=2)
    before = [entry["before"] for entry in shards.index["class_table"]]
    assert np.bincount(rows.y).tolist() == [max(before)] * 3
    assert np.bincount(rows.y[rows.synthetic]).tolist() == [0, max(before) - before[1], max(before) - before[2]]
    # Noise of deviation 0.1 on a sample: the nearest sample of the class is the recorded origin.
    originals = {
        int(index): x for index, x in zip(rows.source_index[~rows.synthetic], rows.x[~rows.synthetic], strict=True)
    }
    for x, y, origin in zip(
        rows.x[rows.synthetic], rows.y[rows.synthetic], rows.source_index[rows.synthetic], strict=True
    ):
        assert 0 < np.abs(x - originals[int(origin)]).max() < 1
        own = rows.source_index[~rows.synthetic & (rows.y == y)]
        distances = [np.linalg.norm(x - originals[int(index)]) for index in own]
        assert own[int(np.argmin(distances))] == origin


def test_the_same_seed_gives_the_same_rows(tmp_path):
    first, again, other = (
        prepared(tmp_path, "my_balancing:Jitter", seed=seed, name=f"shards-{number}")[1].x
        for number, seed in enumerate((1, 1, 2))
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()


def test_rows_keep_their_identity_whatever_their_order(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    _, plain = prepared(tmp_path, "none", name="plain")
    _, rows = prepared(tmp_path, "other_balancing:Inverted")
    assert rows.synthetic.sum() == 1
    copy = int(np.argmax(rows.synthetic))
    assert rows.source_index[copy] == rows.neighbour_index[copy]
    samples = dict(zip(plain.source_index.tolist(), plain.x, strict=True))
    for index, x in zip(rows.source_index.tolist(), rows.x, strict=True):
        np.testing.assert_array_equal(samples[index], x)
    count = len(plain.y)
    assert f"{count - 1} of {count} training samples remain, 1 rows are copies, 0 are synthetic" in caplog.text


def test_a_class_without_training_samples_left_is_reported(tmp_path, caplog):
    _, rows = prepared(tmp_path, "other_balancing:Means")
    assert rows.synthetic.all()
    assert "no training sample remains in class 0, class 1, class 2" in caplog.text


@pytest.mark.parametrize(
    ("name", "settings", "counts"),
    [
        ("imblearn.over_sampling:SMOTE", {}, lambda before: [max(before)] * 3),
        ("imblearn.over_sampling:RandomOverSampler", {"balance_counts": [0, 0, 40]}, lambda b: [*b[:2], 40]),
        ("imblearn.under_sampling:NearMiss", {}, lambda before: [min(before)] * 3),
        ("imblearn.under_sampling:RandomUnderSampler", {"balance_ratio": 0.5}, lambda b: [2 * b[2]] * 2 + [b[2]]),
    ],
)  # fmt: skip
def test_classes_of_imbalanced_learn(tmp_path, caplog, name, settings, counts):
    shards, rows = prepared(tmp_path, name, **settings)
    before = [entry["before"] for entry in shards.index["class_table"]]
    assert np.bincount(rows.y).tolist() == counts(before)
    assert rows.synthetic.any() == ("over" in name)
    if name.endswith("OverSampler"):
        assert (rows.source_index == rows.neighbour_index)[rows.synthetic].all()
    assert "missed its targets" not in caplog.text


def test_a_cleaning_class_has_no_targets(tmp_path, caplog):
    shards, rows = prepared(tmp_path, "imblearn.under_sampling:EditedNearestNeighbours")
    table = shards.index["class_table"]
    assert not rows.synthetic.any()
    assert sum(entry["after"] for entry in table) < sum(entry["before"] for entry in table)
    assert "missed its targets" not in caplog.text


def test_a_synthetic_series_has_the_length_of_its_origin(tmp_path):
    generator = np.random.default_rng(1)
    lines = ["@problemName t", "@univariate true", "@equalLength false", "@classLabel true a b", "@data"]
    for row in range(60):
        values = generator.normal(size=4 + row % 4) + row % 3
        lines.append(",".join(f"{value:.4f}" for value in values) + f":{'ab'[row % 3 == 0]}")
    (tmp_path / "t_TRAIN.ts").write_text("\n".join(lines) + "\n")
    config = make_config(tmp_path / "t_TRAIN.ts", source="ts", balance="my_balancing:Jitter")
    prepare_shards(config, tmp_path / "shards")
    assert verify_shards(tmp_path / "shards") == []
    shards = ShardReader(tmp_path / "shards")
    rows = shards.read("train", 0, shards.rows("train"))
    length = dict(zip(rows.source_index[~rows.synthetic].tolist(), rows.length[~rows.synthetic].tolist(), strict=True))
    assert rows.synthetic.any()
    for x, steps, origin in zip(
        rows.x[rows.synthetic], rows.length[rows.synthetic], rows.source_index[rows.synthetic], strict=True
    ):
        assert steps == length[int(origin)]
        assert not x[steps:].any()


def categories(folder, balance):
    generator = np.random.default_rng(2)
    lines = ["colour,size,label"]
    lines += [
        f"{'rgb'[generator.integers(3)]},{'smlx'[generator.integers(4)]},{'yn'[row % 4 == 0]}" for row in range(90)
    ]
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    options = {"source": "csv", "category_columns": ["colour", "size"]}
    config = make_config(folder / "t.csv", balance=balance, **options)
    prepare_shards(config, folder / "shards")
    return ShardReader(folder / "shards")


def test_categories_stay_categories(tmp_path):
    pytest.importorskip("pyarrow")
    shards = categories(tmp_path, "imblearn.over_sampling:SMOTEN")
    rows = shards.read("train", 0, shards.rows("train"))
    assert len(set(np.bincount(rows.y))) == 1
    assert set(rows.x[:, 0]) == {0, 1, 2}
    assert verify_shards(tmp_path / "shards") == []


def test_mixed_categories_are_refused(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match=r"fit_resample returned -?[\d.]+ in column colour, which holds categories"):
        categories(tmp_path, "my_balancing:Jitter")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken_balancing:Nothing", r"expected a class with a method fit_resample\(x, y\) .* a class without it"),
        ("broken_balancing:function", r"expected a class with a method fit_resample\(x, y\) .* but it is function"),
        ("broken_balancing:Missing", "module broken_balancing has no class Missing"),
        ("absent_balancing:Missing", "module absent_balancing cannot be imported"),
        ("broken_balancing:Needs", "cannot be created .*TypeError.* may require only random_state, k_neighbors, cat"),
        ("broken_balancing:Raises", r"fit_resample failed \(KeyError: 'hue'\)"),
        ("broken_balancing:OnlyX", "fit_resample returned ndarray, expected two arrays, x and y"),
        ("broken_balancing:Narrow", r"x of the shape \(\d+, 11\), expected \(rows, 12\)"),
        ("broken_balancing:FewLabels", r"y of the shape \(\d+,\), expected \(\d+,\), one label for each row"),
        ("broken_balancing:OtherLabels", "the label 3, expected an integer from 0 to 2"),
        ("broken_balancing:HalfLabels", "the label [012].5, expected an integer from 0 to 2"),
        ("broken_balancing:Infinite", "not finite in float32, in row 4 of x"),
        ("broken_balancing:Text", "fit_resample returned x as list, expected numbers"),
        ("broken_balancing:Ragged", "y with rows of unequal length, expected integers"),
        ("broken_balancing:Exits", r"fit_resample failed \(SystemExit: bye\)"),
        ("broken_balancing:Empties", "would remove all rows of class 1: set data.balance = 'smote'"),
    ],
)
def test_a_broken_class_is_refused(tmp_path, name, message):
    with pytest.raises(InputError, match=message) as refused:
        prepared(tmp_path, name)
    assert str(refused.value).startswith("data.balance = ")
    assert name in str(refused.value)
    assert not (tmp_path / "shards").exists()


def test_a_missing_class_is_refused_before_the_data_are_read(tmp_path):
    config = make_config("absent.npz", balance="broken_balancing:Nothing")
    with pytest.raises(InputError, match="fit_resample"):
        prepare_shards(config, tmp_path / "shards")


def test_folds_of_the_search_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"search\.folds = 3 needs another data\.balance"):
        load_config("digits", ["data.balance=my_balancing:Jitter", "search.folds=3"])


def test_a_changed_class_is_reported(tmp_path, caplog):
    prepared(tmp_path, "my_balancing:Jitter")
    assert list(json.loads((tmp_path / "shards/index.json").read_text())["code"]) == ["my_balancing"]
    prepared(tmp_path, "my_balancing:Jitter")
    assert "has changed" not in caplog.text
    with (tmp_path / "my_balancing.py").open("a") as file:
        file.write("# changed\n")
    prepared(tmp_path, "my_balancing:Jitter")
    assert re.search(r"my_balancing.py has changed since it prepared the shards in .*--restart", caplog.text)

"""Every balancing method, its targets, and preparation of sources larger than the memory budget."""

import hashlib
import json
import sys

import numpy as np
import pytest
from data.conftest import make_config, uneven_data
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import ADASYN, SMOTENC, SVMSMOTE, BorderlineSMOTE, KMeansSMOTE, RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler

from rcdp_hpc.config.choices import BALANCING_METHODS, balancing_choice
from rcdp_hpc.data.balancing import neighbours as neighbours_module
from rcdp_hpc.data.balancing.lengths import resample_steps
from rcdp_hpc.data.balancing.neighbours import nearest_rows
from rcdp_hpc.data.balancing.random_over import plan_copies
from rcdp_hpc.data.balancing.random_under import remaining_samples
from rcdp_hpc.data.balancing.registry import load_method
from rcdp_hpc.data.balancing.row_numbers import class_seed
from rcdp_hpc.data.balancing.smote import draw_smote, plan_smote
from rcdp_hpc.data.balancing.targets import class_targets
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.rows import on_segment
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.errors import InputError

NAMES = ["a", "b", "c"]


def members_of(y):
    return [np.flatnonzero(y == label) for label in range(int(y.max()) + 1)]


def fingerprints(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("*.h5")}


@pytest.fixture
def tiny_budget(monkeypatch):
    """A budget that is too small for any class and any source."""
    monkeypatch.setattr(Budget, "held", property(lambda self: 0))
    monkeypatch.setattr(Budget, "source", property(lambda self: 1000))


@pytest.mark.parametrize("method", ["smote", "random_over", "random_under"])
def test_balanced_classes_need_no_import_of_imbalanced_learn(method, monkeypatch, tmp_path):
    """The import takes longer than the preparation of a small source."""
    monkeypatch.setitem(sys.modules, f"rcdp_hpc.data.balancing.{method}", None)
    x = np.random.default_rng(0).normal(size=(60, 5))
    configs = {}
    for name, labels in (("even", np.arange(60) % 3), ("uneven", np.minimum(np.arange(60) % 4, 2))):
        np.savez(tmp_path / f"{name}.npz", x=x, y=labels)
        configs[name] = make_config(source="npz", path=str(tmp_path / f"{name}.npz"), balance=method)
    prepare_shards(configs["even"], tmp_path / "even")
    shards = ShardReader(tmp_path / "even")
    rows = shards.columns("train", 0, shards.rows("train"), ("y", "synthetic"))
    assert np.bincount(rows["y"]).tolist() == [shards.rows("train") // 3] * 3
    assert not rows["synthetic"].any()
    with pytest.raises(ImportError):
        prepare_shards(configs["uneven"], tmp_path / "uneven")


@pytest.mark.parametrize(
    ("method", "ratio", "wanted", "expected"),
    [
        ("smote", 1.0, [], [100, 100, 100]),
        ("smote", 0.5, [], [100, 60, 50]),
        ("smote", 1.0, [0, 80, 200], [100, 80, 200]),
        ("random_under", 1.0, [], [10, 10, 10]),
        ("random_under", 0.5, [], [20, 20, 10]),
        ("random_under", 1.0, [30, 0, 5], [30, 60, 5]),
    ],
)
def test_targets(method, ratio, wanted, expected):
    assert class_targets([100, 60, 10], NAMES, balancing_choice(method), ratio, wanted) == expected


@pytest.mark.parametrize(
    ("method", "wanted", "message"),
    [
        ("smote", [1, 2], "has 2 numbers, but the source has 3 classes"),
        ("smote", [100, 50, 10], "class b has 60 training rows and should have 50, .* 'random_under'"),
        ("random_under", [100, 70, 10], "class b has 60 training rows and should have 70, .* 'random_over'"),
        ("random_over", [-1, 0, 0], "class a"),
    ],
)
def test_targets_that_cannot_be_reached(method, wanted, message):
    with pytest.raises(InputError, match=message):
        class_targets([100, 60, 10], NAMES, balancing_choice(method), 1.0, wanted)


@given(
    rows=st.integers(9, 60), width=st.sampled_from([2, 20]), block=st.integers(1, 70), query=st.integers(1, 70),
    seed=st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_neighbours_in_blocks_are_those_of_brute_force(rows, width, block, query, seed):
    x = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours_module, "FITTED_BYTES", block * 4 * width)
        patch.setattr(neighbours_module, "QUERY_BYTES", query * 4 * width)
        searched = np.arange(seed % 3, rows, 1 + seed % 4)
        nearest = nearest_rows(lambda part: x[part], rows, searched, 7)
    distance = ((x[:, None].astype(float) - x) ** 2).sum(axis=2)
    np.testing.assert_array_equal(nearest, np.argsort(distance, axis=1)[searched, 1:8])


def test_neighbours_of_wide_rows(monkeypatch):
    monkeypatch.setattr(neighbours_module, "WIDEST", 10)
    x = np.random.default_rng(0).normal(size=(50, 30)).astype(np.float32)
    nearest = nearest_rows(lambda part: x[part], 50, np.arange(50), 5)
    np.testing.assert_array_equal(nearest, np.argsort(((x[:, None] - x) ** 2).sum(axis=2), axis=1)[:, 1:6])


def test_a_row_is_never_its_own_neighbour():
    x = np.repeat(np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), 5, axis=0)
    nearest = nearest_rows(lambda part: x[part], 30, np.arange(30), 3)
    assert (nearest != np.arange(30)[:, None]).all()
    np.testing.assert_array_equal(nearest // 5, np.repeat(np.arange(30)[:, None] // 5, 3, axis=1))


def test_a_class_larger_than_the_budget_gets_the_same_plan():
    x, y = uneven_data((80, 40, 12))
    draws = draw_smote(members_of(y), NAMES, 7, 1)
    plans = [plan_smote(lambda rows: x[rows], members_of(y), draws, room=room) for room in (0, 2**40)]
    for one, other in zip(*plans, strict=True):
        for name in ("source", "neighbour", "step"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_random_sampling_is_that_of_imbalanced_learn():
    _, y = uneven_data((80, 40, 12))
    members = members_of(y)
    (plan,) = plan_copies(members, [80, 50, 12], 3)
    numbers, labels = np.arange(41)[:, None], np.array([0] * 40 + [1])
    plain = RandomOverSampler(sampling_strategy={0: 50}, random_state=class_seed(3, 1)).fit(numbers, labels)
    plain.fit_resample(numbers, labels)
    np.testing.assert_array_equal(plan.source, members[1][plain.sample_indices_[plain.sample_indices_ < 40][40:]])
    remaining = remaining_samples(members, [80, 30, 12], 3)
    plain = RandomUnderSampler(sampling_strategy={0: 30}, random_state=class_seed(3, 1))
    plain.fit_resample(numbers, labels)
    chosen = plain.sample_indices_[plain.sample_indices_ < 40]
    np.testing.assert_array_equal(remaining[1], np.sort(members[1][chosen]))
    assert len(remaining[1]) == 30


@pytest.mark.parametrize(
    ("method", "plain"),
    [
        ("borderline_smote", BorderlineSMOTE(k_neighbors=7, random_state=5)),
        ("svm_smote", SVMSMOTE(k_neighbors=7, random_state=5)),
        ("kmeans_smote", KMeansSMOTE(k_neighbors=7, random_state=5)),
    ],
)
def test_rows_are_those_of_imbalanced_learn(method, plain):
    x, y = uneven_data((120, 60), shape=(6,), seed=4)
    expected, _ = plain.fit_resample(x, y)
    tables = load_method(method).combined_rows(x, y, [120, 120], 7, 5)
    assert tables
    made = np.concatenate([on_segment(x[t.source], x[t.neighbour], t.step) for t in tables])
    np.testing.assert_allclose(made, expected[len(x) :], atol=1e-5)
    assert all((y[t.source] == 1).all() and (y[t.neighbour] == 1).all() for t in tables)


def test_adasyn_is_that_of_imbalanced_learn():
    x, y = uneven_data((120, 60), shape=(6,), seed=4)
    expected, _ = ADASYN(n_neighbors=7, random_state=5 + 1).fit_resample(x, y)
    (table,) = load_method("adasyn").combined_rows(x, y, [120, 120], 7, 5)
    np.testing.assert_allclose(on_segment(x[table.source], x[table.neighbour], table.step), expected[180:], atol=1e-5)


def test_smotenc_is_that_of_imbalanced_learn():
    x, y = uneven_data((60, 30), shape=(4,), seed=4)
    x[:, 1] = np.random.default_rng(0).integers(0, 3, 90)
    expected, _ = SMOTENC([1], k_neighbors=5, random_state=5).fit_resample(x, y)
    (table,) = load_method("smotenc").combined_rows(x, y, [60, 60], 5, 5, [1])
    made = on_segment(x[table.source], x[table.neighbour], table.step)
    made[:, [1]] = table.values
    np.testing.assert_allclose(made, expected[90:], atol=1e-5)
    assert set(made[:, 1]) <= {0.0, 1.0, 2.0}


METHODS = [choice.name for choice in BALANCING_METHODS if not balancing_choice(choice.name).needs_categories]


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory):
    x, y = uneven_data((150, 70, 60), shape=(3, 2), seed=2)
    path = tmp_path_factory.mktemp("uneven") / "uneven.npz"
    np.savez(path, x=x, y=y)
    return path


@pytest.mark.parametrize("method", METHODS)
def test_shards_of_every_method_pass_verification(tmp_path, overlapping, method):
    index = prepare_shards(make_config(overlapping, balance=method, shards=3), tmp_path / "shards")
    assert verify_shards(tmp_path / "shards") == []
    table = index["class_table"]
    after = [entry["after"] for entry in table]
    if method in ("smote", "random_over"):
        assert after == [max(entry["before"] for entry in table)] * 3
    if method == "random_under":
        assert after == [min(entry["before"] for entry in table)] * 3
    made = sum(index["splits"]["train"]["synthetic_counts"])
    assert (made > 0) == (method not in ("random_under", "none"))


def test_rows_of_svm_smote_are_clipped_to_bytes(tmp_path):
    x, y = uneven_data((150, 70, 60), shape=(3, 2), seed=2)
    np.savez(tmp_path / "bytes.npz", x=(60 * x + 30).clip(0, 255).astype(np.uint8), y=y)
    prepare_shards(make_config(tmp_path / "bytes.npz", balance="svm_smote", shards=3), tmp_path / "shards")
    shards = ShardReader(tmp_path / "shards")
    rows = shards.read("train", 0, shards.rows("train"))
    assert (rows.step < 0).any()
    assert verify_shards(tmp_path / "shards") == []


@pytest.mark.parametrize(("method", "counts"), [("smote", [120, 0, 70]), ("random_under", [50, 0, 7])])
def test_balance_counts(tmp_path, overlapping, method, counts):
    config = make_config(overlapping, balance=method, balance_counts=counts)
    index = prepare_shards(config, tmp_path / "shards")
    table = index["class_table"]
    assert [entry["after"] for entry in table] == [counts[0], table[1]["before"], counts[2]]
    assert verify_shards(tmp_path / "shards") == []


@pytest.mark.parametrize("method", ["smote", "random_over", "random_under", "none"])
def test_streamed_shards_equal_shards_made_in_memory(tmp_path, overlapping, tiny_budget, method, monkeypatch):
    config = make_config(overlapping, balance=method, shards=3)
    prepare_shards(config, tmp_path / "streamed")
    monkeypatch.undo()
    prepare_shards(config, tmp_path / "in_memory")
    assert fingerprints(tmp_path / "streamed") == fingerprints(tmp_path / "in_memory")
    indices = [json.loads((tmp_path / name / "index.json").read_text()) for name in ("streamed", "in_memory")]
    assert indices[0] == indices[1]


@pytest.mark.parametrize(
    "method", ["borderline_smote", "svm_smote", "adasyn", "kmeans_smote", "smote_tomek", "smote_enn"]
)
def test_methods_with_all_classes_in_memory_are_refused_beyond_the_budget(tmp_path, overlapping, tiny_budget, method):
    message = rf"data\.balance = '{method}' holds the samples of all classes .* data\.memory_budget to at least 1 "
    with pytest.raises(InputError, match=message):
        prepare_shards(make_config(overlapping, balance=method), tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def test_smotenc_is_refused_beyond_the_budget(tmp_path, tiny_budget):
    pytest.importorskip("pyarrow")
    lines = [f"{row % 3},{row / 2},{'yn'[row % 4 == 0]}" for row in range(90)]
    (tmp_path / "t.csv").write_text("\n".join(["kind,weight,label", *lines]))
    config = make_config(tmp_path / "t.csv", source="csv", category_columns=["kind"], balance="smotenc")
    message = r"'smotenc' holds the samples of all classes .* at least 1 \(MiB\), or set .* = 'random_over'"
    with pytest.raises(InputError, match=message):
        prepare_shards(config, tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def test_a_budget_too_small_for_a_block_of_rows(tmp_path, overlapping):
    message = r"data\.memory_budget = 1 MiB cannot hold one block of rows .*: at least \d+ MiB are needed"
    with pytest.raises(InputError, match=message):
        prepare_shards(make_config(overlapping, memory_budget=1), tmp_path / "shards")


def test_the_error_of_imbalanced_learn_is_part_of_the_message(tmp_path):
    x, y = uneven_data((60, 16), shape=(4,))
    x[y == 1] += 1000
    np.savez(tmp_path / "far.npz", x=x, y=y)
    with pytest.raises(
        InputError, match=r"data\.balance = 'adasyn' does not suit .*imbalanced-learn refuses .*data\.balance = 'smote'"
    ):
        prepare_shards(make_config(tmp_path / "far.npz", balance="adasyn"), tmp_path / "shards")


def test_tables_with_categories(tmp_path):
    pytest.importorskip("pyarrow")
    generator = np.random.default_rng(0)
    lines = ["size,colour,weight,label"]
    for row in range(90):
        lines.append(f"{generator.normal():.3f},{['red', 'green', 'blue'][row % 3]},{row},{'yn'[row % 4 == 0]}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    options = {"source": "csv", "category_columns": ["colour"], "smote_neighbours": 5}
    for balance in ("smote", "smote_tomek"):
        with pytest.raises(InputError, match=r"would mix the numbers of data.category_columns: set .* = 'smotenc'"):
            prepare_shards(make_config(tmp_path / "t.csv", balance=balance, **options), tmp_path / "shards")
    prepare_shards(make_config(tmp_path / "t.csv", balance="smotenc", **options), tmp_path / "shards")
    assert verify_shards(tmp_path / "shards") == []
    train = ShardReader(tmp_path / "shards").read("train", 0, 60)
    assert set(train.x[:, 1]) == {0.0, 1.0, 2.0}
    options.pop("category_columns")
    with pytest.raises(InputError, match="'smotenc' is for tables"):
        prepare_shards(
            make_config(tmp_path / "t.csv", balance="smotenc", drop_columns=["colour"], **options), tmp_path / "other"
        )


@pytest.mark.parametrize("balance", ["smote", "smotenc"])
def test_series_with_categories_can_only_be_copied(tmp_path, balance):
    pytest.importorskip("pyarrow")
    lines = [f"{row // 2},{'ab'[row % 2]},{row},{'yn'[row // 2 % 4 == 0]}" for row in range(120)]
    (tmp_path / "t.csv").write_text("\n".join(["who,kind,weight,label", *lines]))
    options = {"source": "csv", "category_columns": ["kind"], "sequence_column": "who"}
    with pytest.raises(InputError, match=r"would mix the numbers of data.category_columns: set .* = 'random_over'"):
        prepare_shards(make_config(tmp_path / "t.csv", balance=balance, **options), tmp_path / "shards")
    prepare_shards(make_config(tmp_path / "t.csv", balance="random_over", **options), tmp_path / "shards")
    assert verify_shards(tmp_path / "shards") == []


@pytest.mark.parametrize(("length", "new_length"), [(1, 4), (4, 1), (2, 2), (3, 5), (5, 3)])
def test_resampling_a_series(length, new_length):
    values = np.arange(1, length + 1, dtype=np.float32)
    x = np.zeros((1, 6, 2), np.float32)
    x[0, :length, 0] = values
    resampled = resample_steps(x, np.array([length]), np.array([new_length]))
    expected = np.interp(np.linspace(0, length - 1, new_length), np.arange(length), values)
    np.testing.assert_allclose(resampled[0, :new_length, 0], expected, rtol=1e-6)
    assert not resampled[0, new_length:].any()

"""Samples that occur several times: the shards of every method pass verification, and damage is still found."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from data.conftest import make_config
from data.shards.test_verify import change, far_neighbour, neighbour_of_another_class, off_the_segment, own_neighbour
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rcdp_hpc.config.choices import BALANCING_METHODS, balancing_choice
from rcdp_hpc.data.balancing.whole_set import other_than_itself
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.errors import InputError

METHODS = [choice.name for choice in BALANCING_METHODS if not balancing_choice(choice.name).needs_categories]


def repeated(seed, counts, times, spread, offset, width=3):
    """Return overlapping clouds with each sample `times` times, rounded so that distances tie."""
    generator = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.rint(generator.normal(size=(len(y), width)) * spread + y[:, None]) + offset
    order = generator.permutation(len(y) * times)
    return np.repeat(x, times, axis=0)[order].astype(np.float32), np.repeat(y, times)[order]


@pytest.mark.parametrize("method", METHODS)
@given(
    seed=st.integers(0, 10**6), times=st.sampled_from([1, 2, 8]), spread=st.sampled_from([0.3, 2.0, 40.0]),
    offset=st.sampled_from([0.0, 1e4, -1e6]), neighbours=st.sampled_from([1, 3, 7]),
    reserve=st.sampled_from([0.0, 0.3]), width=st.sampled_from([3, 20]),
    counts=st.sampled_from([(20, 9, 5), (12, 4), (30, 15, 8, 3)]),
)  # fmt: skip
@example(seed=0, times=8, spread=0.3, offset=0.0, neighbours=7, reserve=0.0, width=3, counts=(15, 5, 3))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_shards_pass_verification(method, seed, times, spread, offset, neighbours, reserve, width, counts):
    x, y = repeated(seed, counts, times, spread, offset, width)
    options = {"balance": method, "smote_neighbours": neighbours, "reserve": reserve, "shards": 1}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "t.npz", x=x, y=y)
        try:
            prepare_shards(make_config(Path(folder) / "t.npz", **options), Path(folder) / "shards")
        except InputError:
            return
        assert verify_shards(Path(folder) / "shards") == []


@pytest.mark.parametrize("method", ["smotenc", "random_over"])
def test_repeated_rows_of_a_table_with_categories_pass_verification(tmp_path, method):
    pytest.importorskip("pyarrow")
    lines = [f"{row % 3 / 2},{'ab'[row % 2]},{'yn'[row % 5 == 0]}" for row in range(160)]
    (tmp_path / "t.csv").write_text("\n".join(["size,kind,label", *lines]))
    config = make_config(tmp_path / "t.csv", source="csv", category_columns=["kind"], balance=method, shards=1)
    prepare_shards(config, tmp_path / "shards")
    assert verify_shards(tmp_path / "shards") == []


@pytest.mark.parametrize("method", ["smote", "borderline_smote", "svm_smote", "adasyn"])
def test_repeated_series_of_unequal_length_pass_verification(tmp_path, method):
    generator = np.random.default_rng(3)
    lines = ["@univariate true", "@classLabel true a b", "@data"]
    for row in range(90):
        steps = [3, 5, 7][row % 3]
        values = ",".join(str(value) for value in generator.integers(0, 2, steps))
        lines.append(f"{values}:{'ab'[row % 4 == 0]}")
    (tmp_path / "t_TRAIN.ts").write_text("\n".join(["@problemName t", "@equalLength false", *lines]) + "\n")
    prepare_shards(
        make_config(tmp_path / "t_TRAIN.ts", source="ts", balance=method, smote_neighbours=5, shards=1),
        tmp_path / "shards",
    )
    assert verify_shards(tmp_path / "shards") == []


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repeated")
    x, y = repeated(0, (40, 14, 12), 3, 2.0, 0.0, width=6)
    np.savez(folder / "t.npz", x=x.reshape(-1, 3, 2), y=y)
    prepare_shards(make_config(folder / "t.npz", shards=1), folder / "shards")
    assert verify_shards(folder / "shards") == []
    return folder / "shards"


@pytest.mark.parametrize("edit", [off_the_segment, own_neighbour, neighbour_of_another_class, far_neighbour])
def test_damage_of_repeated_samples_is_found(undamaged, tmp_path, edit):
    directory = shutil.copytree(undamaged, tmp_path / "shards")

    def cut(columns):
        columns["x"] = columns["x"].copy()
        edit(columns)

    change(directory, "train", cut)
    assert verify_shards(directory) != []


def test_a_sample_is_not_its_own_neighbour():
    x = np.array([[0, 0], [0, 0], [5, 0], [5.5, 0], [9, 0]], np.float32)
    neighbours = other_than_itself(x, np.arange(5), np.array([0, 1, 2, 4]), np.array([0, 2, 2, 3]))
    assert neighbours.tolist() == [1, 2, 3, 3]

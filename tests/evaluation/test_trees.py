"""Boosted trees next to the result of a table."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from rcdp_hpc.config import load_config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.evaluation import trees
from rcdp_hpc.evaluation.trees import score_trees, tree_lines
from rcdp_hpc.pipeline.stages import run_stages

STAGES = ["prepare", "train", "evaluate"]


def checkerboard(folder, test_rows=200):
    """Write a table of two classes that are not linearly separable, imbalanced in training."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (600 + test_rows, 3)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    kept = np.ones(len(x), bool)
    kept[:600] = (y[:600] == 0) | (np.arange(600) % 4 == 0)
    train, test = np.flatnonzero(kept[:600]), np.arange(600, len(x))
    np.savez(folder / "board.npz", x=x[train], y=y[train], x_test=x[test], y_test=y[test])
    return x[train], y[train], x[test], y[test]


def configuration(folder, *more, kind="none"):
    (folder / "board.toml").write_text(
        f'[data]\nsource = "npz"\npath = "{folder / "board.npz"}"\n[reservoir]\nkind = "{kind}"\nnodes = 50\n'
        "[search]\ngenerations = 0\n[run]\nprogress = false\n"
    )
    return load_config(folder / "board.toml", ["training.threads=1", *more])


def test_the_better_one_is_named_in_log_and_summary(tmp_path, caplog):
    x, y, x_test, y_test = checkerboard(tmp_path)
    with caplog.at_level(logging.INFO):
        result = run_stages(STAGES, configuration(tmp_path), tmp_path / "run")["evaluate"]
    found = result["trees"]
    # All original rows count, including the validation rows, and no synthetic rows.
    expected = HistGradientBoostingClassifier(class_weight="balanced", random_state=1).fit(x, y).score(x_test, y_test)
    assert abs(found["accuracy"] - expected) < 0.05
    assert (found["better"], found["class_weight"], found["samples"]) == ("trees", "balanced", 200)
    assert found["accuracy"] > result["accuracy"] + 0.1
    assert json.loads((tmp_path / "run/report/summary.json").read_text())["test"]["trees"] == found
    assert f"fitting boosted trees to the {len(x)} original rows" in caplog.text
    assert "by accuracy the trees are better" in caplog.text


def test_trees_see_the_original_rows_alone(tmp_path, monkeypatch):
    x, y, *_ = checkerboard(tmp_path, 40)
    config = configuration(tmp_path)
    run_stages(["prepare"], config, tmp_path / "run")
    shards, seen = ShardReader(tmp_path / "run/shards", verify=False), []
    fit = HistGradientBoostingClassifier.fit
    monkeypatch.setattr(HistGradientBoostingClassifier, "fit", lambda *args: seen.append(args[1:]) or fit(*args))
    score_trees(config, shards, np.zeros(40, np.int64))
    ((rows, labels),) = seen
    assert rows.shape == x.shape
    assert np.bincount(labels).tolist() == np.bincount(y).tolist()
    # Means and standard deviations of columns are over all rows, for any split and balancing.
    scaled = (x - x.mean(0)) / x.std(0)
    np.testing.assert_allclose(np.sort(rows[:, 0]), np.sort(scaled[:, 0]), atol=0.2)


@pytest.mark.parametrize(
    ("limit", "choice", "fitted"), [(10, "auto", False), (10, "always", True), (10**9, "never", False)]
)
def test_large_tables_and_the_key(limit, choice, fitted, tmp_path, monkeypatch, caplog):
    checkerboard(tmp_path, 30)
    monkeypatch.setattr(trees, "MOST_CELLS", limit)
    with caplog.at_level(logging.INFO):
        result = run_stages(STAGES, configuration(tmp_path, f"training.tree_baseline={choice}"), tmp_path / "run")
    assert ("trees" in result["evaluate"]) == fitted
    assert ("boosted trees are not fitted for comparison" in caplog.text) == (choice == "auto")


def test_the_key_may_change_when_a_run_is_evaluated_again(tmp_path):
    checkerboard(tmp_path, 30)
    run_stages(STAGES, configuration(tmp_path, "training.tree_baseline=never"), tmp_path / "run")
    again = run_stages(["train", "evaluate"], configuration(tmp_path), tmp_path / "run")
    assert "trees" in again["evaluate"]


def test_other_data_have_no_trees(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 5, 2)).astype(np.float32)
    np.savez(tmp_path / "board.npz", x=x, y=np.arange(60) % 2)
    result = run_stages(STAGES, configuration(tmp_path, "training.tree_baseline=always"), tmp_path / "run")
    assert "trees" not in result["evaluate"]


def test_a_difference_by_chance_is_not_significant():
    right = np.ones(20, bool)
    one_off, seven_off = right.copy(), right.copy()
    one_off[0], seven_off[:7] = False, False
    assert trees._paired(right, right) == ("neither", 1.0)
    assert trees._paired(one_off, right) == ("neither", 1.0)
    better, p_value = trees._paired(right, seven_off)
    assert (better, round(p_value, 6)) == ("model", round(2 / 2**7, 6))
    assert trees._paired(seven_off, right)[0] == "trees"


def test_the_lines():
    model = {"accuracy": 0.8, "correct": 80, "macro_f1": 0.5}
    found = {
        "accuracy": 0.7,
        "correct": 70,
        "macro_f1": 0.6,
        "class_weight": "none",
        "better": "model",
        "p_value": 0.01,
    }
    first, second = tree_lines(model, found)
    assert first.endswith("(scikit-learn's HistGradientBoosting): 70.00 %, macro F1 0.6000")
    assert second == ("  by accuracy the model is better by 10 samples (p = 0.01); by macro F1 the trees are better")


@pytest.mark.parametrize(("kind", "is_logged"), [("random", True), ("none", False)])
def test_a_table_is_one_step(kind, is_logged, tmp_path, caplog):
    checkerboard(tmp_path, 30)
    with caplog.at_level(logging.INFO):
        run_stages(["prepare", "train"], configuration(tmp_path, kind=kind), tmp_path / "run")
    sentence = "the reservoir is a layer of 50 random tanh features of the 3 inputs"
    assert (sentence in caplog.text) == is_logged

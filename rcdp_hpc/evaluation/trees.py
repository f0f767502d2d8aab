"""Gradient boosted trees on a table, scored next to the model: what a user would otherwise take for a table."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.index import facts_in
from rcdp_hpc.data.shards.reader import ShardSet
from rcdp_hpc.model.metrics import confusion_matrix, scores
from rcdp_hpc.runtime.threads import limit_threads

log = logging.getLogger(__name__)

# Rows x features x trees of a round. A fit of this size took 11 to 15 s of one core.
MOST_CELLS = 5_000_000
BLOCK_ROWS = 65_536
# Differences that chance alone makes this rarely count.
SIGNIFICANCE = 0.05


def wants_trees(config: Config, shards: ShardSet) -> bool:
    """Return whether boosted trees are fitted, as ``training.tree_baseline`` says; a table left out is logged.

    Parameters
    ----------
    config : Config
    shards : ShardSet
    """
    choice = config.training.tree_baseline
    if choice == "never" or facts_in(shards.index).kind != "table":
        return False
    cells = _original_rows(shards) * math.prod(shards.sample_shape) * _trees_a_round(len(shards.classes))
    if choice == "auto" and cells > MOST_CELLS:
        log.info(
            "no boosted trees for comparison: rows x features x classes = %d exceed %d (training.tree_baseline = "
            "'always' fits them)",
            *(cells, MOST_CELLS),
        )
        return False
    return True


def score_trees(config: Config, shards: ShardSet, predicted: NDArray[np.int64]) -> dict[str, Any]:
    """Fit boosted trees once, with default settings, to the original training and validation rows; score the test rows.

    Parameters
    ----------
    config : Config
        If ``data.balance`` balances, all classes weigh the same.
    shards : ShardSet
    predicted : ndarray of int64, shape (test rows,)
        Classes that the model predicts, in the order of the shards.

    Returns
    -------
    dict
        accuracy, correct, samples, macro_f1, class_weight, seconds; ``better``, "trees", "model" or "neither", by the
        paired sign test on the test rows; ``p_value`` of the test.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    balanced = config.data.balance != "none" or config.loss.class_weights == "balanced"
    class_weight = "balanced" if balanced else None
    log.info("fitting boosted trees to the %d original rows, for comparison", _original_rows(shards))
    started = time.perf_counter()
    # One thread: the same sums on every machine.
    with limit_threads(1):
        trees = HistGradientBoostingClassifier(class_weight=class_weight, random_state=config.run.seed)
        trees.fit(*_original(shards))
        test = shards.read("test", 0, shards.rows("test"))
        found = trees.predict(_flat(test.x)).astype(np.int64)
    result = scores(confusion_matrix(test.y, found, len(shards.classes)))
    better, p_value = _paired(predicted == test.y, found == test.y)
    return {
        **{name: result[name] for name in ("accuracy", "correct", "samples", "macro_f1")},
        "class_weight": class_weight or "none",
        "better": better,
        "p_value": p_value,
        "seconds": time.perf_counter() - started,
    }


def tree_lines(model: Mapping[str, Any], trees: Mapping[str, Any]) -> list[str]:
    """Return what to print of boosted trees next to a model: their scores, and which of the two is better.

    Parameters
    ----------
    model, trees : mapping
        ``accuracy``, ``correct`` and ``macro_f1`` of both; the others of `score_trees`.
    """
    weights = ", classes weighted" if trees["class_weight"] == "balanced" else ""
    more = trees["correct"] - model["correct"]
    by_accuracy = {
        "trees": f"the trees are better, {more} more samples right",
        "model": f"the model is better, {-more} more samples right",
        "neither": f"neither is clearly better, {abs(more)} samples apart",
    }[trees["better"]]
    ahead = trees["macro_f1"] - model["macro_f1"]
    by_class = "the trees are better" if ahead > 0 else "the model is better" if ahead < 0 else "both are the same"
    return [
        f"boosted trees on the same rows (scikit-learn's HistGradientBoosting{weights}): {100 * trees['accuracy']:.2f} "
        f"%, macro F1 {trees['macro_f1']:.4f}",
        f"  by accuracy {by_accuracy} (p = {trees['p_value']:.2g}); by macro F1 {by_class}",
    ]


def _trees_a_round(classes: int) -> int:
    return 1 if classes == 2 else classes


def _original_rows(shards: ShardSet) -> int:
    splits = (shards.index["splits"][name] for name in ("train", "validation"))
    return sum(split["rows"] - sum(split["synthetic_counts"]) for split in splits)


def _original(shards: ShardSet) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the training and validation rows that balancing did not make, shape (rows, features), and labels."""
    x, y = [], []
    for split in ("train", "validation"):
        for start in range(0, shards.rows(split), BLOCK_ROWS):
            rows = shards.read(split, start, min(start + BLOCK_ROWS, shards.rows(split)))
            x.append(_flat(rows.x[~rows.synthetic]))
            y.append(rows.y[~rows.synthetic])
    return np.concatenate(x), np.concatenate(y)


def _flat(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x.reshape(len(x), -1)


def _paired(model: NDArray[np.bool_], trees: NDArray[np.bool_]) -> tuple[str, float]:
    """Return which of two classifiers is better on the same samples, by the sign test on those that one has right."""
    from scipy.stats import binomtest

    only_model, only_trees = int((model & ~trees).sum()), int((trees & ~model).sum())
    apart = only_model + only_trees
    p_value = float(binomtest(only_model, apart).pvalue) if apart else 1.0
    if p_value >= SIGNIFICANCE:
        return "neither", p_value
    return ("model" if only_model > only_trees else "trees"), p_value

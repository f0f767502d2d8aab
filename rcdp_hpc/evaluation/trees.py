"""Gradient boosted trees, the usual classifier for tables, as a baseline for the model."""

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
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.model.criteria.paired import mcnemar_p
from rcdp_hpc.model.metrics import confusion_matrix, scores
from rcdp_hpc.runtime.threads import limit_threads

log = logging.getLogger(__name__)

# Upper limit of rows x features x trees per boosting round. A fit of this size took 11 to 15 s on one core.
MOST_CELLS = 5_000_000
BLOCK_ROWS = 65_536
# Significance level of the sign test.
SIGNIFICANCE = 0.05


def wants_trees(config: Config, shards: ShardReader) -> bool:
    """Return whether boosted trees are fitted, as ``training.tree_baseline`` decides; log it if a table is too large.

    Parameters
    ----------
    config : Config
    shards : ShardReader
    """
    choice = config.training.tree_baseline
    if choice == "never" or facts_in(shards.index).kind != "table":
        return False
    cells = _original_rows(shards) * math.prod(shards.sample_shape) * _trees_a_round(len(shards.classes))
    if choice == "auto" and cells > MOST_CELLS:
        log.info(
            "boosted trees are not fitted for comparison: rows x features x classes = %d exceed %d "
            "(training.tree_baseline = 'always' fits them)",
            *(cells, MOST_CELLS),
        )
        return False
    return True


def score_trees(config: Config, shards: ShardReader, predicted: NDArray[np.int64]) -> dict[str, Any]:
    """Fit boosted trees with default settings to the original training and validation rows; score the test rows.

    Parameters
    ----------
    config : Config
        If ``data.balance`` balances the classes, all classes have the same weight.
    shards : ShardReader
    predicted : ndarray of int64, shape (test rows,)
        Class numbers that the model predicts, in the order of the shards.

    Returns
    -------
    dict
        accuracy, correct, samples, macro_f1, class_weight, seconds; ``better``, "trees", "model" or "neither", by the
        paired sign test on the test rows; ``p_value`` of the test.
    """
    balanced = config.data.balance != "none" or config.loss.class_weights != "none"
    class_weight = "balanced" if balanced else None
    log.info("fitting boosted trees to the %d original rows, for comparison", _original_rows(shards))
    started = time.perf_counter()
    # One thread: the same sums on every machine.
    with limit_threads(1):
        trees = boosted_trees(config.run.seed, class_weight=class_weight)
        trees.fit(*_original(shards))
        test = shards.read("test", 0, shards.rows("test"))
        tree_predicted = trees.predict(_flat(test.x)).astype(np.int64)
    result = scores(confusion_matrix(test.y, tree_predicted, len(shards.classes)))
    better, p_value = _paired(predicted == test.y, tree_predicted == test.y)
    return {
        **{name: result[name] for name in ("accuracy", "correct", "samples", "macro_f1")},
        "class_weight": class_weight or "none",
        "better": better,
        "p_value": p_value,
        "seconds": time.perf_counter() - started,
    }


def boosted_trees(seed: int, **settings: Any) -> Any:
    """Return scikit-learn's histogram gradient boosting, not fitted; `settings` are those other than its defaults."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed, **settings)


def tree_lines(model: Mapping[str, Any], trees: Mapping[str, Any]) -> list[str]:
    """Return lines for the log: the scores of boosted trees, and whether trees or model are better.

    Parameters
    ----------
    model, trees : mapping
        ``accuracy``, ``correct`` and ``macro_f1``; of `trees` also the other results of `score_trees`.
    """
    weights = ", classes weighted" if trees["class_weight"] == "balanced" else ""
    more = trees["correct"] - model["correct"]
    by_accuracy = {
        "trees": f"the trees are better by {more} samples",
        "model": f"the model is better by {-more} samples",
        "neither": f"neither is significantly better (difference: {abs(more)} samples)",
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


def _original_rows(shards: ShardReader) -> int:
    splits = (shards.index["splits"][name] for name in ("train", "validation"))
    return sum(split["rows"] - sum(split["synthetic_counts"]) for split in splits)


def _original(shards: ShardReader) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the training and validation rows without synthetic rows, shape (rows, features), and their labels."""
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
    """Return the better of two classifiers and the p-value, by the sign test on samples that only one has right."""
    only_model, only_trees = int((model & ~trees).sum()), int((trees & ~model).sum())
    p_value = mcnemar_p(only_model, only_trees)
    if p_value >= SIGNIFICANCE:
        return "neither", p_value
    return ("model" if only_model > only_trees else "trees"), p_value

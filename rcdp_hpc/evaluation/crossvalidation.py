"""The summary of a cross-validation: results of the folds, their mean and standard deviation, and a picture."""

from __future__ import annotations

import logging
import statistics
from typing import Any

import numpy as np

from rcdp_hpc.config import Config
from rcdp_hpc.evaluation.confusion import compact, read_confusion, worst_confusions, write_cells
from rcdp_hpc.evaluation.drawing import draw_folds_of
from rcdp_hpc.evaluation.stage import versions
from rcdp_hpc.runtime.digests import read_sealed, write_sealed
from rcdp_hpc.runtime.rundir import RunDirectory

log = logging.getLogger(__name__)

MEASURES = ("accuracy", "macro_f1")


def folds_done(run: RunDirectory, folds: int) -> list[int]:
    """Return the numbers of the folds that are evaluated, counted from 1."""
    return [fold for fold in range(1, folds + 1) if run.fold(fold).state("evaluate").get("status") == "done"]


def summarise(run: RunDirectory, config: Config) -> dict[str, Any]:
    """Write ``RUN/report/summary.json`` and draw ``folds.png``. All folds must be evaluated.

    Returns
    -------
    dict
        ``results`` of each fold, with its complexity; ``mean`` and ``deviation`` (the sample standard deviation, s^2 =
        sum (x - mean)^2 / (k - 1)) of accuracy, macro F1 and macro recall over the k folds; ``confusion`` of all folds
        together, as `compact` returns it; ``worst_confusions``; ``absent``, the classes without a sample; ``trees``,
        the mean accuracy and macro F1 of boosted trees, if every fold has them.
    """
    summaries = {fold: _summary_of(run.fold(fold)) for fold in range(1, config.data.folds + 1)}
    results = [
        {
            "fold": fold,
            **{name: summary["test"][name] for name in ("samples", "correct", *MEASURES)},
            "macro_recall": _macro_recall(summary["test"]),
            **({"trees": summary["test"]["trees"]} if "trees" in summary["test"] else {}),
            **({"complexity": summary["complexity"]} if "complexity" in summary else {}),
            "seconds": sum(summary["seconds"].values()),
        }
        for fold, summary in summaries.items()
    ]
    columns = {name: [result[name] for result in results] for name in (*MEASURES, "macro_recall")}
    classes: list[str] = summaries[1]["classes"]
    confusion = np.sum(
        [read_confusion(one["test"]["confusion"], run.fold(fold).report) for fold, one in summaries.items()], axis=0
    )
    content = {
        "folds": config.data.folds,
        "results": results,
        "mean": {name: statistics.fmean(values) for name, values in columns.items()},
        "deviation": {name: statistics.stdev(values) for name, values in columns.items()},
        **_mean_of_trees(results),
        "classes": classes,
        "absent": [classes[label] for label in np.flatnonzero(confusion.sum(1) == 0)],
        "worst_confusions": worst_confusions(confusion, classes),
        "confusion": compact(confusion),
        "seed": config.run.seed,
        "versions": versions(),
    }
    write_cells(confusion, run.report)
    write_sealed(run.report / "summary.json", content)
    log.info("wrote %s", run.report / "summary.json")
    draw_folds_of(run, {name.replace("_f1", " F1"): columns[name] for name in MEASURES})
    return content


def table(summary: dict[str, Any]) -> list[str]:
    """Return the results of the folds as lines of a table."""
    lines = ["fold       samples  accuracy  macro F1"]
    for one in summary["results"]:
        lines.append(f"{one['fold']:<9}  {one['samples']:7d}  {100 * one['accuracy']:6.2f} %    {one['macro_f1']:.4f}")
    for name in ("mean", "deviation"):
        values = summary[name]
        lines.append(f"{name:<9}  {'':7}  {100 * values['accuracy']:6.2f} %    {values['macro_f1']:.4f}")
    if "trees" in summary:
        trees = summary["trees"]
        lines.append(f"boosted trees, mean {100 * trees['accuracy']:6.2f} %    {trees['macro_f1']:.4f}")
    return lines


def _summary_of(run: RunDirectory) -> dict[str, Any]:
    return read_sealed(run.report / "summary.json", f"Write it again with rcdp evaluate --out {run.path}")


def _macro_recall(test: dict[str, Any]) -> float:
    """Return the mean recall of the classes with samples, also of a test of an earlier version, which lacks it."""
    return statistics.fmean([recall for recall in test["recall"] if recall is not None] or [0.0])


def _mean_of_trees(results: list[dict[str, Any]]) -> dict[str, Any]:
    if not all("trees" in result for result in results):
        return {}
    return {"trees": {name: statistics.fmean(result["trees"][name] for result in results) for name in MEASURES}}

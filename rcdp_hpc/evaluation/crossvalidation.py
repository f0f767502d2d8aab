"""The summary of a cross-validation: results of the folds, their mean and standard deviation, and a picture."""

from __future__ import annotations

import logging
import statistics
from typing import Any

import numpy as np

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices.criteria import CRITERIA, TITLES
from rcdp_hpc.evaluation.confusion import compact, named, read_confusion, worst_confusions, write_cells
from rcdp_hpc.evaluation.drawing import draw_folds_of
from rcdp_hpc.evaluation.stage import versions
from rcdp_hpc.runtime.digests import read_sealed, write_sealed
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.text import wrap_items

log = logging.getLogger(__name__)

# Those of the picture, and of boosted trees.
MEASURES = ("accuracy", "macro_f1")


def folds_done(run: RunDirectory, folds: int) -> list[int]:
    """Return the numbers of the folds that are evaluated, counted from 1."""
    return [fold for fold in range(1, folds + 1) if run.fold(fold).state("evaluate").get("status") == "done"]


def summarise(run: RunDirectory, config: Config) -> dict[str, Any]:
    """Write ``RUN/report/summary.json`` and draw ``folds.png``. All folds must be evaluated.

    Returns
    -------
    dict
        ``results`` of each fold, with its criteria, why some are undefined, the classes that are absent from its test,
        and its complexity; ``mean`` and ``deviation`` (the sample standard deviation, s^2 = sum (x - mean)^2 / (k - 1))
        of each criterion over the k folds in which it is defined; ``undefined_folds``, the numbers of the others;
        ``confusion`` of all folds together, as `compact` returns it; ``worst_confusions``; ``absent``, the classes
        without a sample; ``trees``, the mean accuracy and macro F1 of boosted trees, if every fold has them.
    """
    summaries = {fold: _summary_of(run.fold(fold)) for fold in range(1, config.data.folds + 1)}
    results = [_result(fold, summary) for fold, summary in summaries.items()]
    names = [name for name in CRITERIA.names if any(name in result for result in results)]
    columns = {name: [result[name] for result in results if result.get(name) is not None] for name in names}
    classes: list[str] = summaries[1]["classes"]
    confusion = np.sum(
        [read_confusion(one["test"]["confusion"], run.fold(fold).report) for fold, one in summaries.items()], axis=0
    )
    content = {
        "folds": config.data.folds,
        "results": results,
        "mean": {name: statistics.fmean(values) if values else None for name, values in columns.items()},
        "deviation": {name: statistics.stdev(values) if len(values) > 1 else None for name, values in columns.items()},
        "undefined_folds": _undefined_folds(results, names),
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


def _result(fold: int, summary: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a fold."""
    test = summary["test"]
    optional = {name: test[name] for name in ("uncalibrated", "trees") if name in test}
    return {
        "fold": fold,
        **{name: test[name] for name in ("samples", "correct", "absent")},
        # Tests of earlier versions lack it.
        "undefined": test.get("undefined", {}),
        **{name: test[name] for name in CRITERIA.names if name in test},
        **optional,
        **({"complexity": summary["complexity"]} if "complexity" in summary else {}),
        "seconds": sum(summary["seconds"].values()),
    }


def _undefined_folds(results: list[dict[str, Any]], names: list[str]) -> dict[str, list[int]]:
    """Return the folds in which a criterion is undefined, for the criteria with such folds."""
    folds = {name: [one["fold"] for one in results if one.get(name) is None] for name in names}
    return {name: numbers for name, numbers in folds.items() if numbers}


def table(summary: dict[str, Any]) -> list[str]:
    """Return the results of the folds as lines of a table, and the mean of each criterion."""
    lines = ["fold       samples  accuracy  macro F1"]
    for one in summary["results"]:
        lines.append(f"{one['fold']:<9}  {one['samples']:7d}  {100 * one['accuracy']:6.2f} %    {one['macro_f1']:.4f}")
    for name in ("mean", "deviation"):
        values = summary[name]
        lines.append(f"{name:<9}  {'':7}  {100 * values['accuracy']:6.2f} %    {values['macro_f1']:.4f}")
    if "trees" in summary:
        trees = summary["trees"]
        lines.append(f"boosted trees, mean {100 * trees['accuracy']:6.2f} %    {trees['macro_f1']:.4f}")
    return [*lines, *_criteria_lines(summary), *_absent_lines(summary["results"])]


def _criteria_lines(summary: dict[str, Any]) -> list[str]:
    width = max(map(len, TITLES.values()))
    lines = [f"{'measure':<{width}}    mean  deviation"]
    for name, mean in summary["mean"].items():
        deviation, folds = summary["deviation"][name], summary["undefined_folds"].get(name)
        shown = ["-" if value is None else f"{value:.4f}" for value in (mean, deviation)]
        without = f"  (undefined in fold {', '.join(map(str, folds[:10]))})" if folds else ""
        lines.append(f"{TITLES[name]:<{width}}  {shown[0]:>6}     {shown[1]:>6}{without}")
    return lines


def _absent_lines(results: list[dict[str, Any]]) -> list[str]:
    """Return lines that name the classes without a test sample in a fold."""
    lines = []
    for one in results:
        if one["absent"]:
            head = f"fold {one['fold']}: {len(one['absent'])} classes without test samples: "
            lines += wrap_items(head, named(one["absent"]))
    return lines


def _summary_of(run: RunDirectory) -> dict[str, Any]:
    return read_sealed(run.report / "summary.json", f"Write it again with rcdp evaluate --out {run.path}")


def _mean_of_trees(results: list[dict[str, Any]]) -> dict[str, Any]:
    if not all("trees" in result for result in results):
        return {}
    return {"trees": {name: statistics.fmean(result["trees"][name] for result in results) for name in MEASURES}}

"""Two classifiers on the same test rows: the record in ``summary.json``, and a sentence about it."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config.choices.criteria import TITLES
from rcdp_hpc.data.shards.index import load_index
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.evaluation.confusion import baseline_scores
from rcdp_hpc.model.criteria.paired import Difference, compare_predictions
from rcdp_hpc.model.metrics import confusion_matrix
from rcdp_hpc.runtime.digests import read_sealed, write_sealed
from rcdp_hpc.runtime.rundir import RunDirectory

RIDGE = "ridge"
# A difference with a p value below it is called one.
SIGNIFICANCE = 0.05
# Criteria that the sentence names, besides the accuracy.
NAMED = ("balanced_accuracy", "macro_f1")
FILE = "predictions.csv"
Record = dict[str, Any]
Key = tuple[str, str]


def compared_record(
    name: str, labels: NDArray[np.int64], predicted: NDArray[np.int64], other: NDArray[np.int64],
    classes: Sequence[str], seed: int,
) -> Record:  # fmt: skip
    """Return what ``summary.json`` says about the model and another classifier (docs/formats.md).

    Parameters
    ----------
    name : str
        "ridge", or the directory of another run.
    labels, predicted, other : ndarray of int64, shape (rows,)
        True classes, those that the model predicts, and those that the other classifier predicts.
    classes : sequence of str
    seed : int
        Of the bootstrap.
    """
    found = compare_predictions(labels, predicted, other, classes, seed)
    return {
        "with": name,
        "samples": len(labels),
        "other": baseline_scores(confusion_matrix(labels, other, len(classes)), classes),
        "only_model": found.only_first,
        "only_other": found.only_other,
        "p_value": found.p,
        "differences": {one: _difference(difference) for one, difference in found.differences.items()},
        "resamples": found.resamples,
        "seed": seed,
    }


def _difference(difference: Difference) -> Record:
    if math.isnan(difference.value):
        return {"value": None, "interval": None}
    return {"value": difference.value, "interval": [round(limit, 6) for limit in difference.interval]}


def compared_lines(record: Record) -> list[str]:
    """Return lines for people about a record of `compared_record`."""
    other = "ridge regression on the same states" if record["with"] == RIDGE else record["with"]
    scores = record["other"]
    lines = [
        f"{other}, for comparison: {100 * scores['accuracy']:.2f} %, macro F1 {scores['macro_f1']:.4f}",
        f"  {record['only_model']} samples are recognised by the model only, {record['only_other']} by the other only: "
        f"{verdict(record)} (McNemar, p = {record['p_value']:.2g})",
    ]
    changes = []
    for name in NAMED:
        value, interval = record["differences"][name]["value"], record["differences"][name]["interval"]
        if value is not None:
            changes.append(f"{TITLES[name]} {value:+.3f} ({interval[0]:+.3f} to {interval[1]:+.3f})")
    return [*lines, f"  model minus other: {', '.join(changes)}, 95 % intervals"]


def verdict(record: Record) -> str:
    """Return what McNemar's test says about two accuracies."""
    if record["p_value"] >= SIGNIFICANCE:
        return "no significant difference in accuracy"
    return f"the {'model' if record['only_model'] > record['only_other'] else 'other'} is more accurate"


def compare_with_run(run: RunDirectory, against: RunDirectory, seed: int = 0) -> Record:
    """Compare the test predictions of two evaluated runs, and record it in the ``summary.json`` of the first.

    Both must have predicted the same samples of the same data: the runs record the SHA-256 of their source, and
    ``predictions.csv`` the place of each test row in it and its class.

    Parameters
    ----------
    run, against : RunDirectory
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        As `compared_record` returns it.

    Raises
    ------
    InputError
        If a run is not evaluated, or their test rows are not the same.
    DataDamagedError
        If a file of either is damaged.
    """
    own, other = (_predictions(one) for one in (run, against))
    _refuse_other_samples(run, against, own, other)
    classes = load_index(run.shards)["classes"]
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = sorted({predicted for _, predicted in other.values()} - numbers.keys())
    if unknown:
        raise InputError(
            f"--against {against.path}: it predicts the class {unknown[0]!r}, which {run.path} does not have. Both "
            "runs must have the same classes."
        )
    columns = [(numbers[own[key][0]], numbers[own[key][1]], numbers[other[key][1]]) for key in own]
    labels, predicted, of_other = np.array(columns, np.int64).T
    record = compared_record(str(against.path), labels, predicted, of_other, classes, seed)
    path = run.report / "summary.json"
    summary = read_sealed(path, "Evaluate the run again (`rcdp evaluate`).")
    earlier = [one for one in summary.get("compared", ()) if one["with"] != record["with"]]
    write_sealed(path, {**summary, "compared": [*earlier, record]})
    return record


def _refuse_other_samples(
    run: RunDirectory, against: RunDirectory, own: dict[Key, tuple[str, str]], other: dict[Key, tuple[str, str]]
) -> None:
    """Raise an `InputError` unless both runs have predicted the same samples."""
    sources = [load_index(one.shards)["source"]["sha256"] for one in (run, against)]
    what = ""
    if sources[0] != sources[1]:
        what = "they were prepared from different data"
    elif own.keys() != other.keys():
        what = f"{len(own.keys() & other.keys())} of {len(own)} and {len(other)} test samples are the same"
    elif any(own[key][0] != other[key][0] for key in own):
        what = "the same samples have other classes"
    if what:
        raise InputError(
            f"--against {against.path}: its test rows are not those of {run.path}: {what}. A paired comparison needs "
            "the same test samples: prepare both runs from the same data with the same seed and split."
        )


def evaluated(run: RunDirectory) -> Path:
    """Return the file of the test predictions of a run; raise an `InputError` if it is not evaluated yet."""
    path = run.report / FILE
    if run.state("evaluate").get("status") != "done" or not path.exists():
        raise InputError(f"{run.path} is not evaluated yet: evaluate it first (rcdp evaluate --out {run.path})")
    return path


def _predictions(run: RunDirectory) -> dict[Key, tuple[str, str]]:
    """Return true and predicted class of each test sample, by part and row of the source."""
    path = evaluated(run)
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        try:
            return {(row["part"], row["row"]): (row["class"], row["predicted"]) for row in csv.DictReader(file)}
        except (KeyError, csv.Error) as error:
            raise DataDamagedError(
                f"{path}: not the predictions of a test ({error}). Evaluate the run again with --restart."
            ) from None

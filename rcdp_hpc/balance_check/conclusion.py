"""From held-out scores to the record: answers, calibration, comparison and verdict. On rank 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.balance_check.calibrated import calibrated_probabilities, ece, raw_probabilities
from rcdp_hpc.balance_check.comparison import Answers, Compared, Comparing, Difference
from rcdp_hpc.balance_check.measures import measure_of, measures_of
from rcdp_hpc.balance_check.methods.base import HeldOut, Method, Worth
from rcdp_hpc.balance_check.output import Record, method_record
from rcdp_hpc.balance_check.rows import CheckRows
from rcdp_hpc.balance_check.verdict import verdict
from rcdp_hpc.config import Config
from rcdp_hpc.model.criteria.confusion import Counts


@dataclass(frozen=True, eq=False)
class Readouts:
    """The held-out scores of a method's readouts.

    Attributes
    ----------
    scores : ndarray, shape (rows, classes), float64
    penalties : list of float
        By fold.
    probabilities : ndarray, shape (rows, classes), float64
        Calibrated by the other folds.
    calibration : dict
        ``ece_raw`` and ``ece`` before and after it, and ``calibration``, the methods of the folds.
    """

    scores: NDArray[np.float64]
    penalties: list[float]
    probabilities: NDArray[np.float64]
    calibration: dict[str, Any]

    @classmethod
    def of(cls, rows: CheckRows, scores: NDArray[np.float64], penalties: list[float]) -> Readouts:
        """Return the scores with their calibrated probabilities."""
        probabilities, methods = calibrated_probabilities(scores, rows.labels, rows.folds, rows.classes)
        errors = {
            "ece_raw": ece(raw_probabilities(scores, rows.labels), rows.labels),
            "ece": ece(probabilities, rows.labels),
        }
        return cls(scores, penalties, probabilities, {**errors, "calibration": methods})


def worth_of(criterion: str, classes: Sequence[str]) -> Worth:
    """Return the function of labels and answers that choices maximise; -1 if it is not defined for these labels."""
    measure = measure_of(criterion, classes)
    return lambda labels, predicted: float(
        np.nan_to_num(measure(Counts.of_rows(labels, predicted, len(classes))), nan=-1.0)
    )


def concluded(
    config: Config, rows: CheckRows, methods: Sequence[Method], found: Mapping[str, Readouts], criterion: str
) -> Record:
    """Return the record of a check, without what depends on the machine.

    Parameters
    ----------
    config : Config
    rows : CheckRows
    methods : sequence of Method
        In the order of the cost of a training, the first without balancing.
    found : mapping of str to Readouts
        By the method whose scores they are.
    criterion : str
        The measure that decides.
    """
    answers = [_answers(one, rows, found[one.scores_of], criterion) for one in methods]
    measures = measures_of(criterion, rows.classes)
    comparing = Comparing(rows.labels, rows.folds, len(rows.classes), measures, config.run.seed)
    results = comparing.compared(answers)
    keys = {one.name: _keys(one, config, answer) for one, answer in zip(methods, answers, strict=True)}

    def differences(first: Compared, other: Compared) -> dict[str, Difference]:
        return comparing.differences(first.answers, other.answers)

    end = verdict(results, criterion, keys, current_method(config, methods), differences)
    return {
        "methods": [
            method_record(one, found[method.scores_of].calibration, keys[method.name])
            for one, method in zip(results, methods, strict=True)
        ],
        "left_out": {one: rows.left_out[one] for one in rows.left_out},
        "verdict": {**asdict(end), "set": keys[end.method]},
    }


def _answers(method: Method, rows: CheckRows, found: Readouts, criterion: str) -> Answers:
    worth = worth_of(criterion, rows.classes)
    held_out = HeldOut(found.scores, found.probabilities, rows.labels, rows.folds, training_shares(rows), worth)
    answered = method.answers(held_out)
    count = len(rows.labels) if method.balance == "none" else rows.resampled[method.balance].rows
    return Answers(method.name, method.meaning, answered.predicted, count, found.penalties, answered.chosen)


def training_shares(rows: CheckRows) -> NDArray[np.float64]:
    """Return the share of each class in the original rows of each training part, shape (folds, classes)."""
    counts = rows.counts()
    training = counts.sum(axis=0) - counts
    return np.asarray(training / training.sum(axis=1, keepdims=True))


def _keys(method: Method, config: Config, answers: Answers) -> dict[str, Any]:
    """Return the keys to set; weights that are off need no mention."""
    keys = method.settings(config, answers.chosen)
    return {
        key: value
        for key, value in keys.items()
        if not (key == "loss.class_weights" and value == "none" == config.loss.class_weights)
    }


def current_method(config: Config, methods: Sequence[Method]) -> str | None:
    """Return the method that the configuration has now; None if it is not one of those compared."""
    if config.loss.class_weights not in ("none", "balanced"):
        return None
    weighted = config.loss.class_weights == "balanced"
    for one in methods:
        if one.scores_of == one.name and one.balance == config.data.balance and one.weighs == weighted:
            return one.name
    return None

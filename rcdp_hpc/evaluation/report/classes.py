"""Results of each class with their intervals, the confusion matrix, and the most frequent confusions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.evaluation.confusion import worst_confusions
from rcdp_hpc.evaluation.report.charts import interval_chart
from rcdp_hpc.evaluation.report.criteria import class_scores
from rcdp_hpc.evaluation.report.heat_map import NAMED_CLASSES, heat_map
from rcdp_hpc.evaluation.report.html import NOTHING, Html, join, paragraph, percent, table
from rcdp_hpc.evaluation.report.run_files import RunFiles
from rcdp_hpc.evaluation.report.text import MOST_ROWS, class_name, counted
from rcdp_hpc.model.intervals import wilson

# Up to this number of classes, all are drawn; of more, those with the lowest recall.
MOST_DRAWN = 25
MOST_CONFUSIONS = 20
Matrix = NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """A share and its 95 % interval, NaN if there are no trials.

    Attributes
    ----------
    value, low, high : float
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, successes: int, trials: int) -> Share:
        """Return the share of successes."""
        return cls(successes / trials if trials else math.nan, *wilson(successes, trials))

    @property
    def interval(self) -> str:
        """The interval as text."""
        return f"{100 * self.low:.1f} to {100 * self.high:.1f} %" if math.isfinite(self.low) else NOTHING


def no_test(files: RunFiles) -> Html:
    """Return a paragraph about a test that has no results."""
    return paragraph(f"The test has no results yet: evaluation {files.status('evaluate')}.", class_="problem")


def classes(files: RunFiles) -> Html:
    """Return the section about the results of each class."""
    if files.confusion is None or files.summary is None:
        return no_test(files)
    names = files.summary["classes"]
    areas = Html("") if files.test is None else class_scores(files.test, names)
    return join(class_results(files.confusion, names), areas)


def class_results(confusion: Matrix, names: Sequence[str]) -> Html:
    """Return recall and precision of each class with their Wilson intervals, as a picture and a table."""
    true, predicted, right = (values.tolist() for values in (confusion.sum(1), confusion.sum(0), np.diag(confusion)))
    recalls = [Share.of(*one) for one in zip(right, true, strict=True)]
    precisions = [Share.of(*one) for one in zip(right, predicted, strict=True)]
    order = list(range(len(names)))
    caption = "Results of each class on the test, with 95 % intervals (Wilson)"
    if len(names) > MOST_DRAWN:
        order.sort(key=lambda label: recalls[label].value if true[label] else math.inf)
        caption += ", those with the lowest recall first"
    if len(names) > MOST_ROWS:
        caption += f"; {MOST_ROWS:,} of {len(names):,} (report/summary.json has all)"
    header = ["class", "test samples", "recall", "95 % interval", "predicted", "precision", "95 % interval", "F1"]
    rows = []
    for label in order[:MOST_ROWS]:
        recall, precision = recalls[label], precisions[label]
        numbers = (true[label], percent(recall.value), recall.interval, predicted[label], percent(precision.value))
        f1 = _f1(right[label], true[label], predicted[label])
        rows.append([class_name(names[label]), *numbers, precision.interval, f1])
    if len(names) > NAMED_CLASSES:
        header.insert(1, "number")
        rows = [[name, label, *others] for label, (name, *others) in zip(order, rows, strict=False)]
    note = "Recall: share of the samples of a class that are recognised. Precision: share of the predictions of a "
    note += "class that are right. In repetitions, 95 % of such intervals cover the share in the population, if the "
    note += "samples are independent."
    shown = table(caption, header, rows, tall=len(rows) > 30)
    return join(_recall_picture(names, recalls, order), shown, paragraph(note, class_="note"))


def _f1(right: int, true: int, predicted: int) -> str:
    return f"{2 * right / (true + predicted):.3f}" if true + predicted else NOTHING


def _recall_picture(names: Sequence[str], recalls: Sequence[Share], order: Sequence[int]) -> Html:
    drawn = [label for label in order if math.isfinite(recalls[label].value)][:MOST_DRAWN]
    if not drawn:
        return paragraph("No class has test samples.", class_="problem")
    intervals = [(100 * one.low, 100 * one.value, 100 * one.high) for one in (recalls[label] for label in drawn)]
    worst = min(drawn, key=lambda label: recalls[label].value)
    fact = f"Recall of the classes with 95 % intervals: the lowest is {percent(recalls[worst].value)}, of class "
    fact += f"{class_name(names[worst])}."
    caption = "Recall of each class, and its 95 % interval."
    if len(drawn) < len(names):
        caption = f"Recall of {len(drawn)} classes, those with the lowest first, and its 95 % interval."
    low = max(0.0, math.floor((min(one[0] for one in intervals) - 2) / 10) * 10)
    return interval_chart(fact, caption, "recall (%)", [names[label] for label in drawn], intervals, (low, 100.0))


def confusions(files: RunFiles) -> Html:
    """Return the section about confusions."""
    if files.confusion is None or files.summary is None:
        return no_test(files)
    return confusion_results(files.confusion, files.summary["classes"])


def confusion_results(confusion: Matrix, names: Sequence[str]) -> Html:
    """Return the confusion matrix as a picture, and the most frequent confusions as a table."""
    worst = worst_confusions(confusion, list(names), MOST_CONFUSIONS)
    samples, wrong = int(confusion.sum()), int(confusion.sum() - np.trace(confusion))
    fact = f"Confusion matrix of {counted(len(names), 'class', 'classes')}: {wrong:,} of {samples:,} samples are "
    fact += "predicted in a wrong class"
    if worst:
        true, predicted = class_name(worst[0]["true"]), class_name(worst[0]["predicted"])
        fact += f", most often {true} as {predicted} ({worst[0]['samples']:,})"
    picture = heat_map(f"{fact}.", confusion, names)
    if not worst:
        return join(picture, paragraph("No test sample is confused."))
    rows = [
        (class_name(one["true"]), class_name(one["predicted"]), one["samples"], percent(one["share"])) for one in worst
    ]
    covered = sum(one["samples"] for one in worst)
    caption = f"The most frequent confusions: {covered:,} of {counted(wrong, 'wrong prediction')}"
    return join(picture, table(caption, ("true class", "predicted", "samples", "of the true class"), rows, words=(1,)))

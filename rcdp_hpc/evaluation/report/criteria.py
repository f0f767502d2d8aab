"""The criteria of a test with their intervals, overall and of each class, and comparisons on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rcdp_hpc.config.choices.criteria import CRITERIA, TITLES
from rcdp_hpc.evaluation.compared import RIDGE, verdict
from rcdp_hpc.evaluation.report.html import NOTHING, Html, bullets, join, number, paragraph, table
from rcdp_hpc.evaluation.report.run_files import RunFiles
from rcdp_hpc.evaluation.report.text import MOST_ROWS, class_name
from rcdp_hpc.evaluation.score_record import reason_lines

Record = dict[str, Any]
NOTE = (
    "Higher is better, except for log loss, Brier score and calibration error. Intervals hold for the class "
    "proportions of this test: that of accuracy is Wilson's, the others are from a bootstrap within each class."
)
CLASS_SCORES = {"f1": "F1", "pr_auc": "PR-AUC", "roc_auc": "ROC-AUC"}


def criteria(test: Record) -> Html:
    """Return the table of the criteria of a test; empty for a test without their intervals."""
    names = [name for name in CRITERIA.names if test.get(name) is not None]
    if "intervals" not in test or not names:
        return Html("")
    raw = test.get("uncalibrated", {})
    header, rows = ["measure", "value", "95 % interval", "what it is"], []
    for name in names:
        rows.append([TITLES[name], number(test[name]), limits(test["intervals"].get(name)), CRITERIA[name].meaning])
    if raw:
        header.insert(3, "before calibration")
        for name, row in zip(names, rows, strict=True):
            row.insert(3, number(raw.get(name)))
    shown = table("The criteria of the test", header, rows, words=(len(header) - 1,))
    return join(shown, bullets(line.strip() for line in reason_lines(test)), paragraph(NOTE, class_="note"))


def criteria_of_folds(summary: Record) -> Html:
    """Return the table of the criteria over the folds of a cross-validation; empty without them."""
    if not summary.get("mean"):
        return Html("")
    rows = []
    # Cross-validations of earlier versions have a mean that is not in the table, and no folds without a value.
    for name in (one for one in TITLES if one in summary["mean"]):
        mean, folds = summary["mean"][name], summary.get("undefined_folds", {}).get(name, [])
        without = ", ".join(map(str, folds)) if folds else ""
        rows.append((TITLES[name], number(mean), number(summary["deviation"][name], 2), without))
    header = ("measure", "mean", "standard deviation", "undefined in folds")
    return table("The criteria over the folds", header, rows, words=(3,))


def limits(interval: Sequence[float] | None, sign: str = "") -> str:
    """Return an interval as text."""
    return NOTHING if interval is None else f"{interval[0]:{sign}.3f} to {interval[1]:{sign}.3f}"


def class_scores(test: Record, names: Sequence[str]) -> Html:
    """Return the table of F1 and of the areas of each class; empty for a test without areas."""
    if "pr_auc" not in test:
        return Html("")
    header, columns = ["class"], []
    for name, title in CLASS_SCORES.items():
        header += [title, "95 % interval"]
        columns.append((test[name], test["intervals"].get(name) or [None] * len(names)))
    rows = []
    for label, class_ in enumerate(names[:MOST_ROWS]):
        cells = [(number(values[label], 3), limits(intervals[label])) for values, intervals in columns]
        rows.append([class_name(class_), *(cell for pair in cells for cell in pair)])
    caption = "F1, and areas under the curves of each class against the rest"
    return table(caption, header, rows, tall=len(rows) > 30)


def comparisons(files: RunFiles) -> Html:
    """Return the comparisons with other classifiers on the same test samples."""
    records = [] if files.summary is None else files.summary.get("compared", [])
    return join(*(_comparison(record) for record in records))


def _comparison(record: Record) -> Html:
    other = "ridge regression on the same states" if record["with"] == RIDGE else record["with"]
    rows = [
        (TITLES[name], number(record["other"][name]), f"{one['value']:+.3f}", limits(one["interval"], "+"))
        for name, one in record["differences"].items()
        if one["value"] is not None
    ]
    text = (
        f"{record['only_model']:,} samples are recognised by the model only, {record['only_other']:,} by the other "
        f"only: {verdict(record)} (exact test of McNemar, p = {number(record['p_value'], 2)})."
    )
    caption = f"The model minus {other}, on the same {record['samples']:,} samples"
    return join(table(caption, ("measure", "the other", "difference", "95 % interval"), rows), paragraph(text))

"""Figures of a comparison over the work of its cells: convergence of the searches, and utilisation over time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

from rcdp_hpc.comparison.report.files import ComparisonFiles
from rcdp_hpc.comparison.report.tables import Group, group_title, summaries_of
from rcdp_hpc.comparison.results import CellTiming, Comparison
from rcdp_hpc.comparison.tables import groups
from rcdp_hpc.evaluation.report.charts import Line, line_chart, side_by_side
from rcdp_hpc.evaluation.report.html import Html, join, paragraph, percent, table, tag
from rcdp_hpc.evaluation.report.text import counted

# A line of utilisation has this many points.
POINTS = 100


def convergence(files: ComparisonFiles, comparison: Comparison) -> Html:
    """Return the accuracy of the best candidate so far over the evaluations, a line for each method that searches."""
    parts = []
    for group in groups(comparison):
        lines = []
        for one in summaries_of(comparison, group):
            cells = [cell for cell in files.cells_of(one.method, *group) if cell.done]
            curves = [curve for cell in cells if (curve := best_accuracy_so_far(files.cell(cell.name).complete))]
            if curves:
                shortest = min(map(len, curves))
                mean = np.mean([curve[:shortest] for curve in curves], axis=0)
                lines.append(Line(one.method, list(range(1, shortest + 1)), (100 * mean).tolist()))
        if not lines:
            continue
        best = max(lines, key=lambda line: -math.inf if line.y[-1] is None else line.y[-1])
        fact = f"Convergence of the searches: {best.name} ends with the highest accuracy on the rows that choose, "
        fact += f"{best.y[-1]:.2f} %."
        caption = "Accuracy of the best candidate so far on the rows that choose, mean of the cells. "
        caption += f"{group_title(comparison, group)}."
        parts.append(line_chart(fact, caption, "candidates", "accuracy (%)", lines))
    if not parts:
        return paragraph("No method has a search whose history has accuracies.", class_="note")
    return side_by_side(*parts)


def best_accuracy_so_far(history: Sequence[dict[str, object]]) -> list[float]:
    """Return the accuracy of the candidate with the best fitness so far, after each candidate; empty if unknown.

    Parameters
    ----------
    history : sequence of dict
        Lines of ``history.jsonl`` that were evaluated on all rows. Until the first success, the accuracy is NaN.
    """
    best, accuracy, curve = -math.inf, math.nan, []
    for line in history:
        fitness, measured = line.get("fitness"), line.get("accuracy")
        if isinstance(fitness, int | float) and isinstance(measured, int | float) and fitness > best:
            best, accuracy = fitness, float(measured)
        curve.append(accuracy)
    return curve if math.isfinite(accuracy) else []


def utilisation(files: ComparisonFiles, comparison: Comparison) -> Html:
    """Return the use of the processor over the time of a cell, by method, and its mean and deviation."""
    if files.timings is None:
        return paragraph("The times cannot be read.", class_="problem")
    parts = []
    for group in groups(comparison):
        timed = {
            one.method: [files.timings.cells[cell.name] for cell in files.cells_of(one.method, *group)
                         if cell.name in files.timings.cells and files.timings.cells[cell.name].utilisation]
            for one in summaries_of(comparison, group)
        }  # fmt: skip
        parts += _utilisation_of({name: cells for name, cells in timed.items() if cells}, group, comparison)
    return join(*parts) if parts else paragraph("No utilisation is recorded.", class_="note")


def _utilisation_of(timed: dict[str, list[CellTiming]], group: Group, comparison: Comparison) -> list[Html]:
    if not timed:
        return []
    share = [100 * place / (POINTS - 1) for place in range(POINTS)]
    lines = [Line(name, share, _over_time(cells)) for name, cells in timed.items()]
    means = {name: statistics.fmean(cell.utilisation["mean"] for cell in cells) for name, cells in timed.items()}
    low, high = min(means, key=lambda name: means[name]), max(means, key=lambda name: means[name])
    fact = f"Utilisation of the processor over the time of a cell: {high} has the highest mean, {means[high]:.0f} %, "
    fact += f"{low} the lowest, {means[low]:.0f} %."
    caption = (
        "Use of the processor over the time of a cell, from its start to its end, mean of the cells; 100 % is one "
    )
    caption += f"core of each rank. {group_title(comparison, group)}."
    chart = line_chart(fact, caption, "% of the time of a cell", "% of a core", lines, zero=True, whole_x=False)
    rows = [
        (name, counted(len(cells), "cell"), f"{means[name]:.0f} %",
         percent(statistics.fmean(cell.utilisation["deviation"] for cell in cells) / 100, 0))
        for name, cells in timed.items()
    ]  # fmt: skip
    header = ("method", "cells", "mean", "deviation over time")
    return [tag("h3", group_title(comparison, group)), side_by_side(chart), table("Use of the processor", header, rows)]


def _over_time(cells: Sequence[CellTiming]) -> list[float | None]:
    """Return the mean of the cells' curves, each stretched to the same number of points."""
    curves = [cell.utilisation["over_time"] for cell in cells if cell.utilisation.get("over_time")]
    if not curves:
        return [None] * POINTS
    places = np.linspace(0, 1, POINTS)
    stretched = [np.interp(places, np.linspace(0, 1, len(curve)), curve) for curve in curves]
    return [float(value) for value in np.mean(stretched, axis=0)]
